"""Gathering the evidence of one endpoint and period into one document, plain enough for canonical JSON."""

from __future__ import annotations

import dataclasses
import datetime as dt
import uuid
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, Final

from django.conf import settings
from django.db.models import Q, Sum

from billing.models import Allocation, Attainment, UsageDay
from clusters.endpoints.evidence.checks import (
    Held,
    certification_check,
    moment,
    policy_check,
    residency_check,
    verdict,
)
from clusters.endpoints.evidence.demand import Demand, demands
from clusters.models import ApprovalRequest, Endpoint, PolicyException, Region, Revision, TenantPolicy
from clusters.planning.residency import residency_allows
from tenants.audit.canonical import entry_hash
from tenants.audit.exporting import export_rows
from tenants.audit.verifying import heads
from tenants.errors import Invalid
from tenants.models import AuditEntry

FORMAT: Final = "berth-evidence/1"
LONGEST: Final = dt.timedelta(days=400)
POLICY_FIELDS: Final = (
    "version", "set_as", "by_platform", "note", "allowed_zones", "home_zone", "certifications", "allowed_models",
    "allowed_licences", "allowed_classes", "floor_zones", "floor_certifications", "four_eyes", "self_approval",
)  # fmt: skip


@dataclasses.dataclass(frozen=True, kw_only=True)
class Period:
    """A half-open period of whole UTC days."""

    first: dt.date
    end: dt.date

    @property
    def since(self) -> dt.datetime:
        return dt.datetime.combine(self.first, dt.time(), dt.UTC)

    @property
    def until(self) -> dt.datetime:
        return dt.datetime.combine(self.end, dt.time(), dt.UTC)


def period_of(first: dt.date, end: dt.date) -> Period:
    """Give the period of the days from ``first`` to before ``end``.

    Raises:
        Invalid: it is empty or too long.
    """
    if not dt.timedelta(0) < end - first <= LONGEST:
        raise Invalid(
            f"The end must come after the beginning, by at most {LONGEST.days} days.",
            errors={"to": [f"Choose a day after the first, at most {LONGEST.days} days on."]},
        )
    return Period(first=first, end=end)


def gather(*, endpoint: Endpoint, period: Period, now: dt.datetime, by: str) -> dict[str, Any]:
    """Give the evidence. The scope of the endpoint's tenant, or the platform's, must be open."""
    until = min(period.until, now)
    revisions = _revisions(endpoint, period.since, until)
    audit = list(_audit(endpoint, revisions))
    demanded = demands(
        endpoint, [each for each in audit if each.target_kind == "endpoint"], period.since, until
    )
    allocations = list(_allocations(endpoint, period.since, until))
    policies = {each.version: each for each in TenantPolicy.objects.filter(tenant=endpoint.tenant_id)}
    exceptions = list(_exceptions(endpoint, period.since, until, revisions))
    usage = _usage(endpoint, period)
    listed = [each for each in audit if period.since <= each.at < until]
    by_id = {revision.id: revision for revision in revisions}
    held = [_held(each, by_id.get(each.revision_id), period.since, until) for each in allocations]
    return {
        "format": FORMAT,
        "software": f"Berth {settings.SOFTWARE_VERSION}",
        "generated_at": moment(now),
        "generated_by": by,
        "period": {"from": moment(period.since), "until": moment(until)},
        "tenant": {"id": str(endpoint.tenant_id), "name": endpoint.tenant.name, "slug": endpoint.tenant.slug},
        "endpoint": _endpoint(endpoint),
        "residency_demanded": [
            {
                "from": moment(each.since),
                "until": moment(each.until),
                "residency": each.residency,
                "certifications": list(each.certifications),
            }
            for each in demanded
        ],
        "policy_in_force": _in_force(policies.values(), period.since, until),
        "placements": [_placement(each, audit) for each in revisions],
        "moves": _moves(revisions, audit),
        "history": [
            {"at": moment(each.created_at), "kind": each.kind, "message": each.message, "actor": each.actor}
            for each in endpoint.events.filter(created_at__gte=period.since, created_at__lt=until).order_by("id")
        ],
        "gpus_held": [_allocation(each, period.since, until) for each in allocations],
        "requests_by_region": usage,
        "exceptions": [_exception(each) for each in exceptions],
        "approvals": [_approval(each) for each in _approvals(endpoint, period.since, until)],
        "slo_attainment": _attainment(endpoint, period),
        "audit": {
            "entries": [
                {"number": each.number, "at": moment(each.at), "action": each.action, "actor": _who(each),
                 "hash": each.hash}
                for each in listed
            ],
            "chain_head": _head(endpoint.tenant_id),
        },
        "checks": [
            residency_check(held, demanded),
            certification_check(held, demanded),
            policy_check(
                (
                    Held(f"revision {each.number}", each.created_at, each.created_at, each.place),
                    policies.get(each.policy_version or 0),
                    [one for one in exceptions if one.id in set(each.policy_exceptions or [])],
                )
                for each in revisions
            ),
            _places_check(allocations, by_id),
            _gateways_check(usage, demanded),
            _audit_check(listed),
        ],
    }  # fmt: skip


def _endpoint(endpoint: Endpoint) -> dict[str, Any]:
    return {
        "id": str(endpoint.id),
        "name": endpoint.name,
        "project": endpoint.project.slug,
        "model": endpoint.model.name,
        "licence": endpoint.model.licence,
        "slo_class": endpoint.slo_class.name,
        "created_at": moment(endpoint.created_at),
        "deleted_at": moment(endpoint.deleted_at),
    }


def _revisions(endpoint: Endpoint, since: dt.datetime, until: dt.datetime) -> list[Revision]:
    """Those that held something within the period, the oldest first."""
    rows = (
        Revision.objects.select_related("cluster__region", "pool")
        .filter(endpoint=endpoint)
        .order_by("number")
    )
    return [
        each
        for each in rows
        if each.created_at < until and not (each.cleaned_at and each.cleaned_at <= since)
    ]


def _audit(endpoint: Endpoint, revisions: Sequence[Revision]) -> Iterable[AuditEntry]:
    about = [str(endpoint.id), *(str(each.id) for each in revisions)]
    about += [
        str(id) for id in ApprovalRequest.objects.filter(endpoint=endpoint).values_list("id", flat=True)
    ]
    about += [
        str(id) for id in PolicyException.objects.filter(endpoint=endpoint).values_list("id", flat=True)
    ]
    rows = AuditEntry.objects.filter(tenant_id=endpoint.tenant_id)
    return rows.filter(Q(target_id__in=about) | Q(facts__endpoint=str(endpoint.id))).order_by("number")


def _allocations(endpoint: Endpoint, since: dt.datetime, until: dt.datetime) -> Iterable[Allocation]:
    rows = Allocation.objects.filter(
        tenant_id=endpoint.tenant_id, endpoint_id=endpoint.id, started_at__lt=until
    )
    return rows.filter(Q(ended_at=None) | Q(ended_at__gt=since)).order_by("started_at", "id")


def _held(each: Allocation, revision: Revision | None, since: dt.datetime, until: dt.datetime) -> Held:
    return Held(
        f"replica {each.replica_id} in cluster {each.cluster}",
        max(each.started_at, since),
        min(each.ended_at or until, until),
        revision.place if revision else None,
    )


def _allocation(each: Allocation, since: dt.datetime, until: dt.datetime) -> dict[str, Any]:
    return {
        "replica": each.replica_id, "revision_id": str(each.revision_id), "cluster": each.cluster,
        "region": each.region, "pool": each.pool, "gpu_type": each.gpu_type, "gpus": each.gpus,
        "from": moment(max(each.started_at, since)), "until": moment(min(each.ended_at or until, until)),
    }  # fmt: skip


def _placement(each: Revision, audit: Sequence[AuditEntry]) -> dict[str, Any]:
    told = _made(each, audit)
    return {
        "revision": each.number,
        "revision_id": str(each.id),
        "cluster": each.cluster.name,
        "pool": each.pool.name,
        "gpu_type": each.gpu_type,
        "place_at_placement": each.place,
        "place_was_kept": each.place is not None,
        "placed_at": moment(each.created_at),
        "applied_at": moment(each.applied_at),
        "retired_at": moment(each.retired_at),
        "cleaned_at": moment(each.cleaned_at),
        "policy_version": each.policy_version,
        "policy_exceptions": [str(id) for id in each.policy_exceptions or []],
        "audit_number": told.number if told else None,
    }


def _moves(revisions: Sequence[Revision], audit: Sequence[AuditEntry]) -> list[dict[str, Any]]:
    found, before = [], None
    for each in revisions:
        here = {"cluster": each.cluster.name, "region": each.cluster.region.code}
        if here != before:
            told = _made(each, audit)
            found.append(
                {
                    "at": moment(each.created_at),
                    "revision": each.number,
                    "from": before,
                    "to": here,
                    "carried_out_by": _who(told) if told else None,
                    "asked_by": _asked(each, audit),
                }
            )
        before = here
    return found


def _made(revision: Revision, audit: Sequence[AuditEntry]) -> AuditEntry | None:
    return next(
        (each for each in audit if each.action == "revision.create" and each.target_id == str(revision.id)),
        None,
    )


def _asked(revision: Revision, audit: Sequence[AuditEntry]) -> str | None:
    """Who last changed what was wanted of the endpoint before the revision was placed."""
    asked = [each for each in audit if each.target_kind == "endpoint" and each.at <= revision.created_at]
    return _who(asked[-1]) if asked else None


def _in_force(
    policies: Iterable[TenantPolicy], since: dt.datetime, until: dt.datetime
) -> list[dict[str, Any]]:
    ordered = sorted(
        (each for each in policies if each.effective_from < until), key=lambda each: each.version
    )
    begun = [each for each in ordered if each.effective_from <= since][-1:]
    within = [each for each in ordered if each.effective_from > since]
    return [
        {"effective_from": moment(each.effective_from)}
        | {name: getattr(each, name) for name in POLICY_FIELDS}
        for each in [*begun, *within]
    ]


def _exceptions(
    endpoint: Endpoint, since: dt.datetime, until: dt.datetime, revisions: Sequence[Revision]
) -> Iterable[PolicyException]:
    used: set[uuid.UUID] = {id for each in revisions for id in each.policy_exceptions or []}
    about = Q(endpoint=endpoint) | Q(endpoint=None, project=None) | Q(project=endpoint.project_id)
    rows = PolicyException.objects.filter(tenant=endpoint.tenant_id)
    return rows.filter(Q(id__in=used) | about & Q(starts_at__lt=until, ends_at__gt=since)).order_by("id")


def _exception(each: PolicyException) -> dict[str, Any]:
    return {
        "id": str(each.id), "restriction": each.restriction, "value": each.value, "reason": each.reason,
        "endpoint_id": str(each.endpoint_id) if each.endpoint_id else None,
        "project_id": str(each.project_id) if each.project_id else None,
        "from": moment(each.starts_at), "until": moment(each.ends_at), "approved_by": each.approved_as,
        "request_id": str(each.request_id), "ended_by": each.ended_as,
    }  # fmt: skip


def _approvals(endpoint: Endpoint, since: dt.datetime, until: dt.datetime) -> Iterable[ApprovalRequest]:
    rows = ApprovalRequest.objects.filter(tenant=endpoint.tenant_id, endpoint=endpoint, created_at__lt=until)
    return (
        rows.filter(Q(decided_at=None) | Q(decided_at__gte=since))
        .prefetch_related("signatures")
        .order_by("id")
    )


def _approval(each: ApprovalRequest) -> dict[str, Any]:
    return {
        "id": str(each.id), "what": each.what, "title": each.title, "asked_by": each.asked_as,
        "asked_at": moment(each.created_at), "state": each.state, "decided_by": each.decided_as,
        "decided_at": moment(each.decided_at), "decided_via": each.decided_via, "comment": each.comment,
        "signed_by": [{"by": one.signed_as, "via": one.via, "at": moment(one.created_at)}
                      for one in each.signatures.all()],
    }  # fmt: skip


def _usage(endpoint: Endpoint, period: Period) -> list[dict[str, Any]]:
    rows = (
        UsageDay.objects.filter(
            tenant_id=endpoint.tenant_id,
            endpoint_id=endpoint.id,
            bucket__gte=period.since,
            bucket__lt=period.until,
        )
        .order_by("bucket", "region", "outcome")
        .values("bucket", "region", "outcome")
        .annotate(count=Sum("requests"), read=Sum("input_tokens"), written=Sum("output_tokens"))
    )
    return [
        {
            "day": f"{row['bucket']:%Y-%m-%d}", "gateway_region": row["region"], "outcome": row["outcome"],
            "requests": row["count"], "input_tokens": row["read"], "output_tokens": row["written"],
        }
        for row in rows
    ]  # fmt: skip


def _attainment(endpoint: Endpoint, period: Period) -> list[dict[str, Any]]:
    rows = Attainment.objects.filter(
        tenant_id=endpoint.tenant_id, endpoint_id=endpoint.id, day__gte=period.first, day__lt=period.end
    ).order_by("day")
    return [
        {
            "day": f"{each.day:%Y-%m-%d}", "slo_class": each.slo_class, "requests": each.requests,
            "failed": each.failed, "availability_target": f"{each.availability:f}",
            "ttft_p95_target_ms": each.ttft_p95_ms, "itl_p95_target_ms": each.itl_p95_ms,
            "hours": each.hours, "hours_ttft_met": each.ttft_met, "hours_itl_met": each.itl_met,
        }
        for each in rows
    ]  # fmt: skip


def _head(tenant_id: uuid.UUID) -> dict[str, Any] | None:
    head = heads().get(str(tenant_id))
    return {"number": head.number, "hash": head.hash} if head else None


def _who(entry: AuditEntry) -> str:
    behalf = f" for {entry.on_behalf}" if entry.on_behalf else ""
    return f"{entry.actor_kind} {entry.actor_name}".strip() + behalf


def _places_check(allocations: Iterable[Allocation], revisions: dict[uuid.UUID, Revision]) -> dict[str, Any]:
    findings, unknown = [], []
    for each in allocations:
        revision = revisions.get(each.revision_id)
        told = {
            "what": f"replica {each.replica_id}",
            "from": moment(each.started_at),
            "until": moment(each.ended_at),
        }
        if revision is None or revision.place is None:
            unknown.append(told | {"why": "what the place was then was not kept"})
        elif each.region != revision.place["region"]:
            findings.append(told | {"why": f"held in {each.region}, placed in {revision.place['region']}"})
    return verdict("places", "GPUs were held where their revision was placed.", findings, unknown)


def _gateways_check(usage: Iterable[dict[str, Any]], demanded: Sequence[Demand]) -> dict[str, Any]:
    zones = dict(Region.objects.values_list("code", "zones"))
    days: dict[tuple[str, str], int] = defaultdict(int)
    for row in usage:
        days[row["day"], row["gateway_region"]] += row["requests"]
    findings = []
    for (day, region), requests in sorted(days.items()):
        start = dt.datetime.fromisoformat(day).replace(tzinfo=dt.UTC)
        held = [each for each in demanded if each.overlaps(start, start + dt.timedelta(days=1))]
        if held and not any(residency_allows(each.residency, region, zones.get(region, [])) for each in held):
            why = f"{requests} requests came in through {region}, which is outside {held[-1].residency}"
            findings.append({"what": f"gateways of {region}", "from": day, "until": day, "why": why})
    return verdict(
        "gateways",
        "Requests came in through gateways within the residency, by the regions' zones of today.",
        findings,
        [],
    )


def _audit_check(listed: Sequence[AuditEntry]) -> dict[str, Any]:
    rows = export_rows(AuditEntry.objects.filter(id__in=[each.id for each in listed]))
    findings = [
        {
            "what": f"audit entry {row[2]}",
            "from": row[4],
            "until": row[4],
            "why": "its hash is not that of what it says",
        }
        for row in rows
        if entry_hash(row[:-1]) != row[-1]
    ]
    return verdict(
        "audit", "The audit's entries that are listed have the hashes of what they say.", findings, []
    )
