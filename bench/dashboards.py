"""Every dashboard and the usage and cost API over a year of rollups that stands for 100 M segments.

``SCALE=0.01`` makes a hundredth of it.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any, Final

import httpx

from bench.tools import berth
from bench.tools.figures import Figures, quantiles
from bench.tools.load import ROOT
from embedded.postgres import Postgres
from portal.demo import accounts
from tests.scenarios.stack import Session

#: Filling takes minutes and gigabytes.
ONLY_BY_NAME: Final = True
WARM_UPS: Final = 3
REPEATS: Final = 20
FILL_S: Final = 1_800
TENANT_HEADER: Final = "Berth-Tenant"


def measure() -> Figures:
    """Fill a database of its own, then ask for each page and report as a browser and a script would, one at a time.

    ``…_p95_ms`` runs from the request to the last byte. ``largest_…`` are of the tenant with the most endpoints,
    ``median_…`` of one with as many as half of the tenants have at most.
    """
    scale = float(os.environ.get("SCALE", "1"))
    with berth.web() as web:
        made = _fill(web, scale)
        figures: Figures = {"scale": scale} | made
        owner, operator = (
            Session(web.portal, accounts.TENANTS[0].owner),
            Session(web.portal, accounts.OPERATOR),
        )
        worst = 0.0
        for name, (session, path, headers) in _asked(made, owner, operator).items():
            found = _timed(name, lambda: session.client.get(path, headers=headers))  # noqa: B023
            figures |= found
            worst = max(worst, float(found[f"{name}_p95_ms"]))
            print(f"{name:<44}{found[f'{name}_p95_ms']:>10,.0f} ms", file=sys.stderr, flush=True)
        figures["worst_p95_ms"] = worst
    return figures


def _asked(
    made: Figures, owner: Session, operator: Session
) -> dict[str, tuple[Session, str, dict[str, str]]]:
    """Give what is asked for by name."""
    today = dt.datetime.now(dt.UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    year = f"start={today - dt.timedelta(days=365):%Y-%m-%dT00:00:00Z}&end={today:%Y-%m-%dT00:00:00Z}"
    month = f"start={today - dt.timedelta(days=30):%Y-%m-%dT00:00:00Z}&end={today:%Y-%m-%dT00:00:00Z}"
    asked: dict[str, tuple[Session, str, dict[str, str]]] = {}
    for size in ("largest", "median"):
        slug = str(made[size])
        named = {TENANT_HEADER: slug}
        pages = {
            "usage_page_30d": f"/t/{slug}/usage?range=30d",
            "usage_page_90d": f"/t/{slug}/usage?range=90d",
            "usage_page_12m": f"/t/{slug}/usage?range=12m",
            "usage_month_by_day": f"/api/v1/usage?bucket_width=1d&group_by=endpoint_id&{month}",
            "usage_year_by_day": f"/api/v1/usage?bucket_width=1d&limit=400&{year}",
            "usage_year_by_month": f"/api/v1/usage?bucket_width=1M&limit=14&group_by=endpoint_id&{year}",
            "costs_month": f"/api/v1/costs?group_by=endpoint_id&{month}",
            "costs_year": f"/api/v1/costs?group_by=endpoint_id&{year}",
            "costs_year_by_day": f"/api/v1/costs?bucket_width=1d&limit=400&{year}",
            "costs_year_by_month": f"/api/v1/costs?bucket_width=1M&limit=14&group_by=endpoint_id&{year}",
        }
        asked |= {f"{size}_{name}": (owner, path, named) for name, path in pages.items()}
    largest = made["largest"]
    operators = _reports() | {
        "utilization_page_12m_largest": f"/console/reports/utilization?range=12m&by=endpoint&tenant={largest}",
        "utilization_year_by_day_largest": "/api/v1/platform/utilization?bucket_width=1d&group_by=endpoint"
        f"&tenant={largest}&limit=2&{year}",
        "utilization_year_by_day": f"/api/v1/platform/utilization?bucket_width=1d&{year}",
        "utilization_year_by_month": f"/api/v1/platform/utilization?bucket_width=1M&group_by=endpoint&{year}",
        "throughput_year": f"/api/v1/platform/throughput?{year}",
        "platform_costs_year": f"/api/v1/platform/costs?{year}",
        "recovery_year": f"/api/v1/platform/recovery?{year}",
    }
    return asked | {name: (operator, path, {}) for name, path in operators.items()}


def _reports() -> dict[str, str]:
    """Give the operators' pages and reports by name."""
    pages = {"console_dashboard": "/console/", "fragmentation_page": "/console/reports/fragmentation"}
    for span in ("30d", "90d", "12m"):
        for by in ("cluster", "gpu_type", "tenant", "endpoint"):
            pages[f"utilization_page_{span}_{by}"] = f"/console/reports/utilization?range={span}&by={by}"
        pages[f"throughput_page_{span}"] = f"/console/reports/throughput?range={span}"
        pages[f"costs_page_{span}"] = f"/console/reports/costs?range={span}"
    pages["utilization_page_24h_pool"] = "/console/reports/utilization?range=24h&by=pool"
    return pages


def _fill(web: berth.Berth, scale: float) -> dict[str, Any]:
    environment = web.environment() | {"DATABASE_OWNER_URL": Postgres(web.data_dir).owner_url()}
    done = subprocess.run(
        [sys.executable, "-m", "bench.tools.year", str(scale), accounts.TENANTS[0].owner],
        cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, timeout=FILL_S, check=False,
    )  # fmt: skip
    if done.returncode != 0:
        raise RuntimeError("the database was not filled")
    return json.loads(done.stdout.splitlines()[-1])


def _timed(name: str, call: Callable[[], httpx.Response]) -> Figures:
    spent_ms = []
    for number in range(WARM_UPS + REPEATS):
        begun = time.perf_counter()
        answer = call()
        if number >= WARM_UPS:
            spent_ms.append((time.perf_counter() - begun) * 1000)
        if answer.status_code != 200 or "/accounts/login" in str(answer.url):
            raise RuntimeError(f"{answer.request.method} {answer.url} answered {answer.status_code}")
    return {**quantiles(name, spent_ms, "ms"), f"{name}_kib": len(answer.content) / 1024}
