"""Savings as both doors show them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from clusters.endpoints.savings.selectors import SavingRow
from clusters.models import Saving

Links = Callable[[SavingRow], list[tuple[str, str]]]


def savings_shown(rows: Iterable[SavingRow], links: Links) -> list[dict[str, Any]]:
    """Give what ``components/savings.html`` takes; ``links`` gives labels and addresses of what can be done."""
    return [
        {
            "row": row,
            "kind": Saving.Kind(row.kind).label,
            "links": [{"label": label, "url": url} for label, url in links(row)],
        }
        for row in rows
    ]
