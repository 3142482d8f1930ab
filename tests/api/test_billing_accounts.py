"""Parked accounts through REST: for operators alone."""

from __future__ import annotations

import pytest

from tests.api.contract import API, assert_problem

pytestmark = pytest.mark.django_db


def test_an_operator_parks_and_unparks(finance, owner):
    parked = finance.post(f"{API}/tenants/acme/billing-account:park", {"reason": "disputed"})
    assert parked.status_code == 200, parked.content
    assert (parked.json()["state"], parked.json()["reason"]) == ("parked", "disputed")
    listed = finance.get(f"{API}/billing-accounts?state=parked").json()["results"]
    assert [each["tenant"] for each in listed] == ["acme"]
    unparked = finance.post(f"{API}/tenants/acme/billing-account:unpark").json()
    assert (unparked["state"], unparked["accepted"], unparked["parked_at"]) == ("active", "disputed", None)
    assert finance.get(f"{API}/billing-accounts?state=parked").json()["results"] == []
    again = finance.post(f"{API}/tenants/acme/billing-account:unpark")
    assert_problem(again, 409, "not-parked")


def test_only_operators_know_of_accounts(owner, stranger, anonymous):
    for path in ("tenants/acme/billing-account:park", "tenants/acme/billing-account:unpark"):
        for client in (owner, stranger):
            assert client.post(f"{API}/{path}", {"reason": "x"}).status_code == 404
        assert anonymous.post(f"{API}/{path}", {"reason": "x"}).status_code == 401
    assert owner.get(f"{API}/billing-accounts").status_code == 404


def test_what_is_not_there_or_not_said_is_told(finance, owner):
    assert finance.post(f"{API}/tenants/nobody/billing-account:park", {"reason": "x"}).status_code == 404
    assert_problem(finance.post(f"{API}/tenants/acme/billing-account:park", {}), 422, "invalid")
