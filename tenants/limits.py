"""What keys, projects and tenants may use of gateways, and what a tenant chooses of them.

Limits are given as a mapping of field names; None lifts one, and what is left out stays. Gateways hear of a change
within a second.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from django.db import transaction

from tenants import reach, roles
from tenants.announcements import announce
from tenants.errors import Forbidden, Invalid
from tenants.models import ApiKey, KeyScope, Project, Role, Tenant
from tenants.validation import clean

RATES: Final = ("requests_per_minute", "tokens_per_minute")
KEY_LIMITS: Final = (*RATES, "slo_class", "context_tokens")


@transaction.atomic
def key_change(
    *,
    key: ApiKey,
    name: str | None = None,
    limits: Mapping[str, Any] | None = None,
    narrowed: Mapping[str, Any] | None = None,
    granter_role: str = Role.OWNER,
    granted_by: ApiKey | None = None,
) -> ApiKey:
    """Give a key another name, other limits (of :data:`KEY_LIMITS`) or another reach (:data:`tenants.reach.KEY_REACH`).

    Raises:
        Invalid: a limit is out of bounds, or the key is none for inference.
        Forbidden: the key's role is above the changer's own, or it reaches further, before or after, than the
            management key that asks.
    """
    if key.acting_role and not roles.may_grant(granter_role, key.acting_role):
        raise Forbidden(f"A member with role {granter_role} cannot change a key with role {key.acting_role}.")
    reach.refuse_wider(key, granted_by)
    wishes = {**(limits or {}), **reach.checked(key.scope, narrowed or {})}
    check_key_limits(key.scope, limits or {})
    if name is not None:
        wishes["name"] = name
    changed = _change(key, wishes)
    reach.refuse_wider(changed, granted_by)
    return changed


def check_key_limits(key_scope: str, limits: Mapping[str, Any]) -> None:
    """Refuse limits of a key that calls no models.

    Raises:
        Invalid: there are some.
    """
    given = [name for name, wish in limits.items() if wish not in (None, "")]
    if given and key_scope != KeyScope.INFERENCE:
        text = "Only inference keys have limits."
        raise Invalid(text, errors={name: [text] for name in given})


def project_limits_set(*, project: Project, limits: Mapping[str, int | None]) -> Project:
    """Limit what all keys of a project may use a minute.

    Raises:
        Invalid: a limit is out of bounds.
    """
    return _change(project, limits)


def tenant_limits_set(
    *, tenant: Tenant, limits: Mapping[str, int | None] | None = None, share: float | None = None
) -> Tenant:
    """Limit what a tenant may use a minute, and weigh it beside others on shared endpoints; for operators.

    Raises:
        Invalid: a value is out of bounds.
    """
    return _change(tenant, {**(limits or {}), **({} if share is None else {"share": share})})


def tenant_choices_set(*, tenant: Tenant, choices: Mapping[str, int | None]) -> Tenant:
    """Keep what a tenant chose: ``refuse_after_s`` and ``files_days``.

    Raises:
        Invalid: a value is out of bounds.
    """
    return _change(tenant, choices)


def _change(row: Any, wishes: Mapping[str, Any]) -> Any:
    with transaction.atomic():
        changed = [field for field, wish in wishes.items() if wish != getattr(row, field)]
        for field in changed:
            setattr(row, field, wishes[field])
        if changed:
            clean(row, identified_by=changed[0])
            row.save(update_fields=changed)
            announce()
    return row
