"""Deciding upon requests: approve, refuse, change, withdraw. What is approved is carried out at once, or asked anew.

Every decision holds the tenant's lock and then the request: of two who decide at once, one finds it decided.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Any

from django.db import transaction
from django.utils import timezone

from clusters.endpoints.approvals.asking import (
    Requoted,
    close,
    held_words,
    is_held,
    reasons,
    show_held,
    valid_for,
)
from clusters.endpoints.approvals.carrying import carry_out
from clusters.endpoints.approvals.deciding import Decider, missing_parts, parts_for, who
from clusters.endpoints.approvals.figures import price_of
from clusters.endpoints.approvals.rewording import reword
from clusters.endpoints.approvals.telling import tell_asked
from clusters.endpoints.history import record
from clusters.endpoints.wishes import tenant_for_update
from clusters.models import ApprovalRequest, ApprovalSignature
from tenants.errors import Conflict, Forbidden

State = ApprovalRequest.State


@transaction.atomic
def approval_approve(
    *, request: ApprovalRequest, decider: Decider, comment: str = "", round: int | None = None
) -> ApprovalRequest:
    """Agree to a request. Once everybody whose agreement it takes has agreed, it is carried out in the same breath.

    It is planned anew then: where it has become dearer than the quote by more than a tolerance, or other rules want a
    say, it stays pending with a fresh quote, in another ``round``. ``round`` is the one that the decider has seen.

    Raises:
        Forbidden: it is for others to decide, or the decider's own.
        Conflict: it was decided, has expired, or its quote is another one by now.
        Impossible, OverQuota, OverBudget, PolicyRefused: it cannot be carried out; it stays pending.
    """
    request = _held(request, round)
    signed = _sign(request, decider, comment)
    if missing_parts(request):
        _note(
            request,
            f"{decider.actor} agrees; it still takes {who(request, missing_parts(request))}.",
            decider,
        )
        return request
    try:
        with transaction.atomic():
            carry_out(request, decider)
    except Requoted as news:
        signed.delete()
        _requote(request, news, decider)
        return request
    state = State.CHANGED if request.changed else State.APPROVED
    close(
        request,
        state,
        decided_by=decider.user,
        decided_as=decider.actor,
        via=decider.via,
        comment=comment,
    )
    return request


@transaction.atomic
def approval_refuse(
    *, request: ApprovalRequest, decider: Decider, comment: str = "", round: int | None = None
) -> ApprovalRequest:
    """Refuse a request. What runs goes on; an endpoint that was not placed stays so until it is asked for again.

    Raises:
        Forbidden, Conflict: as for approving it.
    """
    request = _held(request, round)
    parts_for(request, decider)
    close(
        request,
        State.REFUSED,
        decided_by=decider.user,
        decided_as=decider.actor,
        via=decider.via,
        comment=comment,
    )
    said = f": {comment}" if comment else "."
    _show_ended(request, "Refused", f"Refused by {decider.actor}{said}")
    return request


@transaction.atomic
def approval_change(
    *,
    request: ApprovalRequest,
    decider: Decider,
    changes: Mapping[str, Any],
    comment: str = "",
    round: int | None = None,
) -> ApprovalRequest:
    """Change what is asked for and agree to it so. The asker is told what was changed.

    ``changes`` are of replicas, residency, slo_class and pins, as far as the wish has them. Where the change makes it
    dearer than what was quoted, it stays pending with a fresh quote, to be agreed to as that: by somebody else where
    the tenant wants four eyes, for whoever made it dearer asks for that.

    Raises:
        Forbidden, Conflict: as for approving it.
        Invalid: that cannot be changed, or to that.
        Impossible, OverQuota, PolicyRefused: it cannot be had so.
    """
    request = _held(request, round)
    parts_for(request, decider)
    before = price_of(request.quote)
    figures, trips = reword(request, changes, actor=decider.actor)
    request.quote, request.trips = (
        figures.to_document(),
        [trip.to_document() for trip in trips] or request.trips,
    )
    request.round += 1
    request.expires_at = timezone.now() + valid_for(trips) if trips else request.expires_at
    request.reminded_at = None
    request.save(update_fields=["wish", "changed", "quote", "trips", "round", "expires_at", "reminded_at"])
    if before is not None and figures.price_per_hour > before:
        _ask_besides(request, decider)
        _note(request, f"{decider.actor} changed it; it is dearer so and waits for {who(request)}.", decider)
        _show_waiting(request)
        tell_asked(request, now=timezone.now(), again="Changed")
        return request
    done = approval_approve(request=request, decider=decider, comment=comment)
    if done.is_pending and done.round == request.round:  # their links are of the round before
        tell_asked(done, now=timezone.now(), again="Changed")
    return done


@transaction.atomic
def approval_withdraw(*, request: ApprovalRequest, decider: Decider) -> ApprovalRequest:
    """Take a request back that one asked for.

    Raises:
        Forbidden: somebody else asked for it.
        Conflict: it was decided, or has expired.
    """
    request = _held(request, None)
    if decider.user is None or request.asked_by_id != decider.user.id:
        raise Forbidden(f"{request.asked_as} asked for it, and alone may withdraw it.")
    close(request, State.WITHDRAWN, decided_by=decider.user, decided_as=decider.actor, via=decider.via)
    _show_ended(request, "Withdrawn", f"{decider.actor} withdrew the request. Ask again, or delete it.")
    return request


def approval_expire(request: ApprovalRequest, *, now: dt.datetime) -> None:
    """Close a request that nobody decided upon in time. Callers hold it and the scope of its tenant."""
    close(request, State.EXPIRED, decided_as="", now=now)
    _show_ended(request, "Expired", "The request expired undecided. Ask again, or delete the endpoint.")


def _held(request: ApprovalRequest, round: int | None) -> ApprovalRequest:
    tenant_for_update()
    held = (
        ApprovalRequest.objects.select_related("endpoint", "asked_by")
        .select_for_update(of=("self",))
        .get(id=request.id)
    )
    if not held.is_pending:
        by = f" by {held.decided_as}" if held.decided_as else ""
        raise Conflict(f"{held.title} is {held.get_state_display().lower()} already{by}.")
    if held.expires_at <= timezone.now():
        raise Conflict(
            f"The request expired {held.expires_at:%Y-%m-%d %H:%M} UTC; it has to be asked for again."
        )
    if round not in (None, held.round):
        raise Conflict(f"The quote of {held.title} has changed meanwhile; look at it again.")
    return held


def _ask_besides(request: ApprovalRequest, decider: Decider) -> None:
    """Count ``decider`` among those who ask for it."""
    if decider.user is not None and decider.user.id not in request.behind:
        request.behind = sorted([*request.behind, decider.user.id])
        request.save(update_fields=["behind"])


def _sign(request: ApprovalRequest, decider: Decider, comment: str) -> Any:
    missing = missing_parts(request)
    wanted = [part for part in parts_for(request, decider) if part in missing]
    if not wanted:
        raise Conflict(f"You agreed to it already; it still takes {who(request, missing)}.")
    made = ApprovalSignature.objects.bulk_create(
        ApprovalSignature(
            tenant_id=request.tenant_id,
            request=request,
            round=request.round,
            part=part,
            by=decider.user,
            signed_as=decider.actor[:120],
            via=decider.via,
            comment=comment[:500],
        )
        for part in wanted
    )
    return ApprovalSignature.objects.filter(id__in=[each.id for each in made])


def _requote(request: ApprovalRequest, news: Requoted, decider: Decider) -> None:
    request.quote = news.figures.to_document()
    request.trips = [trip.to_document() for trip in news.trips]
    request.round += 1
    request.expires_at = timezone.now() + valid_for(news.trips)
    request.reminded_at = None
    request.save(update_fields=["quote", "trips", "round", "expires_at", "reminded_at"])
    quote = request.quote
    _note(
        request,
        f"What it costs has changed to {quote['price_per_hour']} {quote['currency']} per hour, or where it runs: it "
        f"waits for {who(request)} again. {reasons(request)}",
        decider,
    )
    _show_waiting(request)
    tell_asked(request, now=timezone.now(), again="Quote changed")


def _note(request: ApprovalRequest, message: str, decider: Decider) -> None:
    if request.endpoint is not None:
        record(request.endpoint, "approval", f"{request.title}: {message}", actor=decider.actor)


def _show_waiting(request: ApprovalRequest) -> None:
    if request.endpoint is not None and is_held(request.endpoint):
        show_held(request.endpoint, "Pending", held_words(request))


def _show_ended(request: ApprovalRequest, reason: str, message: str) -> None:
    if request.endpoint is not None and is_held(request.endpoint):
        show_held(request.endpoint, reason, message)
