"""Fragmentation: free GPUs by pool as they lie now, and what of them replicas could use."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse

from billing.reports.documents import table
from clusters.inventory import remit
from clusters.inventory.fragmentation import fragmentation
from portal.charts.estate import parts_card
from portal.pages.base import ConsolePage
from portal.pages.csv_files import csv_download, csv_text
from portal.pages.filters import Address, Filter, filter_bar, picked
from tenants.roles import PlatformAction

#: Pools that are drawn, those with the most stranded GPUs first; the table has them all.
MOST_POOLS = 12


class FragmentationPage(ConsolePage):
    action = PlatformAction.VIEW_ESTATE
    reason = "show operators how free GPUs lie"

    def get(self, request: HttpRequest) -> HttpResponse:
        every = fragmentation(remit.pool_capacities())
        choices = {
            "cluster": sorted({(row.cluster, row.cluster) for row in every}),
            "gpu_type": sorted({(row.gpu_type, row.gpu_type) for row in every}),
        }
        given, problems = {}, []
        for name, label in (("cluster", "cluster"), ("gpu_type", "GPU type")):
            given[name], problem = picked(request.GET.get(name, ""), choices[name], label)
            problems.append(problem)
        rows = [
            row
            for row in every
            if given["cluster"] in ("", row.cluster) and given["gpu_type"] in ("", row.gpu_type)
        ]
        if request.GET.get("csv"):
            return csv_download("fragmentation.csv", csv_text(*table(rows)))
        address = Address(path=request.path, asked=given)
        bar = filter_bar(
            [
                Filter(
                    name="cluster", label="Cluster", choices=choices["cluster"], value=given["cluster"],
                    everything="All clusters",
                ),
                Filter(
                    name="gpu_type", label="GPU type", choices=choices["gpu_type"], value=given["gpu_type"],
                    everything="All GPU types",
                ),
            ],
            address,
        )  # fmt: skip
        return self.render(
            "console/reports/fragmentation.html", {"bar": bar, **self._content(rows, address, problems)}
        )

    def _content(self, rows: list[Any], address: Address, problems: list[str]) -> dict[str, Any]:
        with_free = [row for row in rows if row.free][:MOST_POOLS]
        more = sum(1 for row in rows if row.free) - len(with_free)
        csv_url = address.link(csv="pools")
        card = parts_card(
            id="free", title="Free GPUs by pool", things=[f"{row.cluster} / {row.pool}" for row in with_free],
            parts={
                "In whole blocks": [row.free - row.stranded for row in with_free],
                "Stranded": [row.stranded for row in with_free],
            },
            unit="GPUs", thing="Pool", note=f"Now; {more} more pools in the table" if more else "Now",
        )  # fmt: skip
        free, stranded = sum(row.free for row in rows), sum(row.stranded for row in rows)
        return {
            "rows": rows,
            "total": sum(row.total for row in rows),
            "free": free,
            "stranded": stranded,
            "stranded_share": stranded / free if free else None,
            "charts": [{**card, "csv_url": csv_url}] if card else [],
            "csv_url": csv_url,
            "problem": " ".join(filter(None, problems)),
        }
