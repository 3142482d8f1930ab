"""Which of the estate a person of the platform reaches: operators may answer for some clusters alone.

The doors open a remit (:func:`within`) for as long as they answer; whatever they look up of the estate by name or id
they take from here. What is out of reach is as if it were not there.
"""

from __future__ import annotations

import contextlib
import contextvars
import uuid
from collections.abc import Iterator

from django.db.models import Exists, OuterRef, Q, QuerySet

from clusters.inventory.capacity import PoolCapacity, capacities
from clusters.models import (
    Cluster,
    Endpoint,
    Gateway,
    Node,
    NodePool,
    OperatorCluster,
    Region,
    Revision,
    Saving,
)
from tenants.api.caller import Operator
from tenants.errors import Invalid
from tenants.models import PlatformRole, Tenant, User


class RemitError(RuntimeError):
    """The estate was asked for as a person of the platform sees it, and no door said who asks."""


_operator: contextvars.ContextVar[Operator | None] = contextvars.ContextVar("berth_remit", default=None)


def operator_of(user: User) -> Operator | None:
    """Give a person as they act for the platform; None: they do not."""
    role = user.acts_as
    if not role:
        return None
    rows = OperatorCluster.objects.filter(user=user).values_list("cluster_id", "cluster__name")
    return Operator(
        principal=str(user.id),
        actor=f"{role} {user.email}",
        user=user,
        role=role,
        clusters=(dict(rows) or None) if role == PlatformRole.OPERATOR else None,
    )


@contextlib.contextmanager
def within(operator: Operator) -> Iterator[None]:
    """Answer ``operator`` for the length of the block."""
    token = _operator.set(operator)
    try:
        yield
    finally:
        _operator.reset(token)


def _ids() -> frozenset[uuid.UUID] | None:
    operator = _operator.get()
    if operator is None:
        raise RemitError("Open a remit first: clusters.inventory.remit.within(operator).")
    return None if operator.clusters is None else frozenset(operator.clusters)


def is_narrowed() -> bool:
    """Say whether the person answers for some clusters alone."""
    return _ids() is not None


def names() -> frozenset[str] | None:
    """Give the names of the clusters in reach; None: of every one, removed ones too."""
    operator = _operator.get()
    return None if _ids() is None else frozenset(operator.clusters.values())


def holds(cluster_id: uuid.UUID) -> bool:
    """Say whether a cluster is in reach."""
    ids = _ids()
    return ids is None or cluster_id in ids


def _narrowed(rows: QuerySet, path: str) -> QuerySet:
    ids = _ids()
    return rows if ids is None else rows.filter(**{f"{path}__in": ids})


def clusters(*, ever: bool = False) -> QuerySet[Cluster]:
    """Give the clusters that were not taken away; ``ever``: those too that were."""
    return _narrowed(Cluster.objects.all() if ever else Cluster.objects.present(), "id")


def pools() -> QuerySet[NodePool]:
    """Give their pools."""
    return _narrowed(NodePool.objects.all(), "cluster")


def nodes() -> QuerySet[Node]:
    """Give the nodes of their pools."""
    return _narrowed(Node.objects.all(), "pool__cluster")


def pool_capacities() -> list[PoolCapacity]:
    """Read the capacity of their pools."""
    return capacities(pool_ids=pools().values_list("id", flat=True) if is_narrowed() else None)


def gateways() -> QuerySet[Gateway]:
    """Give the gateways that run on them; in reach of every cluster also those that others run."""
    return _narrowed(Gateway.objects.all(), "cluster")


def regions() -> QuerySet[Region]:
    """Give the regions in which they stand."""
    ids = _ids()
    return Region.objects.all() if ids is None else Region.objects.filter(clusters__in=ids).distinct()


def check_target(cluster: Cluster | None) -> None:
    """Refuse to let Berth choose a cluster where it might choose one that is out of reach.

    Raises:
        Invalid: no cluster was named.
    """
    if cluster is None and is_narrowed():
        text = f"Name the cluster, one of {', '.join(sorted(names() or ()))}: you answer for no other."
        raise Invalid(text, errors={"cluster": [text]})


def revisions() -> QuerySet[Revision]:
    """Give the revisions that were placed on them."""
    return _narrowed(Revision.objects.all(), "cluster")


def endpoints(rows: QuerySet[Endpoint] | None = None) -> QuerySet[Endpoint]:
    """Narrow to the endpoints of which anything is on them, or that are to run there and nowhere else."""
    rows = Endpoint.objects.all() if rows is None else rows
    ids = _ids()
    if ids is None:
        return rows
    there = Revision.objects.filter(endpoint=OuterRef("pk"), cluster__in=ids, cleaned_at=None)
    return rows.filter(Q(cluster__in=ids) | Q(Exists(there)))


def savings() -> QuerySet[Saving]:
    """Give what was found to be saved at those endpoints."""
    rows = Saving.objects.all()
    return rows.filter(endpoint__in=endpoints().values("id")) if is_narrowed() else rows


def tenants() -> QuerySet[Tenant]:
    """Give the tenants of which anything ran on them, ever."""
    rows = Tenant.objects.all()
    return rows.filter(id__in=revisions().values("tenant")) if is_narrowed() else rows
