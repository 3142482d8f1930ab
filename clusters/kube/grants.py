"""What Berth needs to be allowed in a cluster, as data: checked at registration, compared with what is shipped."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Iterable

from clusters.kube import kinds
from clusters.kube.kinds import Kind


class Mode(enum.StrEnum):
    """How a cluster lets Berth in."""

    CLUSTER = "cluster"  # a ClusterRole; admission policies confine what it writes
    NAMESPACES = "namespaces"  # Roles in namespaces that the cluster's administrator made


class Place(enum.StrEnum):
    """Where a permission is to hold."""

    EVERYWHERE = "everywhere"
    NAMESPACE = "namespace"  # in each of the namespaces made for Berth
    OWN = "own"  # in the namespace of Berth's ServiceAccount, for that account alone


@dataclasses.dataclass(frozen=True, kw_only=True)
class Grant:
    """Verbs on one resource (``pods/log`` is one of its own), why, and where.

    ``optional`` ones are needed only where the cluster serves the API.
    """

    group: str
    resource: str
    verbs: tuple[str, ...]
    why: str
    mode: Mode
    place: Place
    optional: bool = False

    @property
    def subresource(self) -> str:
        """What follows the slash of ``resource``."""
        return self.resource.partition("/")[2]

    @property
    def kind(self) -> Kind:
        """The kind that the resource belongs to."""
        plural = self.resource.partition("/")[0]
        return next(kind for kind in kinds.KINDS if (kind.group, kind.plural) == (self.group, plural))


_PODS = ("list", "watch", "delete")
_HAND_OVER = ("create", "patch", "delete")
_KEEP = ("get", "list", "create", "patch", "delete")  # server-side apply is patch, and create for what is new
_FOLLOW = ("get", "list", "watch", "create", "patch", "delete")

_Row = tuple[Kind, str, tuple[str, ...], tuple[str, ...], str]

_ROWS: tuple[_Row, ...] = (
    # kind, subresource, verbs everywhere, verbs in given namespaces, why
    (kinds.NODE, "", ("get", "list", "watch"), (), "read GPUs, their faults, and whether a pod's node is still there"),
    (kinds.POD, "", _PODS, _PODS, "see replicas and GPUs held; strike out pods of lost nodes"),
    (kinds.POD, "log", ("get",), ("get",), "show an engine's own log, and why a job failed"),
    (kinds.NAMESPACE, "", _KEEP, ("get",), "one namespace for each project, made and removed with it"),
    (kinds.RESOURCE_QUOTA, "", ("get", "list", "create", "patch"), _KEEP, "bound a project's GPUs"),
    (kinds.LIMIT_RANGE, "", ("get", "list", "create", "patch"), _KEEP, "bound a project's containers"),
    (kinds.NETWORK_POLICY, "", _KEEP, _KEEP, "deny traffic but to the engines, from the gateway and Prometheus"),
    (kinds.SERVICE_ACCOUNT, "", _KEEP, _KEEP, "run engines as an account without permissions or token"),
    (kinds.CONFIG_MAP, "", _KEEP, _KEEP, "hold model repositories"),
    (kinds.SECRET, "", _HAND_OVER, _HAND_OVER, "hand a job the key to the weights; never read or listed"),
    (kinds.PVC, "", _KEEP, _KEEP, "keep weights and built engines"),
    (kinds.SERVICE, "", _KEEP, _KEEP, "reach engines and gateways by name"),
    (kinds.DEPLOYMENT, "", _FOLLOW, _FOLLOW, "run engines"),
    (kinds.STATEFUL_SET, "", _FOLLOW, _FOLLOW, "run gateways"),
    (kinds.JOB, "", _FOLLOW, _FOLLOW, "fetch weights, quantize and build engines"),
    (kinds.PDB, "", _KEEP, _KEEP, "keep replicas through drains of nodes"),
    (kinds.HPA, "", _KEEP, _KEEP, "scale engines where that is chosen"),
    (kinds.LEADER_WORKER_SET, "", _FOLLOW, _FOLLOW, "run engines that span nodes"),
    (kinds.SERVICE_MONITOR, "", _KEEP, _KEEP, "have engines and gateways scraped"),
    (kinds.SCALED_OBJECT, "", _KEEP, _KEEP, "scale engines by KEDA where that is chosen"),
    (kinds.RESOURCE_CLAIM_TEMPLATE, "", _KEEP, _KEEP, "claim GPUs by dynamic resource allocation"),
)  # fmt: skip

GRANTS: tuple[Grant, ...] = tuple(
    Grant(
        group=kind.group,
        resource=f"{kind.plural}/{subresource}" if subresource else kind.plural,
        verbs=verbs,
        why=why,
        mode=mode,
        place=Place.EVERYWHERE if mode is Mode.CLUSTER else Place.NAMESPACE,
        optional=kind in kinds.OPTIONAL,
    )
    for kind, subresource, everywhere, given, why in _ROWS
    for mode, verbs in ((Mode.CLUSTER, everywhere), (Mode.NAMESPACES, given))
    if verbs
) + tuple(
    Grant(
        group="",
        resource="serviceaccounts/token",
        verbs=("create",),
        why="renew its own token before it ends",
        mode=mode,
        place=Place.OWN,
    )
    for mode in Mode
)
"""Everything that Berth uses. Reviews of oneself (authentication.k8s.io, authorization.k8s.io) are not in it: every
authenticated user has them by Kubernetes' own ``system:basic-user``."""


def needed(mode: Mode, served: Iterable[Kind] = kinds.OPTIONAL) -> tuple[Grant, ...]:
    """Give what one mode needs in a cluster that serves these optional kinds."""
    there = set(served)
    return tuple(
        grant for grant in GRANTS if grant.mode is mode and (not grant.optional or grant.kind in there)
    )
