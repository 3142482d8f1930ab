"""Statements as FOCUS 1.2: rows, files, the command."""

from __future__ import annotations

import csv
import datetime as dt
import io
from collections import Counter
from decimal import Decimal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from django.core.management import CommandError, call_command
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from billing.focus.export import BATCH, statement_rows, write_csv, write_parquet
from billing.focus.rows import Covered, Issuer, cover_key, focus_rows
from billing.models import Statement, StatementLine
from tenants import scope
from tests.billing.focus.checker import problems
from tests.billing.prices import hold, label, list_prices
from tests.billing.statements import Draft, Kind, every_kind
from tests.factories import default_project, make_tenant

D = Decimal


@pytest.fixture
def tenant(db):
    return make_tenant("acme", name="Acme – Zürich", time_zone="Europe/Berlin")


@pytest.fixture
def project(tenant):
    return default_project(tenant)


@pytest.fixture
def statement(tenant, project):
    return every_kind(tenant, project)


def exported(statement: Statement) -> list[dict[str, str]]:
    out = io.BytesIO()
    with scope.tenant(statement.tenant_id):
        write_csv(statement_rows(statement), out)
    return list(csv.DictReader(io.StringIO(out.getvalue().decode(), newline="")))


def command(*arguments: str) -> str:
    out = io.StringIO()
    call_command("focus_export", *arguments, stdout=out)
    return out.getvalue()


def billed(rows: list[dict[str, str]]) -> Decimal:
    return sum((D(row["BilledCost"]) for row in rows), D(0))


def test_rows_keep_every_rule_of_focus(statement):
    assert problems(exported(statement)) == []


def test_billed_cost_is_the_statement(statement):
    rows = exported(statement)
    assert billed(rows) == statement.total
    assert {row["InvoiceId"] for row in rows} == {statement.number}


def test_every_kind_of_line_becomes_its_category(statement):
    rows = exported(statement)
    assert Counter(
        (row["ChargeCategory"], row["x_StatementLineKind"], row["ChargeClass"]) for row in rows
    ) == {
        ("Usage", "gpu_time", ""): 3,
        ("Usage", "idle_gpu_time", ""): 2,
        ("Usage", "tokens", ""): 2,
        ("Usage", "tokens", "Correction"): 1,
        ("Usage", "gpu_time", "Correction"): 1,
        ("Purchase", "commitment", ""): 1,
        ("Usage", "commitment", ""): 1,
        ("Credit", "slo_credit", ""): 1,
        ("Credit", "credit", ""): 1,
    }


def test_what_is_shown_beside_is_no_charge(statement):
    with scope.tenant(statement.tenant_id):
        beside = set(
            statement.lines.filter(charged=False, commitment_id=None).values_list("position", flat=True)
        )
    assert beside
    assert not beside & {int(row["x_StatementLine"]) for row in exported(statement)}


def test_commitment_is_spread_over_what_it_covered(statement):
    rows = [row for row in exported(statement) if row["CommitmentDiscountId"]]
    told = [
        (row["ChargeCategory"], row["CommitmentDiscountStatus"], row["BilledCost"], row["EffectiveCost"],
         row["CommitmentDiscountQuantity"], row["CommitmentDiscountName"])
        for row in rows
    ]  # fmt: skip
    name = "Two years of H100"
    assert told == [
        ("Usage", "Used", "0.0", "1440.0", "600.0", name),
        ("Usage", "Used", "0.0", "105.6", "44.0", name),
        ("Usage", "Used", "0.0", "9.6", "4.0", name),
        ("Purchase", "", "1785.6", "0.0", "744.0", name),
        ("Usage", "Unused", "0.0", "230.4", "96.0", name),
    ]


def test_commitment_that_is_used_up_has_no_unused_row(tenant, project, statement):
    rows = exported(statement)
    draft = Draft(tenant, project, month=dt.date(2026, 6, 1))
    taken = rows[-1]  # any: only the commitment's id is needed
    taken = next(row["CommitmentDiscountId"] for row in rows if row["CommitmentDiscountId"])
    facts = {"commitment_id": taken, "list_unit_price": D("3.6")}
    draft.put(Kind.GPU_TIME, "10", "0", "0", **facts, effective_amount=D(24))
    draft.put(Kind.COMMITMENT, "10", "2.4", "24", **facts, sku="commitment:h100_sxm:de-1")
    again = exported(draft.write(number="2026-06-000001"))
    assert [row["CommitmentDiscountStatus"] for row in again] == ["Used", ""]
    assert problems(again) == []


def test_correction_keeps_the_period_in_which_it_was_used(statement):
    rows = [row for row in exported(statement) if row["ChargeClass"]]
    assert {(row["ChargePeriodStart"], row["ChargePeriodEnd"]) for row in rows} == {
        ("2026-03-31T22:00:00Z", "2026-04-30T22:00:00Z")
    }
    assert {(row["BillingPeriodStart"], row["BillingPeriodEnd"]) for row in rows} == {
        ("2026-04-30T22:00:00Z", "2026-05-31T22:00:00Z")
    }


def test_who_and_what_for(statement, project, settings):
    settings.FOCUS_PROVIDER_NAME = "Acme Cloud"
    settings.FOCUS_INVOICE_ISSUER_NAME = "Acme Billing"
    row = exported(statement)[0]
    wanted = {
        "BillingAccountId": str(statement.tenant_id),
        "BillingAccountName": "Acme – Zürich",
        "SubAccountId": str(project.id),
        "SubAccountName": "Default",
        "ProviderName": "Acme Cloud",
        "InvoiceIssuerName": "Acme Billing",
        "ResourceName": "chat",
        "RegionId": "de-1",
        "SkuId": "gpu-hours:h100_sxm",
        "SkuPriceId": "gpu-hours:h100_sxm:de-1",
        "SkuMeter": "GPU Time",
        "PricingUnit": "GPU-Hours",
        "x_PriceId": "price-1",
        "SkuPriceDetails": '{"GpuCount": 1, "x_GpuType": "h100_sxm"}',
        "Tags": '{"berth/gpu_type": "h100_sxm", "berth/model": "guide", "berth/slo_class": "standard", '
        '"cost_centre": "4711"}',
    }
    assert {name: row[name] for name in wanted} == wanted


def test_idle_time_is_the_same_thing_at_the_same_price(statement):
    rows = [row for row in exported(statement) if row["x_StatementLineKind"] == "idle_gpu_time"]
    assert {row["SkuPriceId"] for row in rows} == {"gpu-hours:h100_sxm:de-1"}
    assert rows[-1]["ChargeDescription"] == "Idle GPU-hours, h100_sxm, de-1"


def test_tokens_are_counted_one_by_one_and_priced_by_the_million(statement):
    row = next(row for row in exported(statement) if row["x_StatementLineKind"] == "tokens")
    assert (row["PricingQuantity"], row["PricingUnit"]) == ("12.000001", "1000000 Tokens")
    assert (row["ConsumedQuantity"], row["ConsumedUnit"]) == ("12000001.0", "Tokens")
    assert row["ContractedCost"] == "18.0000015"
    assert row["BilledCost"] == "18.0"


@pytest.mark.parametrize("state", [Statement.State.DRAFT, Statement.State.GRACE])
def test_what_is_not_final_has_no_invoice(tenant, project, state):
    rows = exported(every_kind(tenant, project, state=state))
    assert {row["InvoiceId"] for row in rows} == {""}
    assert problems(rows) == []


def test_parquet_holds_the_same_exactly(statement):
    out = io.BytesIO()
    with scope.tenant(statement.tenant_id):
        count = write_parquet(statement_rows(statement), out)
        rows = list(statement_rows(statement))
    table = pq.read_table(io.BytesIO(out.getvalue()))
    assert table.num_rows == count == len(rows)
    assert table.to_pylist() == [{name: row.get(name) for name in table.column_names} for row in rows]
    assert pa.types.is_decimal(table.schema.field("BilledCost").type)
    assert str(table.schema.field("ChargePeriodStart").type) == "timestamp[us, tz=UTC]"
    assert sum(table["BilledCost"].to_pylist()) == statement.total


def test_rows_are_read_as_they_are_written(statement):
    """However many rows there are, no more than a batch of them waits in memory."""
    with scope.tenant(statement.tenant_id):
        row = next(statement_rows(statement))
    waiting = 0
    most = 0

    class Sink(io.BytesIO):
        def write(self, data) -> int:
            nonlocal waiting, most
            most, waiting = max(most, waiting), 0
            return super().write(data)

    def rows():
        nonlocal waiting
        for _ in range(3 * BATCH):
            waiting += 1
            yield row

    for write in (write_csv, write_parquet):
        out, most = Sink(), 0
        assert write(rows(), out) == 3 * BATCH
        assert 0 < most <= BATCH


def test_command_writes_by_the_ending(statement, tmp_path):
    for name in ("may.csv", "may.parquet", "MAY.CSV"):
        said = command("--tenant", "acme", "--month", "2026-05", "--out", str(tmp_path / name))
        assert "13 rows in FOCUS 1.2" in said
    assert [each.name for each in sorted(tmp_path.iterdir())] == ["MAY.CSV", "may.csv", "may.parquet"]
    assert (tmp_path / "may.csv").read_bytes() == (tmp_path / "MAY.CSV").read_bytes()
    assert pq.read_table(tmp_path / "may.parquet").num_rows == 13


def test_command_draws_a_month_that_is_open(tenant, project, tmp_path):
    list_prices()
    hold(project, label(project, "chat"), "2026-05-03T09:00", "2026-05-03T11:00")
    out = tmp_path / "open.csv"
    assert "1 row in FOCUS" in command("--tenant", "acme", "--month", "2026-05", "--out", str(out))
    (row,) = csv.DictReader(out.open())
    assert (row["BilledCost"], row["InvoiceId"]) == ("7.2", "")


def test_month_in_which_nothing_happened_gets_no_statement(tenant, statement, tmp_path):
    out = tmp_path / "none.csv"
    with pytest.raises(CommandError, match="There is no statement of"):
        command("--tenant", "acme", "--month", "2001-01", "--out", str(out))
    make_tenant("idle")
    command("--all-tenants", "--month", "2026-05", "--out", str(out))
    with scope.platform("count"):
        assert Statement.objects.count() == 1


def test_command_takes_every_tenant_by_turns(statement, tmp_path):
    other = make_tenant("zenith")
    every_kind(other, default_project(other), number="2026-05-000002")
    command("--all-tenants", "--month", "2026-05", "--out", str(tmp_path / "all.csv"))
    rows = list(csv.DictReader((tmp_path / "all.csv").open()))
    assert Counter(row["InvoiceId"] for row in rows) == {"2026-05-000001": 13, "2026-05-000002": 13}
    assert problems(rows) == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--tenant", "nobody", "--month", "2026-05", "--out", "x.csv"], "There is no tenant 'nobody'"),
        (["--tenant", "acme", "--month", "2026-13", "--out", "x.csv"], "write it as 2026-05"),
        (["--tenant", "acme", "--month", "2999-01", "--out", "x.csv"], "has not begun"),
        (["--tenant", "acme", "--month", "2026-05", "--out", "x.xlsx"], r"neither in .csv nor in .parquet"),
        (["--tenant", "acme", "--month", "2026-05", "--out", "no/such/x.csv"], "Choose another folder"),
        (["--month", "2026-05", "--out", "x.csv"], "--tenant"),
    ],
)
def test_command_says_what_is_wrong(statement, tmp_path, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CommandError, match=words):
        command(*arguments)
    assert list(tmp_path.iterdir()) == []


def test_file_that_is_there_stays_until_the_new_one_is_whole(statement, tmp_path, monkeypatch):
    out = tmp_path / "may.csv"
    out.write_text("before")

    def breaks(statement):
        yield from list(statement_rows(statement))[:3]
        raise RuntimeError("the database is gone")

    monkeypatch.setattr("billing.focus.files.statement_rows", breaks)
    with pytest.raises(RuntimeError):
        command("--tenant", "acme", "--month", "2026-05", "--out", str(out))
    assert out.read_text() == "before"
    assert list(tmp_path.iterdir()) == [out]


MONEY = st.integers(-(10**13), 10**13).map(lambda units: D(units).scaleb(-4))
PRICES = st.integers(0, 10**16).map(lambda units: D(units).scaleb(-10))
QUANTITIES = st.integers(-(10**19), 10**19).map(lambda units: D(units).scaleb(-10))


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # on a busy machine everything is
@given(
    lines=st.lists(st.tuples(st.sampled_from(Kind.values), st.booleans(), QUANTITIES, PRICES, MONEY)),
    taken=st.uuids(),
)
def test_any_lines_add_up(lines, taken):
    made = []
    for position, (kind, charged, quantity, price, amount) in enumerate(lines, start=1):
        tokens = kind == Kind.TOKENS
        made.append(
            StatementLine(
                position=position, kind=kind, charged=charged, quantity=quantity, unit_price=price, amount=amount,
                sku="a:b:c", description="x", unit="million tokens" if tokens else "GPU-hour",
                service_month=dt.date(2026, 5, 1), list_unit_price=price, list_amount=amount,
                commitment_id=taken if kind == Kind.COMMITMENT else None, effective_amount=amount,
            )
        )  # fmt: skip
    rows = list(
        focus_rows(
            Statement(currency="EUR"), made, account_name="A", issuer=Issuer("a", "b", "c"), names={taken: "C"},
            covered={cover_key(line): Covered() for line in made if line.commitment_id},
        )
    )  # fmt: skip
    charged = [line.amount for line in made if line.charged]
    assert sum((row["BilledCost"] for row in rows), D(0)) == sum(charged, D(0))
    out = io.BytesIO()
    write_csv(rows, out)
    read = list(csv.DictReader(io.StringIO(out.getvalue().decode(), newline="")))
    assert [D(row["ContractedCost"]) for row in read] == [row["ContractedCost"] for row in rows]
    assert billed(read) == sum(charged, D(0))
