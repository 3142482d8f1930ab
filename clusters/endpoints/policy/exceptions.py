"""Exceptions from a tenant's policy: asked for, granted with an end, and what ran under them judged when they end."""

from __future__ import annotations

import datetime as dt
import uuid
from decimal import Decimal, InvalidOperation
from typing import Final

from django.db import transaction
from django.utils import timezone

from clusters.endpoints.approvals.asking import request_open
from clusters.endpoints.approvals.deciding import Asker
from clusters.endpoints.approvals.judging import Trip
from clusters.endpoints.history import record
from clusters.endpoints.policy.in_force import fault_of, policy_in_force
from clusters.endpoints.policy.judging import endpoints_judge, running_endpoints, show_fault
from clusters.endpoints.services import endpoint_pause
from clusters.endpoints.states import POLICY_REFUSED
from clusters.endpoints.wishes import tenant_for_update
from clusters.models import ApprovalRequest, Decides, Endpoint, PolicyException, TenantPolicy
from clusters.models.policies import MOST_EXCEPTION
from tenants import webhooks
from tenants.errors import Conflict, Invalid
from tenants.models import Membership, Project, Role, Tenant, User

#: So long before an exception ends people are told.
WARN_BEFORE: Final = dt.timedelta(days=14)
ENDING: Final = "approval.exception_ending"

_VALID_HOURS: Final = 24 * 7
_Kind = PolicyException.Restriction
_MOST_SPEND: Final = Decimal(10) ** 10  # as a policy's own caps
_SPEND: Final = frozenset({_Kind.SPEND_HOUR, _Kind.SPEND_MONTH})


@transaction.atomic
def exception_ask(
    *,
    restriction: str,
    value: str,
    ends_at: dt.datetime,
    reason: str,
    asked_by: Asker | User | None,
    asked_as: str,
    endpoint: Endpoint | None = None,
    project: Project | None = None,
    now: dt.datetime | None = None,
) -> ApprovalRequest:
    """Ask for an exception from the open tenant's policy, for an endpoint, a project or the whole tenant.

    Raises:
        Invalid: it has no end within 366 days, or excepts from nothing.
        Conflict: there is no policy to except from.
    """
    now = now or timezone.now()
    tenant = tenant_for_update()
    policy = TenantPolicy.objects.filter(tenant=tenant).in_force()
    if policy is None:
        raise Conflict("The tenant has no policy, so everything is allowed already.")
    _check(policy, restriction, value, ends_at, now)
    where = "the tenant"
    if endpoint is not None and project is not None:
        text = "Choose an endpoint or a project, not both."
        raise Invalid(text, errors={"project": [text]})
    if endpoint is not None:
        where = f"endpoint {endpoint.name}"
    elif project is not None:
        where = f"project {project.name}"
    label = _Kind(restriction).label.lower()
    return request_open(
        what=ApprovalRequest.What.EXCEPTION,
        endpoint=None,
        title=f"Except {where} from the policy: {label} {value}",
        wish={
            "restriction": restriction,
            "value": value,
            "endpoint": str(endpoint.id) if endpoint else None,
            "project": str(project.id) if project else None,
            "ends_at": ends_at.isoformat(),
            "reason": reason,
        },
        figures=None,
        trips=[
            Trip(
                rule="exception",
                kind="exception",
                reason=f"{label.capitalize()} {value} for {where} until {ends_at:%Y-%m-%d}: {reason}",
                decides=Decides.ADMIN,
                part=Decides.ADMIN,
                valid_hours=_VALID_HOURS,
            )
        ],
        asked_by=asked_by,
        asked_as=asked_as,
        tenant_id=tenant.id,
        now=now,
    )


def exception_grant(
    *, request: ApprovalRequest, approved_by: User | None, approved_as: str, now: dt.datetime
) -> PolicyException:
    """Let an exception hold that was approved. Callers hold the tenant.

    Raises:
        Conflict: what it is for is gone, or its end is past.
    """
    wish = request.wish
    ends_at = dt.datetime.fromisoformat(wish["ends_at"])
    endpoint = project = None
    if wish["endpoint"]:
        endpoint = Endpoint.objects.live().filter(id=wish["endpoint"]).first()
    if wish["project"]:
        project = Project.objects.filter(id=wish["project"]).first()
    if (wish["endpoint"] and endpoint is None) or (wish["project"] and project is None):
        raise Conflict("What the exception is for is gone.")
    if ends_at <= now:
        raise Conflict("The exception would have ended already.")
    made = PolicyException.objects.create(
        tenant_id=request.tenant_id,
        restriction=wish["restriction"],
        value=wish["value"],
        endpoint=endpoint,
        project=project,
        reason=wish["reason"],
        starts_at=now,
        ends_at=ends_at,
        approved_by=approved_by,
        approved_as=approved_as[:120],
        request=request,
    )
    endpoints_judge(Tenant.objects.get(id=request.tenant_id))
    return made


@transaction.atomic
def exception_end(
    *, exception: PolicyException, actor: str, now: dt.datetime | None = None
) -> PolicyException:
    """End an exception before its time, and judge what ran under it. Ending again changes nothing."""
    now = now or timezone.now()
    tenant_for_update()
    held = PolicyException.objects.select_for_update().get(id=exception.id)
    if held.ends_at <= now:
        return held
    held.ends_at, held.ended_as = max(now, held.starts_at), actor[:120]
    held.save(update_fields=["ends_at", "ended_as"])
    exception_enforce(held, now=now)
    return held


def exception_enforce(exception: PolicyException, *, now: dt.datetime) -> list[str]:
    """Judge what ran under an exception that ended; give the names of what was paused. Callers hold its tenant.

    What runs where the policy does not let it is paused, with the reason: residency and certifications are kept. Of
    other restrictions only new orders are refused.
    """
    tenant = Tenant.objects.get(id=exception.tenant_id)
    paused = []
    before = exception.ends_at - dt.timedelta(microseconds=1)
    for endpoint, revision in list(running_endpoints(tenant)):
        held = policy_in_force(tenant=tenant, endpoint=endpoint, now=now, spend=False)
        fault = fault_of(held.owner, endpoint, revision.pool) if held else ""
        show_fault(endpoint, fault)
        if not fault or exception.restriction not in PolicyException.PAUSES:
            continue
        then = policy_in_force(tenant=tenant, endpoint=endpoint, now=before, spend=False)
        if (
            then is None
            or exception.id not in then.exceptions
            or fault_of(then.owner, endpoint, revision.pool)
        ):
            continue  # it ran outside the policy without this exception, too
        why = (
            f"Paused: the exception {exception.value} from the policy ended. {fault[:1].upper()}{fault[1:]}."
        )
        endpoint_pause(endpoint=endpoint, actor="Berth", why=why, reason=POLICY_REFUSED)
        paused.append(endpoint.name)
    exception.enforced_at = now
    exception.save(update_fields=["enforced_at"])
    return paused


def exception_warn(exception: PolicyException, *, now: dt.datetime) -> None:
    """Tell owners and admins that an exception ends soon, once. Callers hold the scope of its tenant."""
    tenant = Tenant.objects.get(id=exception.tenant_id)
    under = exception.endpoint or exception.project
    what = (
        f"{exception.get_restriction_display().lower()} {exception.value} for {under or 'the whole tenant'}"
    )
    after = (
        "What runs under it and is not where the policy lets it run is paused then."
        if exception.restriction in PolicyException.PAUSES
        else "What runs goes on then; new orders keep to the policy."
    )
    webhooks.mail(
        tenant_id=tenant.id,
        event_type=ENDING,
        event_id=uuid.uuid5(exception.id, f"ends {exception.ends_at:%Y-%m-%d}"),
        subject=f"An exception from the policy of {tenant.name} ends on {exception.ends_at:%Y-%m-%d}",
        text=f"The exception {what} ends at {exception.ends_at:%Y-%m-%d %H:%M} UTC. {after}\n\n"
        "Ask for another one in time where it is still needed.",
        recipients=_owners_and_admins(tenant),
        now=now,
    )
    if exception.endpoint is not None:
        record(
            exception.endpoint, "policy", f"The exception {what} ends {exception.ends_at:%Y-%m-%d %H:%M} UTC."
        )
    exception.warned_at = now
    exception.save(update_fields=["warned_at"])


def _owners_and_admins(tenant: Tenant) -> list[str]:
    members = Membership.objects.filter(
        tenant=tenant, role__in=(Role.OWNER, Role.ADMIN), user__is_active=True
    )
    return list(members.values_list("user__email", flat=True))


def _check(
    policy: TenantPolicy, restriction: str, value: str, ends_at: dt.datetime, now: dt.datetime
) -> None:
    if not now < ends_at <= now + MOST_EXCEPTION:
        text = "An exception ends, within 366 days from now."
        raise Invalid(text, errors={"ends_at": [text]})
    if restriction in _SPEND:
        try:
            amount = Decimal(value)
        except InvalidOperation:
            amount = Decimal("NaN")
        if not (amount.is_finite() and 0 <= amount < _MOST_SPEND):
            raise Invalid(
                "Give the amount that holds instead.", errors={"value": ["Give an amount of money."]}
            )
        return
    floor = {
        _Kind.ZONE: policy.floor_zones and value not in policy.floor_zones,
        _Kind.CERTIFICATION: value in policy.floor_certifications,
    }
    if floor.get(_Kind(restriction)):
        text = "The platform's operators lock this; no exception of the tenant's opens it. Ask them."
        raise Invalid(text, errors={"value": [text]})
    restricts = {
        _Kind.ZONE: policy.allowed_zones,
        _Kind.CERTIFICATION: policy.certifications,
        _Kind.MODEL: policy.allowed_models,
        _Kind.LICENCE: policy.allowed_licences,
        _Kind.SLO_CLASS: policy.allowed_classes,
    }[_Kind(restriction)]
    needless = (
        value not in restricts if restriction == _Kind.CERTIFICATION else not restricts or value in restricts
    )
    if needless:
        text = f"The policy does not restrict {value}; no exception is needed."
        raise Invalid(text, errors={"value": [text]})
