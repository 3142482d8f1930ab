"""Statements of all tenants in the console, and parked accounts."""

from __future__ import annotations

import logging

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from billing.models import BillingAccount, Statement
from billing.statements import account_park
from tenants import scope
from tenants.models import PlatformRole
from tests.billing.statements import Draft, Kind, every_kind
from tests.factories import default_project, make_tenant, make_user


@pytest.fixture
def operator(db):
    """Prices and books are finance's."""
    return make_user("fay@example.org", platform_role=PlatformRole.FINANCE)


pytestmark = pytest.mark.django_db
PATH = "/console/statements"


@pytest.fixture
def acme(db):
    return make_tenant("acme", name="Acme <b>GmbH</b>")


@pytest.fixture
def statement(acme):
    return every_kind(acme, default_project(acme))


def of_may(console, **query):
    answer = console.get(PATH, {"month": "2026-05", **query})
    assert answer.status_code == 200
    return answer


def test_month_of_every_tenant(console, acme, statement):
    yen = make_tenant("yen", currency="JPY")
    draft = Draft(yen, default_project(yen))
    draft.put(Kind.GPU_TIME, "1", "5000", "5000")
    draft.write(state=Statement.State.GRACE)
    make_tenant("idle")
    answer = of_may(console)
    told = {row["tenant"].slug: row["statement"] and row["statement"].total for row in answer.context["rows"]}
    assert told == {"acme": statement.total, "yen": 5000, "idle": None}
    assert [(each["currency"], each["total"]) for each in answer.context["totals"]] == [
        ("EUR", statement.total),
        ("JPY", 5000),
    ]
    text = answer.content.decode()
    for words in (
        "Acme &lt;b&gt;GmbH&lt;/b&gt;",
        "2026-05-000001",
        "2,182.30 EUR",
        "none yet",
        "1 of 1 statements",
    ):
        assert words in text, words


def test_one_state_only(console, acme, statement):
    assert [row["tenant"].slug for row in of_may(console, state="final").context["rows"]] == ["acme"]
    assert "No statement in this state" in of_may(console, state="draft").content.decode()


@pytest.mark.parametrize("query", [{}, {"month": "May"}, {"month": "0000-00"}, {"state": "x"}, {"page": "x"}])
def test_nonsense_gives_the_usual_view(console, query):
    assert console.get(PATH, query).status_code == 200


def test_many_tenants_come_by_the_page_in_few_queries(console, acme, statement):
    of_may(console)  # who looks is written down once an hour
    with CaptureQueriesContext(connection) as few:
        of_may(console)
    for number in range(120):
        make_tenant(f"t{number:03}", name=f"Tenant {number:03}")
    with CaptureQueriesContext(connection) as many:
        first = of_may(console)
    assert len(many) == len(few)
    assert len(first.context["rows"]) == 100
    assert len(of_may(console, page=2).context["rows"]) == 21
    assert "month=2026-05&amp;page=2" in first.content.decode()


@pytest.mark.parametrize("kind", ["pdf", "csv", "focus.csv", "focus.parquet"])
def test_files(console, statement, kind):
    answer = console.get(f"{PATH}/{statement.id}/{kind}")
    assert answer.status_code == 200
    assert "acme-2026-05" in answer["Content-Disposition"]
    assert console.get(f"{PATH}/{statement.id}/exe").status_code == 404


def test_parked_account_is_shown_and_let_go(
    console, acme, statement, caplog, django_capture_on_commit_callbacks
):
    account_park(tenant=acme, reason="no gpu_hour price for l4 <i>", now=timezone.now())
    text = of_may(console).content.decode()
    assert "no gpu_hour price for l4 &lt;i&gt;" in text
    path = reverse("console:account-unpark", args=["acme"])
    assert path in text
    assert "no gpu_hour price" in console.get(path).content.decode()
    with caplog.at_level(logging.INFO, "berth.operator"), django_capture_on_commit_callbacks(execute=True):
        answer = console.post(path, follow=True)
    assert "is billed again" in answer.content.decode()
    assert "billing.unpark" in caplog.text
    with scope.platform("look at the account"):
        account = BillingAccount.objects.get(tenant=acme)
    assert (account.state, account.accepted) == ("active", "no gpu_hour price for l4 <i>")
    assert console.get(path).status_code == 404
    assert console.post(path).status_code == 409


def test_only_operators_may(client, acme, statement):
    account_park(tenant=acme, reason="x", now=timezone.now())
    path = reverse("console:account-unpark", args=["acme"])
    client.force_login(make_user("ann@example.org"))
    for each in (PATH, f"{PATH}/{statement.id}/pdf", path):
        assert client.get(each).status_code == 404
    assert client.post(path).status_code == 404
