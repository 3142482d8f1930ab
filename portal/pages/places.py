"""Where an order may run, as choices: each with the reason why it cannot be satisfied, if so."""

from __future__ import annotations

import dataclasses
from typing import Any, Final

from clusters.endpoints.planning import Market, OrderTerms
from clusters.models import Cluster
from clusters.planning.plans import Plan, Reason
from clusters.planning.residency import residency_allows
from portal.pages.offered import Offered
from portal.templatetags.berth import sentence

#: Reasons that no waiting and no larger quota takes away.
_LASTING: Final = frozenset(
    {
        Reason.MODEL_ZONE, Reason.PINNED, Reason.RUNTIME, Reason.POLICY, Reason.PRECISION, Reason.QUALITY,
        Reason.NODE_SIZE, Reason.DOMINATED, Reason.MEMORY, Reason.ITL, Reason.TTFT, Reason.REPLICAS, Reason.POOL_SIZE,
    }
)  # fmt: skip


def residency_tiles(
    offered: Offered, terms: OrderTerms | None, chosen: str, *, market: Market
) -> list[dict[str, Any]]:
    """Give the residency choices as tiles: anywhere, the zones, the regions of the estate.

    One that no cluster satisfies for these terms is greyed and says why; the one that is chosen stays
    choosable, so that it is sent and answered. Without terms all are open.
    """
    faults = _faults(offered, terms, market) if terms else {}
    tiles = [
        {
            "value": value,
            "label": label,
            "text": text,
            "checked": value == chosen,
            "reason": faults.get(value, ""),
            "disabled": bool(faults.get(value)) and value != chosen,
        }
        for value, label, text in _choices(offered)
    ]
    if chosen and not any(tile["checked"] for tile in tiles):
        tiles.append(
            {"value": chosen, "label": chosen, "checked": True, "reason": "No such place is known here."}
        )
    return tiles


def _choices(offered: Offered) -> list[tuple[str, str, str]]:
    zones: dict[str, list[str]] = {}
    for region in offered.regions:
        for zone in region.zones:
            zones.setdefault(zone, []).append(region.name)
    return [
        ("global", "Anywhere", "Wherever it is cheapest"),
        *((f"zone:{zone}", f"Zone {zone}", ", ".join(names)) for zone, names in sorted(zones.items())),
        *(
            (f"region:{region.code}", region.name, f"{region.code}, {region.country}")
            for region in offered.regions
        ),
    ]


def _faults(offered: Offered, terms: OrderTerms, market: Market) -> dict[str, str]:
    anywhere = market.plan(dataclasses.replace(terms, residency="global", certifications=()))
    barred = _barred(anywhere, {pool.id: pool.cluster for pool in market.pools})
    demanded = set(terms.certifications)
    faults: dict[str, str] = {}
    for value, _, _ in _choices(offered):
        there = [
            cluster
            for cluster in offered.clusters
            if residency_allows(value, cluster.region.code, frozenset(cluster.region.zones))
        ]
        faults[value] = _fault(there, demanded, barred)
    return faults


def _fault(there: list[Cluster], demanded: set[str], barred: dict[str, str]) -> str:
    if not there:
        return "No cluster stands there."
    certified = [cluster for cluster in there if demanded <= set(cluster.region.certifications)]
    if not certified:
        return f"No cluster there holds {' and '.join(sorted(demanded))}."
    if all(cluster.name in barred for cluster in certified):
        return barred[certified[0].name]
    return ""


def _barred(plan: Plan, clusters: dict[str, str]) -> dict[str, str]:
    """Give for each cluster that can never run it the reason of its pool that came furthest.

    ``clusters`` gives the cluster of each pool.
    """
    lasting: dict[str, str] = {}
    able = {plan.configuration.cluster} if plan.configuration else set()
    for refusal in plan.headlines():
        for cluster in (clusters[pool] for pool in refusal.pools):
            if refusal.reason in _LASTING:
                lasting[cluster] = sentence(refusal.message)
            else:
                able.add(cluster)
    return {cluster: message for cluster, message in lasting.items() if cluster not in able}
