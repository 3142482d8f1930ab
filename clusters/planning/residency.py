"""Where an order may lawfully run. Everything in the control plane that asks this asks here."""

from __future__ import annotations

from collections.abc import Collection


def residency_allows(residency: str, region: str, zones: Collection[str]) -> bool:
    """Say whether a place in ``region``, which belongs to ``zones``, satisfies ``residency``.

    Fails closed: a demand that is not exactly ``global``, ``region:R`` or ``zone:Z``, or that
    names a place nobody knows, is satisfied nowhere.
    """
    if residency == "global":
        return True
    kind, _, place = residency.partition(":")
    if not place:
        return False
    if kind == "region":
        return region == place
    if kind == "zone":
        return place in zones
    return False
