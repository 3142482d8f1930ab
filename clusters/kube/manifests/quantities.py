"""Amounts as the API server writes them back, so that what is stored equals what was rendered."""

from __future__ import annotations

from typing import Final

_UNITS: Final = ("Ki", "Mi", "Gi", "Ti", "Pi")


def of_bytes(count: int) -> str:
    """Write a number of bytes with the largest binary unit that divides it."""
    unit = ""
    for larger in _UNITS:
        if count == 0 or count % 1024:
            break
        count, unit = count // 1024, larger
    return f"{count}{unit}"
