"""Whatever stands in a query is taken or refused by name, and never an error of ours."""

from __future__ import annotations

import pytest

from billing.books import book_create
from tenants import scope
from tests.api.contract import API, assert_problem

pytestmark = pytest.mark.django_db

MOMENTS = (
    "", "\0", "0001-01-01T00:00:00Z", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59Z",
    "9999-12-31T23:59:59-14:00",
)  # fmt: skip
MONTHS = ("", "\0", "0001-01", "2000-01", "9999-12", "2026-13")
TENANTS = {
    "usage": ("start", "end", "page"),
    "costs": ("start", "end", "page"),
    "commitments/use": (),
    "slo-attainment": ("month",),
    "statements/current": ("month",),
}  # fmt: skip
OPERATORS = {
    "platform/utilization": ("start", "end"),
    "platform/throughput": ("start", "end"),
    "platform/costs": ("start", "end"),
    "platform/recovery": ("start", "end"),
    "platform/savings": ("tenant", "kind"),
    "platform/fragmentation": (),
    "usage-reconciliation": ("day", "gateway"),
    "tenant-statements": ("month", "tenant"),
    "list-prices": ("tenant", "kind", "currency"),
    "price-books/{book}/rerate": ("month", "tenant"),
}


def asked(client, path: str, names: tuple[str, ...]) -> None:
    client.raise_request_exception = False
    wrong = []
    for name in names:
        for value in MONTHS if name == "month" else (*MOMENTS, "0001-01-01", "9999-12-31", "x" * 500):
            for more in ({}, {"bucket_width": "1M"}) if name in ("start", "end") else ({},):
                answer = client.get(f"{API}/{path}", {name: value} | more)
                if answer.status_code not in (200, 400, 404, 422):
                    wrong.append((name, value, more, answer.status_code))
    assert not wrong, wrong
    assert_problem(client.get(f"{API}/{path}", {"mispelt": "1"}), 422, "invalid")


@pytest.mark.parametrize("path", TENANTS)
def test_a_tenants_query(owner, path):
    asked(owner, path, TENANTS[path])


@pytest.mark.parametrize("path", OPERATORS)
def test_an_operators_query(operator, path):
    with scope.platform("a test"):
        book = book_create(name="tried")
    asked(operator, path.format(book=book.id), OPERATORS[path])


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("policy-exceptions", "in_force"),
        ("budgets", "active"),
        ("allocations", "held"),
    ],
)
def test_what_is_neither_true_nor_false_lists_nothing(owner, path, name):
    for value in ("true", "false", "True", ""):
        assert owner.get(f"{API}/{path}", {name: value}).status_code == 200
    for value in ("maybe", "-1", "2", "1.0"):
        told = assert_problem(owner.get(f"{API}/{path}", {name: value}), 422, "invalid")
        assert told["errors"] == {name: ["Say true or false."]}
