"""Who acts: kept by the door that let them in, read by whatever writes the audit.

The door opens a block with what it knows of the request, and says who asks once it has found out. PostgreSQL hears of
it by a transaction-local setting: with the scope where one is opened, and from :func:`carry` where none is. The
triggers on audited tables (:mod:`tenants.audit`) read it there, whatever statement changed the row.
"""

from __future__ import annotations

import contextlib
import contextvars
import dataclasses
import getpass
import json
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from django.db import connection, transaction

if TYPE_CHECKING:
    from tenants.models import User

SETTING = "berth.actor"
LONGEST_AGENT = 200


@dataclasses.dataclass(frozen=True)
class Actor:
    """Somebody or something that acts.

    ``kind`` is person, operator, key, service-account, gateway, mail-link, task, command, rule, anonymous or system.
    ``on_behalf`` names who is behind it: who made the key, who enqueued the task.
    """

    kind: str
    id: str = ""
    name: str = ""
    on_behalf: str = ""


NOBODY = Actor("system")


@dataclasses.dataclass
class Acting:
    """What a door knows: who acts, from where, within which request. ``who`` may be found out when it is needed."""

    who: Actor | Callable[[], Actor] = NOBODY
    request_id: str = ""
    address: str = ""
    user_agent: str = ""

    def actor(self) -> Actor:
        return self.who() if callable(self.who) else self.who


_acting: contextvars.ContextVar[Acting | None] = contextvars.ContextVar("berth_acting", default=None)


@contextlib.contextmanager
def acting(context: Acting) -> Iterator[Acting]:
    """Act as ``context`` says for the length of the block."""
    token = _acting.set(context)
    try:
        _tell_open_transaction()
        yield context
    finally:
        _acting.reset(token)
        _tell_open_transaction()


@contextlib.contextmanager
def later(context: Acting) -> Iterator[Acting]:
    """Act as ``context`` says where no database is at hand: in a coroutine. What it calls in threads hears of it."""
    token = _acting.set(context)
    try:
        yield context
    finally:
        _acting.reset(token)


def identify(actor: Actor) -> None:
    """Say who asks, once the door has found out; outside a block of :func:`acting` nothing is to be said."""
    context = _acting.get()
    if context is not None and context.who != actor:
        context.who = actor
        _tell_open_transaction()


def actor() -> Actor:
    """Give who acts."""
    context = _acting.get()
    return context.actor() if context else NOBODY


def request_id() -> str:
    """Give the id of the request at hand, or ""."""
    context = _acting.get()
    return context.request_id if context else ""


def person(user: User, *, on_behalf: str = "") -> Actor:
    """Give a person as the one who acts."""
    return Actor("person", str(user.pk), user.email, on_behalf)


def operator(user: User) -> Actor:
    """Give a person of the platform, who acts for it and for no tenant."""
    return Actor("operator", str(user.pk), user.email)


@contextlib.contextmanager
def command(name: str) -> Iterator[None]:
    """Act as the account that runs a management command."""
    try:
        account = getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        account = "unknown account"
    with acting(Acting(Actor("command", name, name, account))):
        yield


def told(who: Actor | None = None) -> str:
    """Give the setting's text: who acts (``who``, where it is given) and from where; "" where nobody is known."""
    context = _acting.get()
    if context is None and who is None:
        return ""
    found, context = who or actor(), context or Acting()
    parts = {
        "kind": found.kind,
        "id": found.id,
        "name": found.name,
        "on_behalf": found.on_behalf,
        "address": context.address,
        "agent": context.user_agent[:LONGEST_AGENT],
        "request": context.request_id,
    }
    return json.dumps({name: text.replace("\x00", "") for name, text in parts.items() if text})


def carry(execute: Callable[..., Any], sql: Any, params: Any, many: bool, context: dict[str, Any]) -> Any:
    """Tell PostgreSQL who acts before a write to an audited table outside any scope (an execute wrapper).

    Within a scope it knows. A statement outside any transaction gets one, for the setting lives as long as that.
    """
    from tenants import scope
    from tenants.audit.registry import writes_audited

    if _acting.get() is None or scope.is_open() or not writes_audited(sql):
        return execute(sql, params, many, context)
    if context["connection"].in_atomic_block:
        _tell()
        return execute(sql, params, many, context)
    with transaction.atomic():
        _tell()
        return execute(sql, params, many, context)


def _tell_open_transaction() -> None:
    from tenants import scope

    # Outside a scope, :func:`carry` tells it when there is something to write.
    if scope.is_open() and connection.in_atomic_block and not connection.needs_rollback:
        _tell()


def _tell() -> None:
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT set_config('{SETTING}', %s, true)", [told()])
