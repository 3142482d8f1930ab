"""What the steps of one pass share."""

from __future__ import annotations

import dataclasses
import uuid

from clusters.drivers.base import DeploymentSpec, TryLater
from clusters.models import Endpoint, Revision, Wanted
from tenants import scope


@dataclasses.dataclass
class Work:
    """One pass over one endpoint: the rows as loaded, and what the steps found out.

    ``current`` is the revision that is wanted, ``leftovers`` those that are not but may still be on a cluster.
    ``away`` is set when a cluster could not be reached. ``look_again`` is in seconds.
    """

    endpoint: Endpoint
    current: Revision | None
    leftovers: list[Revision]
    away: TryLater | None = None
    refused: str = ""
    look_again: float | None = None

    @property
    def running_wanted(self) -> bool:
        return self.endpoint.wanted == Wanted.RUNNING

    def soon(self, seconds: float) -> None:
        """Look again within ``seconds``."""
        self.look_again = seconds if self.look_again is None else min(self.look_again, seconds)

    def unreachable(self, error: TryLater) -> None:
        """Remember that a cluster is away."""
        self.away = error
        self.soon(error.delay)


def load(endpoint_id: uuid.UUID | str) -> Work | None:
    """Read the endpoint and its revisions; None when it is gone."""
    with scope.platform("find the tenant of an endpoint to reconcile"):
        endpoint = (
            Endpoint.objects.live()
            .select_related("tenant", "project", "model", "slo_class")
            .filter(id=endpoint_id)
            .first()
        )
        if endpoint is None:
            return None
        revisions = list(
            Revision.objects.select_related("cluster__region", "pool").filter(
                endpoint=endpoint, cleaned_at=None
            )
        )
    return Work(
        endpoint=endpoint,
        current=next((revision for revision in revisions if revision.retired_at is None), None),
        leftovers=[revision for revision in revisions if revision.retired_at is not None],
    )


def spec_of(endpoint: Endpoint, revision: Revision) -> DeploymentSpec:
    """Give what the cluster is to run for a revision."""
    return DeploymentSpec(
        name=revision.deployment,
        labels={
            "tenant": str(endpoint.tenant_id),
            "endpoint": str(endpoint.id),
            "revision": str(revision.id),
        },
        runtime=revision.runtime,
        model=endpoint.model.name,
        replicas=revision.replicas,
        gpu_type=revision.gpu_type,
        gpus_per_replica=revision.gpus_per_replica,
        context_tokens=revision.context_tokens,
        max_output_tokens=revision.context_tokens - 1,
        max_batch_size=revision.max_batch_size,
    )
