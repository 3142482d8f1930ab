"""A small estate with figures that can be computed by hand: two pools, two tenants, three endpoints, two days."""

from __future__ import annotations

import dataclasses
import datetime as dt
import uuid
from decimal import Decimal
from typing import Any

from billing.allocations import allocation_open, label_write
from billing.models import ClusterDay, ClusterHour, HeldDay, HeldHour
from billing.prices import price_set
from billing.reports.keeping import reports_keep
from tenants import scope
from tenants.models import Project, Tenant
from tests.billing.usage import add_usage
from tests.factories import default_project, make_tenant

DAY_ONE, DAY_TWO = dt.date(2026, 5, 30), dt.date(2026, 6, 1)
NOW = dt.datetime(2026, 6, 2, 0, 30, tzinfo=dt.UTC)
HOUR_S = 3600
RATES = {"h100_sxm": Decimal(1), "l4": Decimal("0.25")}

CHAT, CODE, MAIL = (uuid.UUID(int=number) for number in (101, 102, 103))
REVISIONS = {CHAT: uuid.UUID(int=201), CODE: uuid.UUID(int=202), MAIL: uuid.UUID(int=203)}
PLANNED = {REVISIONS[CHAT]: Decimal(50), REVISIONS[CODE]: Decimal(20)}


@dataclasses.dataclass
class Reported:
    """The tenants, and one project of each."""

    nord: Tenant
    sued: Tenant
    projects: dict[str, Project]


def report_estate(*, keep: bool = True) -> Reported:
    """Make it: four H100 in ``de-a/h100`` at 2 an hour, eight L4 in ``fi-a/l4`` at 0.5, asset cost half of that.

    On each of two days, 10:00 to 12:00: ``chat`` of Nord holds 2 H100 (the first hour serving, the second idle),
    ``code`` of Nord 4 L4 and ``mail`` of Süd 2 L4, both serving.
    """
    nord, sued = make_tenant("nord", name="Nord"), make_tenant("sued", name="Süd")
    found = Reported(nord, sued, {"nord": default_project(nord), "sued": default_project(sued)})
    first = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    for gpu_type, amount in (("h100_sxm", 2), ("l4", Decimal("0.5"))):
        price_set(
            kind="gpu_hour", gpu_type=gpu_type, amount=Decimal(amount), currency=nord.currency,
            effective_from=first, bootstrap=True,
        )  # fmt: skip
    with scope.platform("make an estate for the reports"):
        for project, endpoint, name, model, slo_class in (
            ("nord", CHAT, "chat", "guide", "interactive"),
            ("nord", CODE, "code", "coder", "batch"),
            ("sued", MAIL, "mail", "guide", "batch"),
        ):
            owner = found.projects[project]
            with scope.tenant(owner.tenant_id):
                label_write(project=owner, endpoint_id=endpoint, name=name, model=model, slo_class=slo_class)
        for day in (DAY_ONE, DAY_TWO):
            _day(found, day)
    if keep:
        reports_keep(now=NOW, planned=lambda ids: {each: PLANNED[each] for each in ids if each in PLANNED})
    return found


def _day(found: Reported, day: dt.date) -> None:
    nord, sued = found.projects["nord"], found.projects["sued"]
    for hour in (10, 11):
        at = dt.datetime.combine(day, dt.time(hour), tzinfo=dt.UTC)
        _hold(nord, CHAT, at, "de-a", "h100", "h100_sxm", 2, asked=hour == 10)
        _hold(nord, CODE, at, "fi-a", "l4", "l4", 4, asked=True)
        _hold(sued, MAIL, at, "fi-a", "l4", "l4", 2, asked=True)
        _seen(at, "de-a", "h100", "h100_sxm", seen=4, held=2, unused=0 if hour == 10 else 2, platform=1)
        _seen(at, "fi-a", "l4", "l4", seen=8, held=6, unused=0, platform=0)
        if hour == 10:
            _use(nord, CHAT, at, model="guide", slo_class="interactive", output_tokens=72_000)
        _use(nord, CODE, at, model="coder", slo_class="batch", output_tokens=144_000)
        _use(sued, MAIL, at, model="guide", slo_class="batch", output_tokens=7_200)


def _hold(
    project: Project, endpoint: uuid.UUID, at: dt.datetime, cluster: str, pool: str, gpu_type: str, gpus: int, *,
    asked: bool,
) -> None:  # fmt: skip
    held = Decimal(gpus * HOUR_S)
    cost = gpus * RATES[gpu_type]
    with scope.tenant(project.tenant_id):
        _add(
            HeldHour, HeldDay, at, {
                "tenant_id": project.tenant_id, "cluster": cluster, "region": "de-1", "pool": pool,
                "gpu_type": gpu_type, "project_id": project.id, "endpoint_id": endpoint,
                "revision_id": REVISIONS[endpoint], "currency": "EUR",
            },
            held=held, cost=cost, **{"serving": held} if asked else {"idle": held, "idle_cost": cost},
        )  # fmt: skip
        allocation = allocation_open(
            project=project, endpoint_id=endpoint, revision_id=REVISIONS[endpoint],
            replica_id=f"{endpoint.int}-{at:%d%H}", cluster=cluster, region="de-1", gpu_type=gpu_type, gpus=gpus,
            started_at=at,
        )  # fmt: skip
        allocation.ended_at = at + dt.timedelta(hours=1)
        allocation.save()


def _seen(
    at: dt.datetime,
    cluster: str,
    pool: str,
    gpu_type: str,
    *,
    seen: int,
    held: int,
    unused: int,
    platform: int,
) -> None:
    free, rate = seen - held - platform, RATES[gpu_type]
    _add(
        ClusterHour, ClusterDay, at,
        {"cluster": cluster, "region": "de-1", "pool": pool, "gpu_type": gpu_type, "currency": "EUR"},
        seen=seen * HOUR_S, held=held * HOUR_S, idle=free * HOUR_S, platform=platform * HOUR_S,
        serving=(held - unused) * HOUR_S, unused=unused * HOUR_S, cost=seen * rate, held_cost=held * rate,
        idle_cost=free * rate, platform_cost=platform * rate, unused_cost=unused * rate,
    )  # fmt: skip


def _add(hours, days, at: dt.datetime, keys: dict[str, Any], **numbers: Any) -> None:
    hours.objects.create(bucket=at, **keys, **numbers)
    day = days.objects.filter(bucket=at.replace(hour=0), **keys).first() or days(
        bucket=at.replace(hour=0), **keys
    )
    for name, number in numbers.items():
        setattr(day, name, getattr(day, name) + number)
    day.save()


def _use(project: Project, endpoint: uuid.UUID, at: dt.datetime, **counts) -> None:
    add_usage(
        project, at=at, endpoint_id=endpoint, revision_id=REVISIONS[endpoint], requests=10, input_tokens=1_000,
        cached_tokens=100, **counts,
    )  # fmt: skip
