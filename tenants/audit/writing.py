"""Acts that are told to the audit by name: those that change no row, or say more than the row does."""

from __future__ import annotations

import json
import logging
import time
import uuid
from typing import Any

from django.core.serializers.json import DjangoJSONEncoder
from django.db import connection, transaction
from psycopg import sql

from tenants import acting, scope
from tenants.audit import registry
from tenants.models import Tenant, User

log = logging.getLogger("berth.operator")

ACCESS = "read"
ONCE_IN_S = 3600
MOST_REMEMBERED = 10_000

_NOTE = "SELECT berth_audit_note(%s, %s, %s, %s, %s, %s, %s)"
_seen: dict[tuple[str, str, str], float] = {}


def audit(user: User | None, action: str, **facts: Any) -> None:
    """Write an act of an operator, in the transaction of the act; None is a rule that operators set, or a command.

    It goes into the platform's chain and, where ``facts`` name a tenant or something of one's (``tenant`` by slug,
    ``endpoint`` and others by id), into that tenant's, too. The operators' log tells it once it is committed.
    """
    told = " ".join(f"{name}={value!r}" for name, value in facts.items())
    who = user.email if user else "by rule"
    tenant_ids = _tenants_of(facts)
    for tenant_id in (None, *tenant_ids):
        note(action, actor=_who(user), tenant_id=tenant_id, facts=facts)
    transaction.on_commit(lambda: log.info("operator=%s action=%s %s", who, action, told))


def access(user: User, what: str, *, reason: str, tenant_id: uuid.UUID | None = None) -> None:
    """Write that a person of the platform read rows across tenants: ``what`` was shown, and for which ``reason``.

    Once an hour for each person and ``what``, in the platform's chain; with ``tenant_id``, whose detail it was, in that
    tenant's, too.
    """
    if not _first_in_a_while((str(user.pk), what, str(tenant_id or ""))):
        return
    for chain in (None, tenant_id) if tenant_id else (None,):
        note(
            ACCESS,
            actor=acting.operator(user),
            tenant_id=chain,
            target=("page", "", what),
            facts={"reason": reason},
        )
    transaction.on_commit(lambda: log.info("operator=%s read=%s reason=%r", user.email, what, reason))


def note(
    action: str,
    *,
    actor: acting.Actor | None = None,
    tenant_id: uuid.UUID | None = None,
    target: tuple[str, str, str] = ("", "", ""),
    facts: dict[str, Any] | None = None,
) -> None:
    """Write one entry about an act; ``target`` is kind, id and name of what it was done to.

    Without ``actor`` whoever acts here has done it; without ``tenant_id`` it goes into the platform's chain.
    """
    text = json.dumps(facts, cls=_Facts).replace("\\u0000", "") if facts else None
    with connection.cursor() as cursor:
        cursor.execute(_NOTE, [tenant_id, action, *target, text, acting.told(actor)])


class _Facts(DjangoJSONEncoder):
    def default(self, o: Any) -> Any:
        try:
            return super().default(o)
        except TypeError:
            return sorted(map(str, o)) if isinstance(o, set | frozenset) else str(o)


def _who(user: User | None) -> acting.Actor:
    if user is not None:
        return acting.operator(user)
    found = acting.actor()
    return acting.Actor("rule", name="by rule") if found == acting.NOBODY else found


def _tenants_of(facts: dict[str, Any]) -> list[uuid.UUID]:
    """Find whose things the facts name: a tenant by its slug, other things by their ids."""
    found: dict[uuid.UUID, None] = {}
    with scope.platform("find whose audit an act belongs to"):
        slug = facts.get("tenant")
        if isinstance(slug, str):
            found.update(dict.fromkeys(Tenant.objects.filter(slug=slug).values_list("id", flat=True)))
        for noun, value in facts.items():
            identified, place = _uuid(value), registry.table_of(noun)
            if identified is None or place is None or not place[1].tenant:
                continue
            table, about = place
            query = sql.SQL("SELECT {} FROM {} WHERE {} = %s").format(
                *map(sql.Identifier, (about.tenant, table, about.key))
            )
            with connection.cursor() as cursor:
                cursor.execute(query, [identified])
                found.update(dict.fromkeys(owner for (owner,) in cursor.fetchall() if owner))
    return list(found)


def _uuid(value: Any) -> uuid.UUID | None:
    try:
        return uuid.UUID(str(value))
    except ValueError:
        return None


def _first_in_a_while(key: tuple[str, str, str]) -> bool:
    now = time.monotonic()
    if now - _seen.get(key, -ONCE_IN_S) < ONCE_IN_S:
        return False
    if len(_seen) >= MOST_REMEMBERED:
        _seen.clear()
    # Remembered once it is kept: a request that fails has shown nothing.
    transaction.on_commit(lambda: _seen.__setitem__(key, now))
    return True
