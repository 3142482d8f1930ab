"""Asking for approval: a wish that trips a rule becomes a request, and what runs goes on as it was."""

from __future__ import annotations

import datetime as dt
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from django.db import transaction
from django.utils import timezone

from clusters.endpoints.approvals.deciding import Asker, who
from clusters.endpoints.approvals.figures import Figures
from clusters.endpoints.approvals.judging import NeedsApproval, Trip
from clusters.endpoints.approvals.telling import tell_asked, tell_decided
from clusters.endpoints.conditions import set_condition
from clusters.endpoints.history import record
from clusters.endpoints.waiting import wait_end
from clusters.errors import ApprovalNeeded
from clusters.models import ApprovalRequest, Condition, Endpoint, EndpointState, Wanted
from tenants.errors import Conflict
from tenants.models import User

What = ApprovalRequest.What

#: Reasons of the condition Approved while it is false.
PENDING: Final = "Pending"
_LONGEST_TITLE: Final = 200


class Requoted(Exception):
    """What was agreed to comes to something else by now: dearer than agreed, or other rules want a say."""

    def __init__(self, figures: Figures, trips: Sequence[Trip]) -> None:
        super().__init__("; ".join(trip.reason for trip in trips))
        self.figures, self.trips = figures, tuple(trips)


def approvable(
    what: str, *, wish: Callable[..., Mapping[str, Any]], title: Callable[..., str]
) -> Callable[[Callable[..., Endpoint]], Callable[..., Endpoint]]:
    """Have a service ask first where its wish trips a rule. ``wish`` and ``title`` are made of its arguments.

    The service raises :class:`NeedsApproval` before it is done; then what it changed is undone, a request is made
    and the endpoint given as it was. With ``granted``, whose approval carries the wish out, it raises
    :class:`Requoted` instead; without ``may_ask`` :class:`~clusters.errors.ApprovalNeeded`. A wish that is carried
    out supersedes one that is pending.
    """

    def wrap(service: Callable[..., Endpoint]) -> Callable[..., Endpoint]:
        @functools.wraps(service)
        def asked(
            *,
            endpoint: Endpoint,
            actor: str,
            asked_by: Asker | User | None = None,
            granted: ApprovalRequest | None = None,
            may_ask: bool = True,
            **wishes: Any,
        ) -> Endpoint:
            with transaction.atomic():
                try:
                    with transaction.atomic():
                        found = service(endpoint=endpoint, actor=actor, granted=granted, **wishes)
                except NeedsApproval as need:
                    if granted is not None:
                        raise Requoted(need.figures, need.trips) from need
                    if not may_ask:
                        raise ApprovalNeeded(
                            f"It needs approval: {need}", rules=[trip.to_document() for trip in need.trips]
                        ) from need
                    found = Endpoint.objects.select_related(
                        "tenant", "project", "model", "slo_class", "cluster"
                    ).get(id=endpoint.id)
                    request_open(
                        what=what,
                        endpoint=found,
                        title=title(endpoint=found, **wishes),
                        wish=wish(endpoint=found, **wishes),
                        figures=need.figures,
                        trips=need.trips,
                        asked_by=asked_by,
                        asked_as=actor,
                    )
                    return found
                if found.generation != endpoint.generation:
                    supersede(found, besides=granted, actor=actor)
                return found

        return asked

    return wrap


def request_open(
    *,
    what: str,
    endpoint: Endpoint | None,
    title: str,
    wish: Mapping[str, Any],
    figures: Figures | None,
    trips: Sequence[Trip],
    asked_by: Asker | User | None,
    asked_as: str,
    tenant_id: Any = None,
    now: dt.datetime | None = None,
) -> ApprovalRequest:
    """Make a request and tell those who may decide. One that was pending for the endpoint gives way to it."""
    now, asker = now or timezone.now(), Asker.of(asked_by)
    if endpoint is not None:
        supersede(endpoint, actor=asked_as, now=now)
    request = ApprovalRequest.objects.create(
        tenant_id=endpoint.tenant_id if endpoint else tenant_id,
        what=what,
        endpoint=endpoint,
        title=title[:_LONGEST_TITLE],
        wish=dict(wish),
        quote=figures.to_document() if figures else {},
        trips=[trip.to_document() for trip in trips],
        asked_by=asker.user,
        behind=sorted(asker.behind),
        asked_as=asked_as[:120],
        generation=endpoint.generation if endpoint else None,
        expires_at=now + valid_for(trips),
    )
    if endpoint is not None:
        record(endpoint, "approval", f"{title} waits for {who(request)}. {reasons(request)}", actor=asked_as)
    tell_asked(request, now=now)
    return request


def hold(
    endpoint: Endpoint,
    need: NeedsApproval,
    *,
    asked_by: Asker | User | None,
    asked_as: str,
    resumed: bool = False,
) -> ApprovalRequest:
    """Have an endpoint that is not placed wait for approval: it holds nothing and is not placed before."""
    request = request_open(
        what=What.RESUME if resumed else What.ORDER,
        endpoint=endpoint,
        title=f"{'Resume' if resumed else 'Order'} {endpoint.name}",
        wish={},
        figures=need.figures,
        trips=need.trips,
        asked_by=asked_by,
        asked_as=asked_as,
    )
    wait_end(endpoint)
    show_held(endpoint, PENDING, held_words(request))
    return request


def held_words(request: ApprovalRequest) -> str:
    """Say what an endpoint waits for that may not be placed yet."""
    return f"Waits for {who(request)} until {request.expires_at:%Y-%m-%d %H:%M} UTC. {reasons(request)}"


def show_held(endpoint: Endpoint, reason: str, message: str) -> None:
    """Show that an endpoint may not be placed, and why."""
    set_condition(endpoint, Condition.Type.APPROVED, Condition.Status.FALSE, reason, message)
    state, told = EndpointState.WAITING_FOR_APPROVAL, message[:300]
    if (endpoint.state, endpoint.state_reason) == (state, told):
        return
    changes: dict[str, Any] = {"state": state, "state_reason": told}
    if endpoint.state != state:
        changes["state_since"] = timezone.now()
    Endpoint.objects.filter(id=endpoint.id).update(**changes)
    for name, value in changes.items():
        setattr(endpoint, name, value)


def is_held(endpoint: Endpoint) -> bool:
    """Say whether an endpoint may not be placed before somebody agrees to it."""
    if endpoint.wanted != Wanted.RUNNING:
        return False
    approved = Condition.objects.filter(endpoint=endpoint, type=Condition.Type.APPROVED)
    return approved.filter(status=Condition.Status.FALSE).exists()


def refuse_held(endpoint: Endpoint) -> None:
    """Refuse to change what waits for approval as it is.

    Raises:
        Conflict: it does.
    """
    if is_held(endpoint):
        raise Conflict(
            f"{endpoint.name} waits for approval as it was ordered. Change it with its request, or delete it."
        )


def let_go(endpoint: Endpoint, reason: str, message: str) -> None:
    """Show that nothing of approval keeps an endpoint from being placed any more; only news is written."""
    if Condition.objects.filter(endpoint=endpoint, type=Condition.Type.APPROVED).exists():
        set_condition(endpoint, Condition.Type.APPROVED, Condition.Status.TRUE, reason, message)
    if endpoint.state == EndpointState.WAITING_FOR_APPROVAL and endpoint.wanted == Wanted.RUNNING:
        endpoint.state, endpoint.state_reason = EndpointState.PROVISIONING, message
        endpoint.state_since = timezone.now()
        endpoint.save(update_fields=["state", "state_reason", "state_since"])


def supersede(
    endpoint: Endpoint,
    *,
    actor: str,
    besides: ApprovalRequest | None = None,
    now: dt.datetime | None = None,
) -> None:
    """Close what is pending for an endpoint: something else was wished for it meanwhile."""
    pending = ApprovalRequest.objects.pending().filter(endpoint=endpoint).exclude(what=What.EXCEPTION)
    if besides is not None:
        pending = pending.exclude(id=besides.id)
    for request in pending.select_for_update():
        close(request, ApprovalRequest.State.SUPERSEDED, decided_as=actor, now=now)


def close(
    request: ApprovalRequest,
    state: str,
    *,
    decided_as: str,
    decided_by: User | None = None,
    via: str = "",
    comment: str = "",
    now: dt.datetime | None = None,
) -> None:
    """Write how a request ended, and tell the asker and the tenant's own systems."""
    request.state, request.decided_at = state, now or timezone.now()
    request.decided_by, request.decided_as, request.decided_via = decided_by, decided_as[:120], via
    request.comment = comment[:500]
    request.save(update_fields=["state", "decided_at", "decided_by", "decided_as", "decided_via", "comment"])
    if request.endpoint is not None:
        said = f" {comment}" if comment else ""
        record(
            request.endpoint,
            "approval",
            f"{request.title}: {request.get_state_display().lower()}.{said}",
            actor=decided_as,
        )
    tell_decided(request)


def reasons(request: ApprovalRequest) -> str:
    """Say why a request needs somebody's agreement."""
    return " ".join(dict.fromkeys(trip["reason"] for trip in request.trips))


def valid_for(trips: Sequence[Trip]) -> dt.timedelta:
    """Give how long a request may be decided upon: as the strictest of its rules says."""
    return dt.timedelta(hours=min(trip.valid_hours for trip in trips))
