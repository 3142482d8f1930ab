"""Usage segments for tests."""

from __future__ import annotations

import datetime as dt
import time
import uuid

from billing.metering.rollups import roll_up
from billing.models import UsageDay, UsageHour, UsageMinutes
from gateway.contract import Outcome, UsageBatch, UsageSegment
from tenants import scope
from tests.factories import default_project

NOW = dt.datetime(2026, 5, 20, 14, 30, tzinfo=dt.UTC)
GATEWAY = "gateway-de-1"
NUMBERS = (
    "requests", "input_tokens", "output_tokens", "cached_tokens", "input_tokens_squared", "output_tokens_squared",
)  # fmt: skip


def segment(tenant, sequence: int = 1, *, at: dt.datetime = NOW, **changes) -> UsageSegment:
    """Make the segment of one gateway for three requests that ended at ``at``."""
    facts = {
        "tenant_id": str(tenant.id),
        "day": at.date(),
        "gateway": GATEWAY,
        "sequence": sequence,
        "key_id": str(uuid.UUID(int=1)),
        "project_id": str(default_project(tenant).id),
        "endpoint_id": str(uuid.UUID(int=3)),
        "revision_id": str(uuid.UUID(int=4)),
        "route_id": None,
        "model": "guide",
        "slo_class": "standard",
        "region": "de-1",
        "outcome": Outcome.COMPLETED,
        "window_start": at - dt.timedelta(seconds=min(5, at.second)),
        "window_end": at,
        "requests": 3,
        "input_tokens": 100,
        "output_tokens": 50,
        "cached_tokens": 10,
        "ttft_ms": (0, 1, 2),
        "itl_ms": (0, 0, 2, 1),
    }
    facts |= changes
    for kind in ("input", "output"):
        facts.setdefault(f"{kind}_tokens_squared", even_squares(facts[f"{kind}_tokens"], facts["requests"]))
    return UsageSegment(**facts)


def even_squares(tokens: int, requests: int) -> int:
    """Sum the squares of ``tokens`` that are spread over ``requests`` as evenly as whole tokens can be."""
    each, more = divmod(tokens, requests)
    return (requests - more) * each**2 + more * (each + 1) ** 2


def batch(*segments: UsageSegment, gateway: str = GATEWAY) -> UsageBatch:
    return UsageBatch(gateway=gateway, segments=segments)


def requests_counted(tenant) -> int:
    with scope.tenant(tenant.id):
        return sum(UsageHour.objects.values_list("requests", flat=True))


def roll_up_until(tenant, requests: int, within_s: float = 60, *, now: dt.datetime | None = NOW) -> None:
    """Roll up until ``requests`` are counted.

    Transactions of other databases of the same server hold the mark back too, so one call may not do.
    """
    deadline = time.monotonic() + within_s
    while True:
        roll_up(now=now)
        counted = requests_counted(tenant)
        if counted == requests:
            return
        assert counted < requests, f"{counted} requests were counted, {requests} were made"
        assert time.monotonic() < deadline, f"only {counted} of {requests} requests were counted"
        time.sleep(0.05)


def add_usage(project, *, at: dt.datetime, endpoint_id: uuid.UUID, **counts) -> None:
    """Write the rollup rows of usage within the hour of ``at``, as ``roll_up`` would.

    Inside a test's own transaction nothing is ever rolled up, because that transaction still runs.
    """
    facts = {
        "tenant_id": project.tenant_id,
        "project_id": project.id,
        "endpoint_id": endpoint_id,
        "key_id": uuid.UUID(int=1),
        "route_id": None,
        "model": "guide",
        "slo_class": "standard",
        "region": "de-1",
        "outcome": Outcome.COMPLETED,
        "requests": 1,
    } | counts
    with scope.tenant(project.tenant_id):
        hour = at.replace(minute=0, second=0, microsecond=0)
        for model, bucket in ((UsageHour, hour), (UsageDay, hour.replace(hour=0))):
            sums = {name: facts[name] for name in facts if name not in {*NUMBERS, "ttft_ms", "itl_ms"}}
            row, _ = model.objects.get_or_create(**sums, bucket=bucket)
            for name in NUMBERS:
                setattr(row, name, getattr(row, name) + facts.get(name, 0))
            if model is UsageDay and facts["requests"]:
                row.asked_hours |= 1 << hour.hour
            row.ttft_ms = facts.get("ttft_ms", row.ttft_ms)
            row.itl_ms = facts.get("itl_ms", row.itl_ms)
            row.save()
        minutes, _ = UsageMinutes.objects.get_or_create(
            tenant_id=project.tenant_id, endpoint_id=endpoint_id, bucket=hour, outcome=facts["outcome"],
            defaults={"requests": [0] * 60},
        )  # fmt: skip
        minutes.requests[at.minute] += facts["requests"]
        minutes.save()
