"""What endpoints may be asked a minute, who takes their requests when they are full, and who may call them.

Gateways hear of a change within a second; nothing of it is a matter for the reconciler.
"""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Final

from django.db import transaction
from django.utils import timezone

from billing.sharing import shared_close, shared_open
from clusters.endpoints.history import record
from clusters.endpoints.wishes import bump, for_update
from clusters.models import Endpoint, OnOverload, Region, Revision
from clusters.planning.residency import residency_allows
from tenants import narrowing, scope
from tenants.errors import Invalid
from tenants.limits import RATES
from tenants.validation import clean

MOST_FALLBACKS: Final = 5


@dataclasses.dataclass(frozen=True, kw_only=True)
class Fallback:
    """An endpoint that takes another's requests. ``note`` says why it does not, or not now; ``hopeless``: never.

    ``name`` is empty where it is gone.
    """

    id: uuid.UUID
    name: str
    note: str = ""
    hopeless: bool = False


@transaction.atomic
def endpoint_limits_set(
    *,
    endpoint: Endpoint,
    actor: str,
    limits: Mapping[str, int | None] | None = None,
    fallbacks: Sequence[uuid.UUID] | None = None,
    if_generation: int | None = None,
) -> Endpoint:
    """Limit what an endpoint may be asked a minute, and name the endpoints that take its requests, in order.

    ``limits`` has what of :data:`tenants.limits.RATES` is to change, None lifting one. ``fallbacks`` None leaves them.

    Raises:
        Invalid: a limit is out of bounds; a fallback is not the tenant's, named twice, or the endpoint itself.
        Conflict: the endpoint is being deleted.
    """
    endpoint = for_update(endpoint, if_generation)
    wishes: dict[str, object] = dict(limits or {})
    if fallbacks is not None:
        # One that was named before and has gone since is no mistake of today's.
        check_fallbacks(endpoint, fallbacks, known=frozenset(endpoint.fallbacks))
        wishes["fallbacks"] = list(fallbacks)
    changed = [field for field, wish in wishes.items() if wish != getattr(endpoint, field)]
    for field in changed:
        setattr(endpoint, field, wishes[field])
    if changed:
        clean(endpoint)
        bump(endpoint, *changed)
        record(endpoint, "limits", _told(endpoint, changed), actor=actor)
    return endpoint


@transaction.atomic
def endpoint_share(
    *, endpoint: Endpoint, shared: bool, actor: str, if_generation: int | None = None
) -> Endpoint:
    """Publish an endpoint to every tenant, or take it back; for operators.

    Raises:
        Invalid: another shared endpoint has its name.
        Conflict: the endpoint is being deleted.
    """
    endpoint = for_update(endpoint, if_generation)
    if endpoint.shared != shared:
        if shared:
            _refuse_shared_name(endpoint)
        endpoint.shared = shared
        bump(endpoint, "shared")
        _keep_period(endpoint)
        told = "Published to all tenants." if shared else "No longer published to other tenants."
        record(endpoint, "shared", told, actor=actor)
    return endpoint


def _keep_period(endpoint: Endpoint) -> None:
    now = timezone.now()
    if not endpoint.shared:
        shared_close(endpoint_id=endpoint.id, ended_at=now)
        return
    shared_open(
        owner_id=endpoint.tenant_id,
        endpoint_id=endpoint.id,
        name=endpoint.name,
        model=endpoint.model.name,
        slo_class=endpoint.slo_class.name,
        started_at=now,
    )


def _refuse_shared_name(endpoint: Endpoint) -> None:
    with scope.platform("look whether another tenant's shared endpoint has this name"):
        others = Endpoint.objects.live().filter(shared=True, name__iexact=endpoint.name)
        if not others.exclude(id=endpoint.id).exists():
            return
    text = f"A shared endpoint called {endpoint.name} exists already."
    raise Invalid(text, errors={"name": [text]})


def check_fallbacks(
    endpoint: Endpoint, fallbacks: Sequence[uuid.UUID], *, known: Collection[uuid.UUID] = ()
) -> None:
    """Check the endpoints that are to take another's requests; ``known`` ones need not be there any more.

    Raises:
        Invalid: one is unknown, named twice, or the endpoint itself, or they are too many.
    """
    text = ""
    there = (
        set(
            narrowing.within(Endpoint.objects.live(), "project")
            .filter(id__in=fallbacks)
            .values_list("id", flat=True)
        )
        if fallbacks
        else set()
    )
    missing = [each for each in fallbacks if each not in there and each not in known]
    if endpoint.id in fallbacks:
        text = "An endpoint cannot be its own fallback."
    elif len(set(fallbacks)) < len(fallbacks):
        text = "Name each fallback once."
    elif len(fallbacks) > MOST_FALLBACKS:
        text = f"At most {MOST_FALLBACKS} fallbacks are tried."
    elif missing:
        text = f"There is no endpoint {missing[0]}."
    if text:
        raise Invalid(text, errors={"fallbacks": [text]})


def endpoint_fallbacks(endpoint: Endpoint) -> list[Fallback]:
    """Give the fallbacks of an endpoint in order, each with why it does not take requests; at most 3 queries."""
    if not endpoint.fallbacks:
        return []
    found = {each.id: each for each in Endpoint.objects.live().filter(id__in=endpoint.fallbacks)}
    regions = list(Region.objects.all())
    current = Revision.objects.filter(endpoint__in=endpoint.fallbacks, retired_at=None).order_by("number")
    placed = {each.endpoint_id: each.cluster.region for each in current.select_related("cluster__region")}
    return [
        _fallback(each, found.get(each), endpoint.residency, regions, placed.get(each))
        for each in endpoint.fallbacks
    ]


def overload_policy(endpoint: Endpoint) -> str:
    """Say what happens to a request when an endpoint has no room for it, by its class."""
    slo_class = endpoint.slo_class
    waits = f"A request waits at most {slo_class.queue_s:g} s for a replica; then "
    if slo_class.on_overload == OnOverload.FALLBACK:
        if endpoint.fallbacks:
            return waits + "it goes to the fallbacks, in order, and is refused if none has room."
        return waits + "it is refused: no fallback is named."
    if slo_class.on_overload == OnOverload.SHORTEN:
        return (
            f"{waits}it is admitted with at most {slo_class.degraded_context_tokens:,} tokens with its answer, "
            "or refused if it is longer."
        )
    unused = " The class uses no fallbacks." if endpoint.fallbacks else ""
    return f"{waits}it is refused.{unused}"


def _fallback(
    id: uuid.UUID, endpoint: Endpoint | None, residency: str, regions: list[Region], placed: Region | None
) -> Fallback:
    if endpoint is None:
        return Fallback(id=id, name="", note="It is gone and passed over.", hopeless=True)
    both = [each for each in regions if _allows(residency, each) and _allows(endpoint.residency, each)]
    if not both:
        note = (
            f"No region satisfies both {residency} and {endpoint.residency}: it never takes these requests."
        )
        return Fallback(id=id, name=endpoint.name, note=note, hopeless=True)
    if placed is not None and not _allows(residency, placed):
        note = f"It runs in {placed.code} now, which {residency} does not allow: it is passed over."
        return Fallback(id=id, name=endpoint.name, note=note)
    return Fallback(id=id, name=endpoint.name)


def _allows(residency: str, region: Region) -> bool:
    return residency_allows(residency, region.code, frozenset(region.zones))


def _limit(limit: int | None) -> str:
    return "no limit" if limit is None else f"{limit:,}"


def _told(endpoint: Endpoint, changed: Iterable[str]) -> str:
    parts = [
        f"{name.replace('_', ' ')}: {_limit(getattr(endpoint, name))}" for name in RATES if name in changed
    ]
    if "fallbacks" in changed:
        parts.append(f"fallbacks: {len(endpoint.fallbacks) or 'none'}")
    return f"Limits changed, {', '.join(parts)}."
