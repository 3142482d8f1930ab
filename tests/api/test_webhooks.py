"""Webhooks through the REST API."""

from __future__ import annotations

import pytest

from tenants import scope
from tenants.models import OutboxState, Role, WebhookDelivery
from tenants.webhooks.delivery import webhook_deliver
from tests.api.conftest import client_of
from tests.api.contract import API, EditContract, assert_problem
from tests.tenants.receiver import receiving

pytestmark = pytest.mark.django_db
BODY = {"name": "Ops", "url": "https://8.8.8.8/hook", "event_types": ["budget.spent"]}


class TestWebhooks(EditContract):
    path = "webhooks"
    changes = ({"active": False}, {"name": "Renamed", "event_types": ["account.parked", "budget.spent"]})
    may_create = frozenset({Role.OWNER, Role.ADMIN})

    def body(self, number: int = 0) -> dict:
        return BODY | {"name": f"Hook {number}"}

    def test_every_role_may_read(self, owner, tenant):
        """Owners and admins alone: an address may be a secret."""
        made = self.make(owner)
        for role in Role.values:
            answer = client_of(tenant, role).get(f"{API}/webhooks/{made}")
            assert answer.status_code == (200 if role in self.may_create else 403)


def test_a_secret_is_shown_when_it_is_made_and_rotated_and_never_else(owner):
    made = owner.post(f"{API}/webhooks", BODY).json()
    path = f"{API}/webhooks/{made['id']}"
    assert made["secret"].startswith("whsec_")
    assert "secret" not in owner.get(path).json()
    rotated = owner.post(f"{path}/rotate").json()
    assert rotated["secret"] not in ("", made["secret"])
    assert rotated["previous_until"] is not None


def test_a_test_is_delivered_listed_and_sent_again(owner, tenant):
    with receiving() as receiver:
        made = owner.post(f"{API}/webhooks", BODY | {"url": receiver.url}).json()
        path = f"{API}/webhooks/{made['id']}"
        sent = owner.post(f"{path}/test")
        assert (sent.status_code, sent.json()["state"]) == (202, "pending")
        webhook_deliver(endpoint_id=made["id"])
        (listed,) = owner.get(f"{path}/deliveries").json()["results"]
        assert (listed["state"], listed["event_type"], listed["log"][0]["status"]) == (
            "sent",
            "webhook.test",
            200,
        )
        again = owner.post(f"{API}/webhooks/deliveries/{listed['id']}/redeliver")
        assert (again.status_code, again.json()["event_id"]) == (202, listed["event_id"])
        webhook_deliver(endpoint_id=made["id"])
    assert len(receiver.requests) == 2
    with scope.tenant(tenant.id):
        assert WebhookDelivery.objects.get().state == OutboxState.SENT


def test_another_tenants_webhook_is_not_found_at_any_of_its_doors(owner, stranger):
    made = owner.post(f"{API}/webhooks", BODY).json()["id"]
    owner.post(f"{API}/webhooks/{made}/test")
    delivery = owner.get(f"{API}/webhooks/{made}/deliveries").json()["results"][0]["id"]
    assert_problem(stranger.get(f"{API}/webhooks/{made}/deliveries"), 404, "not-found")
    for path in (f"{made}/rotate", f"{made}/test", f"deliveries/{delivery}/redeliver"):
        assert_problem(stranger.post(f"{API}/webhooks/{path}"), 404, "not-found")
    assert_problem(stranger.delete(f"{API}/webhooks/{made}"), 404, "not-found")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("url", "http://10.0.0.1/x"),
        ("url", "https://me:you@8.8.8.8/"),
        ("event_types", ["x"]),
        ("event_types", []),
    ],
)
def test_a_wrong_value_is_named(owner, field, value):
    problem = assert_problem(owner.post(f"{API}/webhooks", BODY | {field: value}), 422, "invalid")
    assert [name.partition(".")[0] for name in problem["errors"]] == [field]


def test_an_inactive_webhook_is_not_tested(owner):
    made = owner.post(f"{API}/webhooks", BODY | {"active": False}).json()["id"]
    assert_problem(owner.post(f"{API}/webhooks/{made}/test"), 409, "conflict")
