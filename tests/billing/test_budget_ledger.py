"""The ledger's rows and its door: what is lent, decided, recalled, written off, and whose word counts."""

from __future__ import annotations

import datetime as dt
import itertools
from decimal import Decimal

import msgspec
import pytest
from django.core.management import CommandError, call_command
from django.db import IntegrityError, transaction
from django.test import AsyncClient
from django.utils import timezone

from billing.budgets import ledger, services
from billing.models import Budget, BudgetLease, BudgetWindow
from clusters.endpoints.snapshot import build_snapshot
from clusters.inventory.gateways import gateway_register, gateway_remove
from clusters.models import Region
from gateway import contract
from tenants import scope
from tenants.errors import Invalid
from tests.estate import make_estate
from tests.factories import default_project, make_tenant

pytestmark = pytest.mark.django_db
_sequences = itertools.count(1)


@pytest.fixture
def tenant():
    return make_tenant("acme", time_zone="Europe/Berlin")


@pytest.fixture
def budget(tenant) -> Budget:
    return make(tenant)


def make(tenant, **more) -> Budget:
    with scope.tenant(tenant.id):
        return services.budget_create(
            **{"name": "All", "unit": "tokens", "limit": Decimal(1000), "period": "month"} | more
        )


def report(budget: Budget, lessee: str = "gw-1/a", *, begins: bool = False, **line) -> contract.LeaseReport:
    moment = line.pop("at", timezone.now())
    start = (
        line.pop("start", None)
        or contract.budget_window(contract.BudgetPeriod(budget.period), "Europe/Berlin", moment)[0]
    )
    values = {"granted": "0", "settled": "0", "held": "0"} | {
        name: value if isinstance(value, int) and name == "recall" else str(value)
        for name, value in line.items()
    }
    return contract.LeaseReport(
        gateway=lessee,
        sequence=next(_sequences),
        lines=(contract.LeaseLine(budget_id=str(budget.id), window_start=start, **values),),
        begins=begins,
    )


def take(budget: Budget, lessee: str = "gw-1/a", *, now: dt.datetime | None = None, **line) -> contract.Grant:
    (grant,) = ledger.take(report(budget, lessee, **line), now=now or timezone.now())
    return grant


def look(lessee: str, *, now: dt.datetime | None = None) -> tuple[contract.Grant, ...]:
    return ledger.look(lessee, sequence=10**9, now=now or timezone.now()).grants


def window() -> BudgetWindow:
    with scope.platform("a test"):
        return BudgetWindow.objects.get()


def test_a_slice_is_lent_and_never_more_than_a_part_of_what_is_free(budget):
    assert take(budget, wanted=40).granted == "40"
    grant = take(budget, "gw-2/a", wanted=100_000)
    assert (grant.granted, grant.left) == ("120", "840")
    assert window().granted == 160


def test_what_is_needed_is_granted_whole_while_it_is_there(budget):
    assert take(budget, wanted=1000, needed=1000).granted == "1000"
    assert window().granted == 1000


def test_what_lies_unspent_elsewhere_is_recalled_before_anybody_is_refused(budget):
    assert take(budget, "gw-1/a", wanted=900, needed=900).granted == "900"
    asked = take(budget, "gw-2/a", wanted=200, needed=200)
    assert (asked.granted, asked.sure) == ("0", 0)
    (recall,) = look("gw-1/a")
    assert recall.recall == 1

    take(budget, "gw-1/a", granted=300, held=300, recall=1)

    (granted,) = look("gw-2/a")
    assert (granted.granted, granted.sure) == ("200", 0)
    assert look("gw-2/a") == ()


def test_who_holds_everything_is_asked_twice_and_then_the_other_is_refused(budget):
    take(budget, "gw-1/a", wanted=1000, needed=1000)
    question = report(budget, "gw-2/a", wanted=200, needed=200)
    ledger.take(question, now=timezone.now())
    for recall in (1, 2):
        (grant,) = look("gw-1/a")
        assert grant.recall == recall
        take(budget, "gw-1/a", granted=900, held=900, recall=recall)

    (refused,) = look("gw-2/a")

    assert (refused.granted, refused.sure) == ("100", question.sequence)
    assert (refused.settled, refused.held, refused.left) == ("0", "900", "0")


def test_who_does_not_answer_counts_as_spent_until_it_reports_again(budget):
    now = timezone.now()
    take(budget, "gw-1/a", wanted=1000, needed=1000, now=now)
    question = report(budget, "gw-2/a", needed=1)
    ledger.take(question, now=now)
    assert look("gw-2/a", now=now) == ()

    (refused,) = look("gw-2/a", now=now + dt.timedelta(seconds=1.1))

    assert (refused.sure, refused.silent) == (question.sequence, "1000")
    take(budget, "gw-1/a", granted=10, settled=10, now=now + dt.timedelta(seconds=5))
    assert take(budget, "gw-2/a", needed=990, now=now + dt.timedelta(seconds=5)).granted == "990"


def test_an_older_report_is_not_heard(budget):
    older = report(budget, granted=500, settled=500)
    take(budget, granted=600, settled=600)
    assert ledger.take(older, now=timezone.now()) == ()
    assert window().settled == 600


def test_a_report_that_begins_releases_what_an_earlier_process_held(budget):
    take(budget, wanted=500, needed=500)
    take(budget, granted=500, settled=100, held=300)
    begin = contract.LeaseReport(gateway="gw-1/a", sequence=next(_sequences), lines=(), begins=True)

    ledger.take(begin, now=timezone.now())

    row = window()
    assert (row.granted, row.settled, row.held) == (100, 100, 0)


def test_a_lowered_limit_recalls_what_is_not_spent_and_grants_nothing(budget):
    take(budget, wanted=800, needed=800)
    take(budget, granted=800, settled=300)
    with scope.tenant(budget.tenant_id):
        services.budget_change(budget=budget, limit=Decimal(400))
    (recall,) = look("gw-1/a")
    assert recall.recall == 1
    take(budget, granted=300, settled=300, recall=1)
    assert look("gw-1/a") == ()
    row = window()
    assert (row.granted, row.limit, row.excess) == (300, 400, 0)
    assert take(budget, "gw-2/a", needed=101, wanted=101).granted == "100"


def test_an_engine_that_gave_too_much_is_paid_for_and_shows_as_excess(budget):
    take(budget, granted=1100, settled=1100)
    row = window()
    assert (row.settled, row.excess) == (1100, 100)


def test_the_database_refuses_to_grant_beyond_the_limit(budget):
    take(budget, wanted=100)
    with (
        scope.platform("a test"),
        pytest.raises(IntegrityError, match="budget_grants_within_limit"),
        transaction.atomic(),
    ):
        BudgetWindow.objects.update(granted=1001)


def test_windows_that_cannot_be_are_left_out(budget):
    month = dt.timedelta(days=40)
    for start in (
        timezone.now(),
        contract.budget_window("month", "Europe/Berlin", timezone.now() + month)[0],
    ):
        assert ledger.take(report(budget, start=start, wanted=1), now=timezone.now()) == ()
    unknown = msgspec.structs.replace(
        report(budget).lines[0], budget_id="01890000-0000-7000-8000-000000000000"
    )
    mixed = msgspec.structs.replace(
        report(budget, wanted=8), lines=(unknown, report(budget, wanted=8).lines[0])
    )
    assert len(ledger.take(mixed, now=timezone.now())) == 1


def test_late_settlements_go_into_their_own_window_and_lend_nothing(budget):
    before = timezone.now() - dt.timedelta(days=40)
    grant = take(budget, at=before, granted=70, settled=70, wanted=50)
    assert (grant.granted, grant.settled) == ("70", "70")
    assert take(budget, wanted=40).settled == "0"


@pytest.mark.parametrize("amount", ["x", "-1", "NaN", "1e99"])
def test_a_malformed_amount_is_refused(budget, amount):
    with pytest.raises(Invalid, match="cannot be read"):
        ledger.take(report(budget, settled=amount), now=timezone.now())


def test_an_inactive_budget_lends_nothing_more_and_is_in_no_snapshot(tenant, budget):
    with scope.tenant(tenant.id):
        services.budget_change(budget=budget, active=False)
    assert take(budget, wanted=40).granted == "0"


def test_a_gateway_that_is_gone_is_written_off_by_its_name_or_one_folder(budget, capsys, caplog):
    for lessee in ("gw-1/a", "gw-1/b", "gw-10/a"):
        take(budget, lessee, needed=100, wanted=100)
    with caplog.at_level("INFO", logger="berth.operator"):
        call_command("budget_release", "gw-1/a")
    assert window().granted == 200
    call_command("budget_release", "gw-1")
    assert window().granted == 100
    assert "1 leases of gw-1 are written off" in capsys.readouterr().out
    with pytest.raises(CommandError, match="known are gw-1/a, gw-1/b, gw-10/a"):
        call_command("budget_release", "gw-7")
    # It did come back: what it spent counts again.
    take(budget, "gw-1/a", granted=90, settled=90)
    assert window().settled == 90


def test_what_a_question_waits_for_is_free_once_the_gateway_is_written_off(budget):
    take(budget, "gw-1/a", needed=1000, wanted=1000)
    take(budget, "gw-2/a", needed=10, wanted=10)
    ledger.gateway_release("gw-1", now=timezone.now())
    (granted,) = look("gw-2/a")
    assert granted.granted == "10"


def test_removing_a_gateway_frees_its_leases(budget):
    estate = make_estate()
    take(budget, "gw-de/a", needed=500, wanted=500)
    gateway_remove(gateway=estate.gateway)
    assert window().granted == 0


def test_snapshots_hold_the_active_budgets_of_tenants_they_serve(tenant, budget, monkeypatch):
    from billing.budgets.selectors import contract_budgets

    make(make_tenant("other"), name="Other")
    make(tenant, name="Off", active=False)
    make(tenant, name="Money", unit="money", limit=Decimal("12.50"), owner_kind="project",
         owner_id=default_project(tenant).id)  # fmt: skip
    with scope.platform("a test"):
        found = {each.name: each for each in contract_budgets({tenant.id})}
    assert set(found) == {"All", "Money"}
    assert (found["Money"].limit, found["Money"].currency, found["Money"].time_zone) == (
        "12.5", "EUR", "Europe/Berlin",
    )  # fmt: skip
    assert found["Money"].owner_id == str(default_project(tenant).id)
    assert found["All"].alert_percents == (50, 80, 100)


def test_a_new_budget_makes_a_new_snapshot(tenant):
    estate = make_estate()
    before = build_snapshot(estate.gateway)
    assert before.budgets == ()  # it serves nothing of the tenant yet
    make(tenant)
    assert build_snapshot(estate.gateway).version == before.version


async def _post(token: str, body: object, wait: str = "0"):
    content = body if isinstance(body, bytes) else msgspec.json.encode(body)
    return await AsyncClient().post(
        f"{contract.LEASES_PATH}?wait={wait}",
        content,
        content_type="application/json",
        headers={"authorization": f"Bearer {token}"},
    )


async def test_the_door_takes_a_gateways_own_reports_only(committed_db):
    from asgiref.sync import sync_to_async

    def furnish():
        make_estate()
        _, token = gateway_register(name="gw-1", region=Region.objects.get(code="eu-de-1"))
        return token, make(make_tenant("acme", time_zone="Europe/Berlin"))

    token, budget = await sync_to_async(furnish)()

    good = await _post(token, report(budget, wanted=40))
    assert good.status_code == 200
    answer = msgspec.json.decode(good.content, type=contract.LeaseAnswer)
    assert answer.grants[0].granted == "40"
    assert (await _post("nobody's", report(budget))).status_code == 401
    for wrong in (report(budget, "gw-2/a"), report(budget, "gw-1/" + "x" * 80), b"{", b'{"gateway": 1}'):
        assert (await _post(token, wrong)).status_code == 400
    assert (await _post(token, report(budget, held="x"))).status_code == 422
    silent = contract.LeaseReport(gateway="gw-1/a", sequence=next(_sequences), lines=())
    assert (await _post(token, silent, wait="nan")).status_code == 400
    assert msgspec.json.decode((await _post(token, silent, wait="0.2")).content) == {"grants": []}


def test_leases_are_isolated(budget, tenant):
    take(budget, wanted=40)
    with scope.tenant(make_tenant("other").id):
        assert not BudgetLease.objects.exists()
        assert not Budget.objects.exists()
    with scope.tenant(tenant.id):
        assert BudgetLease.objects.count() == 1
