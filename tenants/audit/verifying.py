"""Verifying chains: every hash computed anew, every link followed, and the ends compared with what is kept apart."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence

from django.db import connection

from tenants import scope
from tenants.audit.canonical import BEGINNING, COLUMNS, FIELDS, PLATFORM, entry_hash
from tenants.models import AuditHead

AT_A_TIME = 5000
_NUMBER, _ID, _HASH = FIELDS.index("number"), FIELDS.index("id"), len(FIELDS)
_NONE = "00000000-0000-0000-0000-000000000000"


@dataclasses.dataclass(frozen=True)
class Head:
    """The last number and hash of a chain."""

    number: int
    hash: str


@dataclasses.dataclass(frozen=True)
class Broken:
    """The first place at which a chain is not what it should be. ``what`` is hash, link, gap, tail, head or anchor."""

    number: int
    id: str
    what: str
    message: str


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What came of verifying a chain (``platform``, or a tenant's id) of ``entries``."""

    chain: str
    entries: int
    broken: Broken | None = None


def verify_chain(
    chain: str,
    rows: Iterable[Sequence[str | None]],
    *,
    head: Head | None,
    anchors: Mapping[int, str] | None = None,
) -> Verdict:
    """Follow a chain. A row has the texts of ``FIELDS`` and its hash, and rows come in the order of their numbers.

    ``head`` is the end as it is kept apart; ``anchors`` are hashes by number that were kept elsewhere.
    """
    due, last, count = 1, BEGINNING, 0
    anchors = dict(anchors or {})
    for row in rows:
        number, identity = int(row[_NUMBER] or 0), row[_ID] or ""
        if number != due:
            why = f"After number {due - 1} comes number {number}: entries between were taken out."
            if number < due:
                why = f"Number {number} is there twice."
            return Verdict(chain, count, Broken(number, identity, "gap", why))
        if row[0] != last:
            why = f"It does not follow the entry before it: {row[0]} is not {last}."
            return Verdict(chain, count, Broken(number, identity, "link", why))
        if entry_hash(row[:_HASH]) != row[_HASH]:
            why = "Its hash is not that of what it says: it was changed, or written past the database's own functions."
            return Verdict(chain, count, Broken(number, identity, "hash", why))
        last = row[_HASH] or ""
        if anchors.pop(number, last) != last:
            why = "Its hash is not the one that the anchor keeps: the chain was written anew."
            return Verdict(chain, count, Broken(number, identity, "anchor", why))
        due, count = due + 1, count + 1
    return Verdict(chain, count, _end(due - 1, last, head, anchors))


def _end(number: int, last: str, head: Head | None, anchors: Mapping[int, str]) -> Broken | None:
    if anchors:
        why = f"The anchor knows number {min(anchors)}; the chain ends before it."
        return Broken(number, "", "anchor", why)
    if head is None:
        return (
            Broken(number, "", "head", "There are entries, but the end of the chain is not kept.")
            if number
            else None
        )
    if head.number > number:
        why = f"The chain ends here, but {head.number} entries were written: its tail was cut off."
        return Broken(number, "", "tail", why)
    if (head.number, head.hash) != (number, last):
        return Broken(number, "", "head", f"The end that is kept is number {head.number}, {head.hash}.")
    return None


def verify_stored(chain: str, *, anchors: Mapping[int, str] | None = None) -> Verdict:
    """Verify a chain of the database: ``platform``, or a tenant's id."""
    with scope.platform("verify the audit"):
        return verify_chain(chain, stored_rows(chain), head=heads().get(chain), anchors=anchors)


def stored_rows(chain: str) -> Iterator[Sequence[str | None]]:
    """Read a chain a piece at a time, for :func:`verify_chain`; in the platform's scope."""
    where, values = ("tenant_id IS NULL", []) if chain == PLATFORM else ("tenant_id = %s", [chain])
    query = f"SELECT {COLUMNS} FROM tenants_auditentry AS entry WHERE {where} ORDER BY entry.number"  # noqa: S608
    with connection.chunked_cursor() as cursor:
        cursor.execute(query, values)
        while rows := cursor.fetchmany(AT_A_TIME):
            yield from rows


def heads() -> dict[str, Head]:
    """Give the end of every chain that is kept; in the platform's scope."""
    return {
        PLATFORM if str(each.chain) == _NONE else str(each.chain): Head(each.number, each.hash)
        for each in AuditHead.objects.all()
    }


def chains() -> list[str]:
    """Give every chain of which there is an entry or an end, the platform's first."""
    with scope.platform("verify the audit"), connection.cursor() as cursor:
        cursor.execute(f"SELECT DISTINCT coalesce(tenant_id::text, '{PLATFORM}') FROM tenants_auditentry")  # noqa: S608
        found = {chain for (chain,) in cursor.fetchall()} | set(heads())
    return sorted(found, key=lambda chain: (chain != PLATFORM, chain))
