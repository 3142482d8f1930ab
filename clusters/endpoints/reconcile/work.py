"""What the steps of one pass share."""

from __future__ import annotations

import dataclasses
import datetime as dt
import uuid

from clusters.drivers.base import Away, Driver, GiveUp, TryLater
from clusters.endpoints.watch import mark_away
from clusters.inventory.drivers import driver_of
from clusters.models import Cluster, Endpoint, Revision, Rollout, Wanted
from tenants import scope

AWAY_S, UNUSABLE_S = 10.0, 60.0


@dataclasses.dataclass
class Work:
    """One pass over one endpoint: the rows as loaded, and what the steps found out.

    ``current`` is the revision that is wanted, ``predecessors`` serve until it does, ``leftovers`` are wanted no
    more but may still be on a cluster. ``away`` is set when the cluster of one that is wanted could not be
    reached, ``behind`` for a leftover's. ``look_again`` is in seconds. ``rollout`` is the one that is under way.
    """

    now: dt.datetime
    endpoint: Endpoint
    current: Revision | None
    predecessors: list[Revision]
    leftovers: list[Revision]
    rollout: Rollout | None = None
    away: TryLater | None = None
    behind: TryLater | None = None
    refused: str = ""
    look_again: float | None = None

    @property
    def running_wanted(self) -> bool:
        return self.endpoint.wanted == Wanted.RUNNING

    def soon(self, seconds: float) -> None:
        """Look again within ``seconds``."""
        self.look_again = seconds if self.look_again is None else min(self.look_again, seconds)

    def driver(self, revision: Revision) -> Driver:
        """Give the driver of a revision's cluster.

        A cluster that is known to be away is not dialled: its watcher does that, and wakes who waits.

        Raises:
            TryLater: the cluster is away, or its credentials cannot be used.
        """
        cluster = revision.cluster
        if cluster.state == Cluster.State.UNREACHABLE:
            raise TryLater(
                f"Cluster {cluster.name} does not answer: {cluster.state_reason}".rstrip(": "), delay=AWAY_S
            )
        try:
            return driver_of(cluster)
        except GiveUp as error:
            raise TryLater(str(error), delay=UNUSABLE_S) from error

    def lock(self) -> None:
        """Hold the endpoint's row until the open transaction ends: those who wish take it before its revisions."""
        Endpoint.objects.select_for_update(of=("self",)).get(id=self.endpoint.id)

    def unreachable(self, revision: Revision, error: TryLater) -> None:
        """Remember that a revision's cluster is away; where it does not answer at all, for everybody."""
        if revision in self.leftovers:
            self.behind = error
        else:
            self.away = error
        self.soon(error.delay)
        if isinstance(error, Away):
            mark_away(revision.cluster, str(error))
            revision.cluster.state = Cluster.State.UNREACHABLE


def load(endpoint_id: uuid.UUID | str, now: dt.datetime) -> Work | None:
    """Read the endpoint and its revisions; None when it is gone."""
    with scope.platform("find the tenant of an endpoint to reconcile"):
        endpoint = (
            Endpoint.objects.live()
            .select_related("tenant", "project", "model", "slo_class", "cluster")
            .filter(id=endpoint_id)
            .first()
        )
        if endpoint is None:
            return None
        revisions = list(
            Revision.objects.select_related("cluster__region", "pool")
            .filter(endpoint=endpoint, cleaned_at=None)
            .order_by("-number")
        )
        rollout = Rollout.objects.active().filter(endpoint=endpoint).first()
    wanted = [revision for revision in revisions if revision.retired_at is None]
    return Work(
        now=now,
        endpoint=endpoint,
        rollout=rollout,
        current=wanted[0] if wanted else None,
        predecessors=wanted[1:],
        leftovers=[revision for revision in revisions if revision.retired_at is not None],
    )
