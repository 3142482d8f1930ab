"""The life of a statement: draft, grace, final with number, seal and postings; what the database refuses."""

from __future__ import annotations

import datetime as dt
import json
from decimal import Decimal

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import DatabaseError, transaction

from billing.errors import NotClosable, StatementIsFinal
from billing.ledger import balances, ledger_check, post
from billing.models import BillingAccount, LedgerEntry, Statement, StatementLine, StatementNumber
from billing.statements import account_unpark, reckoning, statement_close, statement_draft, statement_run
from billing.statements import run as statement_runs
from billing.statements.due import close_due_months
from billing.statements.replay import statement_replay
from tenants import scope
from tenants.models import WebhookDelivery, WebhookEndpoint
from tests.billing.prices import hold, label, list_prices, price, utc
from tests.billing.usage import add_usage
from tests.factories import default_project, make_tenant

D = Decimal
MAY, JUNE = dt.date(2026, 5, 1), dt.date(2026, 6, 1)
GRACE, DUE = utc("2026-06-02"), utc("2026-06-04")
DUE_JUNE = utc("2026-07-04")


@pytest.fixture
def tenant(db):
    list_prices()
    return make_tenant()


@pytest.fixture
def project(tenant):
    return default_project(tenant)


@pytest.fixture
def chat(project):
    endpoint_id = label(project, "chat")
    hold(project, endpoint_id, "2026-05-10T10:00", "2026-05-10T15:00")
    return endpoint_id


def run(month=MAY, now=DUE, **options):
    return statement_run(month=month, now=now, close=True, **options)


def statement_of(tenant, month=MAY) -> Statement:
    with scope.tenant(tenant.id):
        return Statement.objects.get(month=month)


def lines_of(tenant, month=MAY) -> list[StatementLine]:
    with scope.tenant(tenant.id):
        return list(StatementLine.objects.filter(statement__month=month))


def test_draft_then_grace_then_final(tenant, chat):
    statement_run(month=MAY, now=utc("2026-05-20"))
    assert statement_of(tenant).state == "draft"
    assert run(now=GRACE).closed == 0
    assert statement_of(tenant).state == "grace"
    done = run()
    assert (done.closed, done.drafted, done.parked) == (1, 0, 0)
    final = statement_of(tenant)
    assert (final.state, final.number, final.total) == ("final", "2026-05-000001", D("18.00"))
    assert final.finalized_at == DUE
    assert len(final.inputs_sha256) == len(final.document_sha256) == 64


def test_grace_ends_after_the_days_of_the_setting(tenant, chat, settings):
    settings.STATEMENT_GRACE_DAYS = 5
    assert run(now=DUE).closed == 0
    assert run(now=utc("2026-06-05T23:59:59")).closed == 0
    assert run(now=utc("2026-06-06")).closed == 1


def test_closing_again_changes_nothing(tenant, chat):
    run()
    before = statement_of(tenant)
    assert run().closed == run(now=utc("2027-01-01")).closed == 0
    assert statement_of(tenant).document_sha256 == before.document_sha256
    with scope.tenant(tenant.id):
        assert LedgerEntry.objects.count() == 2


def test_numbers_have_no_gaps_and_each_month_its_own(db):
    list_prices()
    tenants = [make_tenant() for _ in range(3)]
    for each in tenants:
        project = default_project(each)
        hold(project, label(project, "chat"), "2026-05-10T10:00", "2026-06-10T15:00")
    run(tenant_ids=[tenants[1].id])
    run()
    run(month=JUNE, now=DUE_JUNE)
    for month in (MAY, JUNE):
        found = sorted(statement_of(each, month).number for each in tenants)
        assert found == [f"{month:%Y-%m}-{number:06d}" for number in (1, 2, 3)]
    assert statement_of(tenants[1]).number == "2026-05-000001"
    assert StatementNumber.objects.get(month=MAY).last == 3


def test_who_used_nothing_gets_no_statement(tenant):
    assert run().closed == 0
    with scope.tenant(tenant.id):
        assert not Statement.objects.exists()


def test_months_close_in_their_order(tenant, project):
    hold(project, label(project, "chat"), "2026-05-10T10:00", "2026-06-10T15:00")
    statement_run(month=MAY, now=GRACE)
    assert run(month=JUNE, now=DUE_JUNE).closed == 0
    with scope.tenant(tenant.id), pytest.raises(NotClosable, match="2026-05 is open"):
        statement_close(month=JUNE, now=DUE_JUNE)
    assert close_due_months(now=DUE_JUNE).closed == 2
    assert statement_of(tenant, JUNE).state == "final"


def test_one_tenants_close(tenant, chat):
    with scope.tenant(tenant.id):
        with pytest.raises(NotClosable, match="stays open until 2026-06-04 00:00 UTC"):
            statement_close(month=MAY, now=GRACE)
        assert statement_close(month=MAY, now=DUE).number == "2026-05-000001"
        for again in (statement_close, statement_draft):
            with pytest.raises(StatementIsFinal):
                again(month=MAY, now=DUE)


@pytest.mark.parametrize(
    "change",
    [
        lambda statement: Statement.objects.filter(id=statement.id).update(total=0),
        lambda statement: Statement.objects.filter(id=statement.id).update(state="draft"),
        lambda statement: Statement.objects.filter(id=statement.id).delete(),
        lambda statement: StatementLine.objects.filter(statement=statement).update(amount=0),
        lambda statement: StatementLine.objects.filter(statement=statement).delete(),
        lambda statement: StatementLine.objects.bulk_create(
            [_copy(StatementLine.objects.filter(statement=statement).first())]
        ),
        lambda statement: LedgerEntry.objects.update(amount=0),
        lambda statement: LedgerEntry.objects.all().delete(),
    ],
    ids=["total", "state", "delete", "line", "line-delete", "line-insert", "entry", "entry-delete"],
)
def test_the_database_lets_nothing_final_change(tenant, chat, change):
    run()
    with scope.tenant(tenant.id):
        statement = Statement.objects.get()
        with pytest.raises(DatabaseError), transaction.atomic():
            change(statement)
        statement.refresh_from_db()
        assert statement.total == D("18.00")


def save(tenant) -> None:
    with scope.platform("change a tenant"):
        tenant.save()


@transaction.atomic
def _add_one_side(entry: LedgerEntry) -> None:
    LedgerEntry.objects.create(transaction=entry.transaction, account=entry.account, amount=1)
    with transaction.get_connection().cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")  # as at the end of the transaction


def _copy(line: StatementLine) -> StatementLine:
    line.pk = StatementLine().pk
    line.position += 100
    return line


def test_the_database_refuses_what_does_not_balance(tenant):
    with scope.tenant(tenant.id):
        post(reference="a", currency="EUR", amounts={"receivable": D(5), "tokens": D(-5)}, posted_at=DUE)
        entry = LedgerEntry.objects.first()
        with pytest.raises(DatabaseError, match="does not balance"):
            _add_one_side(entry)
    with scope.platform("test"):
        assert [found.text for found in ledger_check()] == [
            "the receivable in EUR is 5.0000, its final statements sum to 0"
        ]


def test_a_close_posts_what_each_kind_of_line_came_to(tenant, project, chat):
    add_usage(project, at=utc("2026-05-10T11:00"), endpoint_id=chat, output_tokens=1_000)
    run()
    with scope.tenant(tenant.id):
        assert balances(currency="EUR") == {
            "receivable": D("18.00"), "gpu_time": D("-3.60"), "idle_gpu_time": D("-14.40"),
        }  # fmt: skip
    call_command("ledger_check")


def test_closed_statements_replay_to_the_same_bytes(tenant, project, chat, tmp_path):
    add_usage(project, at=utc("2026-05-10T11:00"), endpoint_id=chat, input_tokens=3, output_tokens=1_000)
    price("gpu_hour", "9.99", utc("2026-06-20"), gpu_type="h100_sxm")
    run()
    with scope.tenant(tenant.id):
        replay = statement_replay(Statement.objects.get())
    assert replay.problems == ()
    out = tmp_path / "may.json"
    call_command("statement_replay", "--tenant", tenant.slug, "--month", "2026-05", "--out", str(out))
    assert out.read_bytes() == replay.document
    with pytest.raises(CommandError, match="cannot be written"):
        call_command("statement_replay", tenant=tenant.slug, month="2026-05", out=tmp_path / "absent" / "x")
    call_command("statement_replay", "--all", "--from-rollups")


def test_what_came_after_the_close_is_told_by_a_replay_from_rollups(tenant, project, chat, capsys):
    run()
    add_usage(project, at=utc("2026-05-10T11:00"), endpoint_id=chat, output_tokens=1_000)
    call_command("statement_replay", "--tenant", tenant.slug, "--month", "2026-05", "--from-rollups")
    told = capsys.readouterr().out
    assert "usage of chat (guide, standard): output_tokens 0 then, 1000 now" in told
    assert (
        "GPU time of chat (h100_sxm, de-1, True, False): gpu_seconds 18000.000000 then, 14400.000000 now"
        in told
    )
    assert "1 of 1 statements are the same" in told


def test_a_replay_that_differs_fails_and_says_how(tenant, chat, monkeypatch, capsys):
    run()
    real = reckoning.round_lines
    monkeypatch.setattr(
        reckoning, "round_lines", lambda amounts, places: {k: v + 1 for k, v in real(amounts, places).items()}
    )
    with pytest.raises(CommandError, match="1 of 1 statements differ"):
        call_command("statement_replay", "--all")
    told = capsys.readouterr().err
    assert "the stored lines are not those that the inputs give" in told
    assert "the ledger holds idle_gpu_time -18.0000, receivable 18.0000" in told


def test_a_missing_price_parks_the_account_until_an_operator_lets_it_pass(tenant, project, chat):
    hold(project, chat, "2026-05-01T00:00", "2026-05-01T01:00", gpu_type="l40s")
    done = run()
    assert (done.closed, done.parked) == (0, 1)
    with scope.tenant(tenant.id):
        account = BillingAccount.objects.get()
        assert account.state == "parked"
        assert account.reason == (
            "no gpu_hour price for gpu_type l40s, region de-1 in 2026-05: add one, or accept that it is free"
        )
        with pytest.raises(NotClosable, match="is parked: no gpu_hour price"):
            statement_close(month=MAY, now=DUE)
    assert statement_of(tenant).state == "grace"
    account_unpark(tenant=tenant)
    assert run().closed == 1
    assert statement_of(tenant).total == D("18.00")


def test_webhooks_hear_of_final_statements_and_parked_accounts(tenant, project, chat):
    with scope.tenant(tenant.id):
        events = ["statement.finalized", "account.parked"]
        WebhookEndpoint.objects.create(
            name="books", url="https://books.example/hook", event_types=events, secret=b"sealed"
        )
    run()
    hold(project, chat, "2026-06-01T00:00", "2026-06-01T01:00", gpu_type="l40s")
    run(month=JUNE, now=DUE_JUNE)
    with scope.tenant(tenant.id):
        told = [
            json.loads(body) for body in WebhookDelivery.objects.order_by("id").values_list("body", flat=True)
        ]
    assert [each["type"] for each in told] == events
    assert (told[0]["data"]["number"], told[0]["data"]["total"]) == ("2026-05-000001", "18.0000")
    assert told[1]["data"]["reason"].startswith("no gpu_hour price for gpu_type l40s")


def test_a_parked_account_parks_nobody_else(tenant, project, chat):
    other = make_tenant()
    hold(default_project(other), label(default_project(other), "x"), "2026-05-01T00:00", "2026-05-01T01:00")
    hold(project, chat, "2026-05-01T00:00", "2026-05-01T01:00", gpu_type="l40s")
    assert run().closed == 1
    assert statement_of(other).number == "2026-05-000001"


@pytest.mark.parametrize("workers", [1, 2])
def test_a_statement_that_cannot_be_computed_keeps_nobody_elses_back(
    committed_db, monkeypatch, caplog, workers
):
    list_prices()
    tenants = [make_tenant() for _ in range(3)]
    for each in tenants:
        project = default_project(each)
        hold(project, label(project, "x"), "2026-05-01T00:00", "2026-05-01T01:00")
    bad = tenants[1]

    def compute(chunk, *rest, **options):
        if any(case.tenant.id == bad.id for case in chunk):
            raise ArithmeticError("a number that nobody thought of")
        return real(chunk, *rest, **options)

    real = statement_runs.compute
    monkeypatch.setattr(statement_runs, "compute", compute)
    found = run(workers=workers)
    assert (found.closed, found.failed) == (2, 1)
    assert f"the statement of tenant {bad.slug} of 2026-05 cannot be computed" in caplog.text
    with pytest.raises(CommandError, match="1 could not be computed"):
        call_command("statement_run", "--month", "2026-05")
    monkeypatch.setattr(statement_runs, "compute", real)
    assert run().closed == 1
    assert statement_of(bad).number == "2026-05-000003"


def test_another_currency_within_the_month_parks_the_account(tenant, project, chat):
    price("gpu_hour", "5.00", currency="USD")
    statement_run(month=MAY, now=utc("2026-05-20"))
    tenant.currency = "USD"
    save(tenant)
    assert run().parked == 1
    with scope.tenant(tenant.id):
        reason = BillingAccount.objects.get().reason
    assert reason.startswith("the currency changed from EUR to USD within 2026-05")
    account_unpark(tenant=tenant)
    assert run().closed == 1
    assert (statement_of(tenant).currency, statement_of(tenant).total) == ("USD", D("25.00"))


def test_another_currency_after_the_month_leaves_it_in_its_own(tenant, chat):
    statement_run(month=MAY, now=GRACE)
    tenant.currency = "USD"
    save(tenant)
    assert run().closed == 1
    assert statement_of(tenant).currency == "EUR"


def test_a_ledger_that_does_not_add_up_parks_the_account(tenant, chat):
    with scope.tenant(tenant.id):
        post(
            reference="by hand", currency="EUR", amounts={"receivable": D(5), "tokens": D(-5)}, posted_at=DUE
        )
    assert run().parked == 1
    with scope.tenant(tenant.id):
        assert "the receivable in EUR is 5.0000" in BillingAccount.objects.get().reason


def test_a_tenant_that_moves_is_charged_for_each_hour_once(db):
    price("gpu_hour", "1.00")
    tenant = make_tenant(time_zone="Europe/Berlin")
    project = default_project(tenant)
    hold(project, label(project, "chat"), "2026-04-30T22:00", "2026-06-30T22:00")
    run()
    tenant.time_zone = "America/New_York"
    save(tenant)
    run(month=JUNE, now=utc("2026-07-10"))
    may, june = statement_of(tenant), statement_of(tenant, JUNE)
    assert may.period_end == june.period_start == utc("2026-05-31T22:00")
    assert june.period_end == utc("2026-07-01T04:00")
    assert may.total + june.total == 61 * 24


def test_commands_refuse_what_they_cannot_read(db):
    for arguments, text in (
        (["statement_run", "--month", "May"], "'May' is not a month"),
        (["statement_run", "--month", "2026-05", "--tenant", "nobody"], "no tenant 'nobody'"),
        (["statement_run", "--month", "2026-05", "--workers", "0"], "a number from 1 to"),
        (["statement_run", "--month", "0001-01"], "not a month"),
        (["statement_run", "--month", "9999-12"], "not a month"),
        (["statement_replay", "--tenant", "nobody"], "Say which month"),
        (["statement_replay", "--all", "--out", "x"], "--out writes one document"),
    ):
        with pytest.raises(CommandError, match=text):
            call_command(*arguments)
