"""What time does to approvals: requests expire, those who decide are reminded once, exceptions end."""

from __future__ import annotations

import datetime as dt
import logging
import uuid
from collections.abc import Callable, Iterable
from typing import Final

from clusters.endpoints.approvals.decisions import approval_expire
from clusters.endpoints.approvals.telling import tell_asked
from clusters.endpoints.policy.exceptions import WARN_BEFORE, exception_enforce, exception_warn
from clusters.endpoints.wishes import tenant_for_update
from clusters.models import ApprovalRequest, PolicyException
from tenants import scope

log = logging.getLogger(__name__)

MOST_AT_ONCE: Final = 500
#: Reminded is when so little is left, or a quarter of the time where that is less.
REMIND_BEFORE: Final = dt.timedelta(hours=24)

_Rows = Iterable[tuple[uuid.UUID, uuid.UUID]]


def approvals_sweep(*, now: dt.datetime) -> int:
    """Do what is due for requests and exceptions; give how many that were."""
    with scope.platform("find requests and exceptions whose time has come"):
        pending = ApprovalRequest.objects.pending().order_by("expires_at")
        over = list(pending.filter(expires_at__lte=now).values_list("tenant_id", "id")[:MOST_AT_ONCE])
        soon = pending.filter(expires_at__gt=now, expires_at__lte=now + REMIND_BEFORE, reminded_at=None)
        remind = [
            (request.tenant_id, request.id)
            for request in soon[:MOST_AT_ONCE]
            if request.expires_at - now <= (request.expires_at - request.created_at) / 4
        ]
        exceptions = PolicyException.objects.filter(enforced_at=None).order_by("ends_at")
        ended = list(exceptions.filter(ends_at__lte=now).values_list("tenant_id", "id")[:MOST_AT_ONCE])
        ending = exceptions.filter(ends_at__gt=now, ends_at__lte=now + WARN_BEFORE, warned_at=None)
        warn = list(ending.values_list("tenant_id", "id")[:MOST_AT_ONCE])
    return (
        _each(over, lambda id: _expire(id, now))
        + _each(remind, lambda id: _remind(id, now))
        + _each(ended, lambda id: _end(id, now))
        + _each(warn, lambda id: _warn(id, now))
    )


def _each(rows: _Rows, act: Callable[[uuid.UUID], bool]) -> int:
    """Do something for each row in a transaction of its own: what fails for one holds up nobody."""
    done = 0
    for tenant_id, row_id in rows:
        try:
            with scope.tenant(tenant_id):
                tenant_for_update()
                done += act(row_id)
        except Exception:
            log.exception("what is due of approval or exception %s was not done", row_id)
    return done


def _expire(request_id: uuid.UUID, now: dt.datetime) -> bool:
    request = _pending(request_id)
    if request is None or request.expires_at > now:
        return False
    approval_expire(request, now=now)
    return True


def _remind(request_id: uuid.UUID, now: dt.datetime) -> bool:
    request = _pending(request_id)
    if request is None or request.reminded_at is not None:
        return False
    tell_asked(request, now=now, again="Expires soon")
    request.reminded_at = now
    request.save(update_fields=["reminded_at"])
    return True


def _pending(request_id: uuid.UUID) -> ApprovalRequest | None:
    rows = ApprovalRequest.objects.pending().select_related("endpoint", "asked_by")
    return rows.select_for_update(of=("self",)).filter(id=request_id).first()


def _end(exception_id: uuid.UUID, now: dt.datetime) -> bool:
    exception = PolicyException.objects.select_for_update().filter(id=exception_id, enforced_at=None).first()
    if exception is None:
        return False
    exception_enforce(exception, now=now)
    return True


def _warn(exception_id: uuid.UUID, now: dt.datetime) -> bool:
    exception = PolicyException.objects.select_for_update().filter(id=exception_id, warned_at=None).first()
    if exception is None:
        return False
    exception_warn(exception, now=now)
    return True
