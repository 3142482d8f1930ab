"""The worked example of docs/chargeback.md: what it says happened is made to happen, and every figure is compared.

The page's tables of facts are the inputs, its other tables what must come of them; a changed figure fails.
"""

from __future__ import annotations

import csv
import datetime as dt
import functools
import io
import re
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import pytest
from django.conf import settings
from django.core.management import call_command

from billing.commitments import commitment_create
from billing.credits import credit_grant
from billing.ledger import balances
from billing.metering.ingest import ingest
from billing.models import Allocation, Attainment, Statement, StatementLine, UsageHour
from billing.rating import charges
from billing.rating.rounding import round_lines
from billing.sharing import shared_open
from billing.statements import statement_run
from billing.statements.replay import statement_replay
from tenants import scope
from tests.billing.prices import hold, label, price, utc
from tests.billing.usage import batch, roll_up_until, segment
from tests.factories import default_project, make_tenant

D = Decimal
PAGE = (Path(settings.BASE_DIR) / "docs" / "chargeback.md").read_text()
MAY, JUNE = dt.date(2026, 5, 1), dt.date(2026, 6, 1)

Row = list[str]


@functools.cache
def table(title: str) -> list[Row]:
    """Give the cells of the table below a heading, without its head."""
    _, found, after = PAGE.partition(f"\n### {title}\n")
    assert found, f"docs/chargeback.md has no part {title!r}"
    lines = [line for line in re.split(r"\n#+ ", after)[0].splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def number(text: str) -> Decimal:
    return D(text.replace(",", ""))


def plain(value: Decimal | Fraction | int) -> str:
    """Write a number as the page does: thousands apart, no needless zeros."""
    whole, _, part = f"{charges.shown(Fraction(value), 10):,f}".partition(".")
    part = part.rstrip("0")
    return f"{whole}.{part}" if part else whole


def money(amount: Decimal) -> str:
    return f"{amount:,.2f}"


@pytest.fixture
def world(committed_db):
    """Make happen what the page says happened in May, and close the month."""
    for kind, what, amount in table("Prices"):
        selector = {"gpu_type": what} if kind == "gpu_hour" else {"model": what}
        price(kind, amount, **selector)
    zone = {"time_zone": "Europe/Berlin"}
    people = {name: make_tenant(name, **zone) for name in ("nord", "south", "house")}
    endpoints = {
        "chat": label(default_project(people["nord"]), "chat", slo_class="interactive"),
        "open-guide": label(default_project(people["house"]), "open-guide"),
    }
    shared_open(
        owner_id=people["house"].id, endpoint_id=endpoints["open-guide"], name="open-guide", model="guide",
        slo_class="standard", started_at=utc("2026-05-20"),
    )  # fmt: skip
    for gpus, gpu_type, rate, start, end in table("Commitments"):
        commitment_create(
            tenant=people["nord"], name="reserved", gpu_type=gpu_type, gpus=int(gpus), rate=D(rate),
            starts_at=utc(start), ends_at=utc(end), now=utc("2026-05-01"),
        )  # fmt: skip
    for amount, reason in table("Granted credits"):
        credit_grant(tenant=people["nord"], amount=D(amount), reason=reason, now=utc("2026-05-02"))
    for owner, endpoint, gpus, start, end, _ in table("GPU time held"):
        hold(default_project(people[owner]), endpoints[endpoint], start, end, gpus=int(gpus))
    for endpoint, requests, failed, target, percent, _ in table("Targets"):
        with scope.tenant(people["nord"].id):
            Attainment.objects.create(
                endpoint_id=endpoints[endpoint], project=default_project(people["nord"]), day=dt.date(2026, 5, 4),
                slo_class="interactive", availability=D(target) / 100, credit_percent=D(percent),
                requests=int(number(requests)), failed=int(failed),
            )  # fmt: skip
    world = people | endpoints
    send(world, "May", utc("2026-06-01"))
    statement_run(month=MAY, now=utc("2026-06-05"), close=True)
    return world


def send(world, arrived: str, now: dt.datetime) -> None:
    """Ship the page's segments that arrived in a month, and roll them up."""
    rows = [row for row in enumerate(table("Usage segments"), start=1) if row[1][0] == arrived]
    for sequence, (_, who, endpoint, ended, outcome, requests, prompt, cached, output) in rows:
        ingest(
            batch=batch(
                segment(
                    world[who], sequence, at=utc(ended), endpoint_id=str(world[endpoint]), outcome=outcome,
                    slo_class="interactive" if endpoint == "chat" else "standard", ttft_ms=(), itl_ms=(),
                    requests=int(number(requests)), input_tokens=int(number(prompt)),
                    cached_tokens=int(number(cached)), output_tokens=int(number(output)),
                )
            ),
            now=now,
        )  # fmt: skip
    for who in ("nord", "south"):
        told = [
            row for row in table("Usage segments") if row[1] == who and (row[0] == "May" or arrived == "June")
        ]
        roll_up_until(world[who], sum(int(number(row[5])) for row in told))


def lines(world, month: dt.date = MAY, **only) -> list[StatementLine]:
    with scope.tenant(world["nord"].id):
        return list(StatementLine.objects.filter(statement__month=month, **only))


def statement(world, month: dt.date = MAY) -> Statement:
    with scope.tenant(world["nord"].id):
        return Statement.objects.get(month=month)


def test_example_of_the_page(world, tmp_path):
    """One test, because the world of the page takes a database of its own."""
    gpu_time_is_what_the_allocations_say(world)
    segments_become_hours(world)
    time_is_used_and_idle(world)
    the_statement_has_these_lines(world)
    lines_are_rounded_once(world)
    credit_for_the_missed_target(world)
    the_shared_endpoints_gpu_time_is_split(world)
    the_ledger_balances(world)
    focus_adds_up(world, tmp_path)
    what_comes_late_is_a_correction(world)


def gpu_time_is_what_the_allocations_say(world) -> None:
    with scope.platform("look at the example's allocations"):
        held = [
            plain(each.gpus * (each.ended_at - each.started_at) // dt.timedelta(seconds=1))
            for each in Allocation.objects.order_by("started_at")
        ]
    assert [row[5] for row in table("GPU time held")] == held


def segments_become_hours(world) -> None:
    with scope.tenant(world["nord"].id):
        hours = UsageHour.objects.order_by("bucket", "outcome")
        found = [
            [
                f"{each.bucket:%Y-%m-%d %H:%M}", each.outcome, plain(each.requests), plain(each.input_tokens),
                plain(each.cached_tokens), plain(each.output_tokens),
            ]
            for each in hours
        ]  # fmt: skip
    assert found == table("Hours")


def time_is_used_and_idle(world) -> None:
    spans = {
        kind: [
            [f"{dt.datetime.fromisoformat(how[end]):%H:%M}" for end in ("start", "end")] for how in line.how
        ]
        for kind in ("gpu_time", "idle_gpu_time")
        for line in lines(world, kind=kind, commitment_id=None, charged=True)
    }
    ((used_from, used_until),), ((idle_from, idle_until),) = spans["gpu_time"], spans["idle_gpu_time"]
    assert f"was used from {used_from} to {used_until}, two GPUs for two hours" in PAGE
    assert f"and idle from {idle_from} to {idle_until}." in PAGE


def shown(line: StatementLine) -> Row:
    return [
        line.endpoint_name or "whole tenant",
        line.get_kind_display(),
        line.sku,
        plain(line.quantity) if line.unit != "credit" else "",
        plain(line.unit_price) if line.unit != "credit" else "",
        money(line.amount) if line.charged else f"({plain(line.amount)})",
        money(line.effective_amount) if line.commitment_id else "",
    ]


def the_statement_has_these_lines(world) -> None:
    assert [shown(line) for line in lines(world)] == table("Lines")
    may = statement(world)
    total = may.total
    assert f"**{money(total)} EUR**" in PAGE
    assert f"is from {may.period_start:%Y-%m-%d %H:%M} to {may.period_end:%Y-%m-%d %H:%M} UTC" in PAGE
    charged = [number(row[5]) for row in table("Lines") if not row[5].startswith("(")]
    assert sum(charged) == total


def lines_are_rounded_once(world) -> None:
    charged = [line for line in lines(world, charged=True) if line.unit != "credit" and line.amount]
    exact = {}
    for line in charged:
        steps = [Fraction(D(how["quantity"])) * Fraction(D(how.get("unit_price") or how["rate"])) / how["per"]
                 for how in line.how]  # fmt: skip
        exact[line.position] = sum(steps, Fraction(0))
    order = {position: f"{position:03}" for position in exact}
    rounded = round_lines({order[position]: amount for position, amount in exact.items()}, 2)
    found = [
        [line.sku, plain(exact[line.position]), money(D(int(exact[line.position] * 100)) / 100),
         money(rounded[order[line.position]])]
        for line in charged
    ]  # fmt: skip
    sums = [sum(number(row[column]) for row in found) for column in (1, 2, 3)]
    found.append(["sum", plain(sums[0]), money(sums[1]), money(sums[2])])
    assert found == table("Rounding")
    assert [line.amount for line in charged] == [rounded[order[line.position]] for line in charged]


def credit_for_the_missed_target(world) -> None:
    (credit,) = lines(world, kind="slo_credit")
    (row,) = table("Targets")
    reached = 100 * (1 - D(row[2]) / number(row[1]))
    assert row[5] == plain(reached)
    of_chat = [line for line in lines(world, charged=True, endpoint_name="chat") if line != credit]
    base = sum(line.effective_amount for line in of_chat)
    listed, covered = (
        " and ".join(money(line.effective_amount) for line in of_chat if bool(line.commitment_id) is by)
        for by in (False, True)
    )
    assert f"`chat` cost {listed} at list, and {covered} of the commitment" in PAGE
    assert f"{row[4]} % of {money(base)} EUR is {money(-credit.amount)} EUR" in PAGE


def the_shared_endpoints_gpu_time_is_split(world) -> None:
    (share,) = lines(world, kind="shared_gpu_time")
    weight, weights = (Fraction(share.how[0][name]) for name in ("weight", "weights"))
    told = f"{plain(weight)} of {plain(weights)}, {plain(100 * weight / weights)} %"
    assert f"{told}: {plain(share.quantity)} GPU-hours, {money(share.amount)} EUR" in PAGE


def the_ledger_balances(world) -> None:
    with scope.tenant(world["nord"].id):
        found = balances(currency="EUR")
    assert [[account, money(amount)] for account, amount in found.items()] == table("Ledger")
    assert sum(number(amount) for _, amount in table("Ledger")) == 0
    with scope.platform("replay the example"):
        assert statement_replay(Statement.objects.get(number=statement(world).number)).problems == ()


def focus_adds_up(world, folder: Path) -> None:
    out = folder / "may.csv"
    call_command(
        "focus_export", "--tenant", "nord", "--month", "2026-05", "--out", str(out), stdout=io.StringIO()
    )
    with out.open(newline="") as file:
        rows = list(csv.DictReader(file))
    found = [
        [row["ChargeCategory"], row["CommitmentDiscountStatus"], row["x_StatementLineKind"],
         plain(D(row["PricingQuantity"])) if row["PricingQuantity"] else "", money(D(row["BilledCost"])),
         money(D(row["EffectiveCost"]))]
        for row in rows
    ]  # fmt: skip
    assert found == table("FOCUS")
    assert sum(D(row["BilledCost"]) for row in rows) == statement(world).total


def what_comes_late_is_a_correction(world) -> None:
    send(world, "June", utc("2026-06-10"))
    statement_run(month=JUNE, now=utc("2026-07-05"), close=True)
    assert [shown(line) for line in lines(world, JUNE)] == table("The next month")
    late = next(line for line in lines(world, JUNE, correction=True, charged=True))
    how = late.how[0]
    now, before = (money(D(how[name]["amount"])) for name in ("now", "charged_before"))
    assert f"{now} EUR now less {before} EUR charged" in PAGE
