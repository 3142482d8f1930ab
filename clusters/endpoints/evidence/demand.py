"""What residency an endpoint demanded at each time, read back from its present state through the audit."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Iterable, Sequence
from typing import Final

from clusters.models import Endpoint
from tenants.models import AuditEntry

_COLUMNS: Final = ("residency", "certifications")


@dataclasses.dataclass(frozen=True)
class Demand:
    """What was demanded from ``since`` until ``until``."""

    since: dt.datetime
    until: dt.datetime
    residency: str
    certifications: tuple[str, ...]

    def overlaps(self, since: dt.datetime, until: dt.datetime) -> bool:
        return self.since < until and since < self.until


def demands(
    endpoint: Endpoint, changes: Iterable[AuditEntry], since: dt.datetime, until: dt.datetime
) -> Sequence[Demand]:
    """Give what was demanded within a period, the oldest first.

    ``changes`` are the audit's entries about the endpoint's row, in order.
    """
    state = {"residency": endpoint.residency, "certifications": list(endpoint.certifications)}
    found: list[Demand] = []
    end = until
    for entry in reversed(list(changes)):
        undone = {name: (entry.before or {})[name] for name in _COLUMNS if name in (entry.before or {})}
        if not undone:
            continue
        found.append(_demand(max(entry.at, since), end, state))
        end = min(end, entry.at)
        state |= undone
    found.append(_demand(max(endpoint.created_at, since), end, state))
    return [each for each in reversed(found) if each.since < each.until]


def _demand(since: dt.datetime, until: dt.datetime, state: dict) -> Demand:
    return Demand(since, until, state["residency"], tuple(sorted(state["certifications"])))
