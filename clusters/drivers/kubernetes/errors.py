"""From a cluster's answers to the driver's two: try later, or give up."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from clusters.drivers.base import Away, GiveUp, TryLater
from clusters.drivers.kubernetes.troubles import cut, redacted
from clusters.kube import errors
from clusters.kube.errors import Fault

AWAY_S = 10.0
BUSY_S = 2.0
LOCKED_OUT_S = 30.0
SLOWEST_S = 60.0
# No request comes through as long as these last; others befall one request, for instance by a webhook that hangs.
_FOR_ALL = frozenset(
    (
        *(Fault.REFUSED, Fault.DNS, Fault.TIMEOUT, Fault.NO_ROUTE, Fault.PROXY, Fault.ADDRESS),
        *(Fault.TLS, Fault.TLS_UNKNOWN_CA, Fault.TLS_HOST_NAME, Fault.TLS_EXPIRED),
    )
)


@contextlib.contextmanager
def translated(*, may_give_up: bool = True) -> Iterator[None]:
    """Raise what the cluster answers as TryLater or GiveUp, the cause chained.

    Where the caller must not give up, as there is nothing that another order could change, it is TryLater.
    """
    try:
        yield
    except errors.KubeError as error:
        told = _told(error)
        if isinstance(told, GiveUp) and not may_give_up:
            told = TryLater(str(told), delay=LOCKED_OUT_S)
        raise told from error


def is_ending(error: errors.KubeError) -> bool:
    """Whether a write was refused only because its namespace is on its way out."""
    return "being terminated" in error.message or "is terminating" in error.message


def _told(error: errors.KubeError) -> TryLater | GiveUp:
    says = cut(redacted(error.message))
    if isinstance(error, errors.Unreachable):
        if error.fault in _FOR_ALL:
            return Away(f"The cluster cannot be reached: {says}", delay=AWAY_S)
        return TryLater(f"The cluster did not answer this request: {says}", delay=AWAY_S)
    if isinstance(error, errors.TooManyRequests):
        delay = min(max(error.retry_after, BUSY_S), SLOWEST_S)
        return TryLater(f"The cluster is busy: {says}", delay=delay)
    if isinstance(error, errors.Unauthorized):
        return TryLater(
            f"The cluster does not accept its credentials any more: {says}. Give it new ones.",
            delay=LOCKED_OUT_S,
        )
    if isinstance(error, errors.Conflict | errors.Gone):
        return TryLater(f"The cluster changed meanwhile: {says}", delay=BUSY_S)
    if isinstance(error, errors.ServerTrouble) or error.status >= 500:
        return TryLater(f"The cluster could not do it now: {says}", delay=AWAY_S)
    if is_ending(error):
        return TryLater(f"Its namespace is still being removed: {says}", delay=BUSY_S)
    if isinstance(error, errors.Forbidden):
        return _forbidden(error, says)
    if isinstance(error, errors.NotFound):
        return TryLater(f"The cluster lacks what this needs at the moment: {says}", delay=AWAY_S)
    return GiveUp(f"The cluster refuses it: {says}")


def _forbidden(error: errors.Forbidden, says: str) -> TryLater | GiveUp:
    if error.by_rbac:
        place = f" in the namespace {error.namespace}" if error.namespace else " in the whole cluster"
        group = f" of {error.group}" if error.group else ""
        return GiveUp(
            f"Berth may not {error.verb} {error.resource}{group}{place} there. Its administrator grants it"
            f" by applying deploy/cluster again. ({says})"
        )
    if "exceeded quota" in error.message:
        return GiveUp(f"The namespace's quota does not suffice: {says}")
    return GiveUp(f"The cluster's admission refuses it: {says}")
