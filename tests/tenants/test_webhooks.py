"""Webhooks and e-mail: signed, retried, at least once under one id, and never more than is meant."""

from __future__ import annotations

import contextlib
import datetime as dt
import itertools
import json
import os
import random
import signal
import smtplib
import socket
import subprocess
import sys
import threading
import uuid
from decimal import Decimal

import pytest
from django.core import mail as outbox
from django.core.mail.backends.base import BaseEmailBackend
from django.utils import timezone
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from tenants import scope, webhooks
from tenants.errors import Conflict, Invalid
from tenants.members import member_add
from tenants.models import Mail, OutboxState, Role, WebhookDelivery, WebhookEndpoint
from tenants.webhooks import delivery as delivering
from tenants.webhooks import services, tasks
from tenants.webhooks.attempts import KEEP_TRYING, LEASE, next_attempt
from tenants.webhooks.delivery import webhook_deliver
from tenants.webhooks.events import EVENT_TYPES
from tenants.webhooks.mailing import mail_send_due
from tests.factories import make_tenant, make_user
from tests.tenants.receiver import receiving

NOW = timezone.now()
SPENT = "budget.spent"


@pytest.fixture
def tenant(db):
    return make_tenant("acme", owner=make_user("olga@acme.example"))


@pytest.fixture
def receiver():
    with receiving() as found:
        yield found


@pytest.fixture
def hook(tenant, receiver):
    """A webhook of the tenant's that is told of spent budgets, with its secret."""
    with scope.tenant(tenant.id):
        endpoint, secret = services.webhook_create(name="Ops", url=receiver.url, event_types=[SPENT])
    endpoint.shown = secret
    return endpoint


def publish(tenant, event_type: str = SPENT, *, now: dt.datetime = NOW, **more) -> uuid.UUID:
    with scope.tenant(tenant.id):
        data = {"limit": Decimal("12.50"), "at": now, "id": uuid.UUID(int=7)}
        return webhooks.publish(event_type, data, tenant_id=tenant.id, now=now, **more)


def verify(secret: str, headers: dict[str, str], body: bytes) -> None:
    """Check a signature of a moment that the clock of the test gave; the library's own check wants today's."""
    at = dt.datetime.fromtimestamp(int(headers["webhook-timestamp"]), dt.UTC)
    expected = Webhook(secret).sign(headers["webhook-id"], at, body.decode())
    if expected not in headers["webhook-signature"].split():
        raise WebhookVerificationError("no signature matches")


def delivery(tenant) -> WebhookDelivery:
    with scope.tenant(tenant.id):
        return WebhookDelivery.objects.get()


def fresh(hook) -> WebhookEndpoint:
    with scope.platform("a test"):
        return WebhookEndpoint.objects.get(id=hook.id)


def test_an_event_arrives_signed_as_standard_webhooks_say(tenant, hook, receiver):
    event_id = publish(tenant)

    now = timezone.now()
    assert webhook_deliver(endpoint_id=hook.id, now=now) == 1

    ((headers, body),) = receiver.requests
    told = Webhook(hook.shown).verify(body, headers)
    assert told == json.loads(body)
    assert told["type"] == SPENT
    assert told["data"] == {
        "limit": "12.50", "at": told["timestamp"], "id": "00000000-0000-0000-0000-000000000007"
    }  # fmt: skip
    assert headers["webhook-id"] == f"msg_{event_id.hex}"
    assert headers["content-type"] == "application/json"
    with pytest.raises(WebhookVerificationError):
        Webhook(hook.shown).verify(body.replace(b"12.50", b"99.99"), headers)
    found = delivery(tenant)
    assert (found.state, found.attempts, found.sent_at) == (OutboxState.SENT, 1, now)
    assert (found.log[0]["status"], found.log[0]["note"]) == (200, "thanks")
    assert webhook_deliver(endpoint_id=hook.id, now=NOW + KEEP_TRYING) == 0


def test_only_webhooks_that_want_an_event_get_it_and_only_their_tenants(tenant, hook, receiver):
    other = make_tenant("other")
    with scope.tenant(other.id):
        services.webhook_create(name="Theirs", url=receiver.url, event_types=list(EVENT_TYPES))
    with scope.tenant(tenant.id):
        services.webhook_create(name="Off", url=receiver.url, event_types=[SPENT], active=False)
    publish(tenant, "statement.finalized")
    with scope.platform("a test"):
        assert not WebhookDelivery.objects.exists()
    publish(tenant)
    with scope.platform("a test"):
        assert [each.endpoint_id for each in WebhookDelivery.objects.all()] == [hook.id]
    with scope.tenant(other.id):
        assert not WebhookDelivery.objects.exists()


def test_an_event_of_an_unknown_type_is_a_mistake(tenant):
    with pytest.raises(ValueError, match=r"budget\.spend"):
        publish(tenant, "budget.spend")


def test_a_fact_that_is_undone_is_told_to_nobody(tenant, hook):
    class UndoneError(Exception):
        pass

    def undo() -> None:
        with scope.tenant(tenant.id):
            webhooks.publish(SPENT, {}, tenant_id=tenant.id)
            raise UndoneError

    with pytest.raises(UndoneError):
        undo()
    with scope.tenant(tenant.id):
        assert not WebhookDelivery.objects.exists()


def test_a_fact_told_twice_under_one_id_is_sent_once(tenant, hook):
    for _ in range(2):
        publish(tenant, event_id=uuid.UUID(int=1))
    with scope.tenant(tenant.id):
        assert WebhookDelivery.objects.count() == 1


def test_what_fails_comes_again_later_with_the_same_id_and_body_until_it_is_taken(tenant, hook, receiver):
    receiver.answers = [(500, {}), (429, {"Retry-After": "3600"}), (307, {"Location": receiver.url})]
    publish(tenant)
    moment, waits = NOW, []
    for _ in range(4):
        assert webhook_deliver(endpoint_id=hook.id, now=moment) == 1
        found = delivery(tenant)
        waits.append(found.due_at - moment)
        assert webhook_deliver(endpoint_id=hook.id, now=found.due_at - dt.timedelta.resolution) == 0
        moment = found.due_at
    assert found.state == OutboxState.SENT
    assert [entry["status"] for entry in found.log] == [500, 429, 307, 200]
    assert waits[0] < dt.timedelta(seconds=7)
    assert waits[1] == dt.timedelta(hours=1)
    assert {headers["webhook-id"] for headers, _ in receiver.requests} == {f"msg_{found.event_id.hex}"}
    assert len({body for _, body in receiver.requests}) == 1
    for headers, body in receiver.requests:
        verify(hook.shown, headers, body)
    assert fresh(hook).failing_since is None


def test_after_three_days_an_event_is_given_up_and_can_be_sent_again_by_hand(tenant, hook, receiver):
    receiver.answers = [(503, {})] * 100
    publish(tenant)
    moment, attempts = NOW, 0
    while (found := delivery(tenant)).state == OutboxState.PENDING:
        moment = found.due_at
        attempts += webhook_deliver(endpoint_id=hook.id, now=moment)
    assert found.state == OutboxState.GIVEN_UP
    assert moment - NOW == KEEP_TRYING
    assert 10 <= attempts <= 16
    receiver.answers = []
    with scope.tenant(tenant.id):
        services.delivery_redeliver(delivery=found, now=moment)
    assert webhook_deliver(endpoint_id=hook.id, now=moment) == 1
    assert delivery(tenant).state == OutboxState.SENT
    assert len({headers["webhook-id"] for headers, _ in receiver.requests}) == 1


def test_waits_grow_differ_and_end_within_three_days():
    for seed in range(50):
        luck, moment, waits = random.Random(seed), NOW, []
        while (following := next_attempt(len(waits) + 1, since=NOW, now=moment, luck=luck)) is not None:
            waits.append(following - moment)
            moment = following
        assert moment - NOW == KEEP_TRYING
        assert all(wait.total_seconds() >= 4 for wait in waits[:-1])
        assert all(b > a for a, b in itertools.pairwise(waits[:7]))
        assert max(waits) <= dt.timedelta(hours=14.4)


def test_for_a_day_after_a_rotation_both_secrets_sign(tenant, hook, receiver):
    with scope.tenant(tenant.id):
        newer = services.webhook_rotate(endpoint=hook, now=NOW)
    assert newer != hook.shown
    publish(tenant)
    webhook_deliver(endpoint_id=hook.id, now=NOW)
    for secret in (hook.shown, newer):
        verify(secret, *receiver.requests[0])
    with scope.tenant(tenant.id):
        services.webhook_rotate(endpoint=hook, now=NOW - services.BOTH_SIGN)
    publish(tenant, event_id=uuid.UUID(int=2))
    webhook_deliver(endpoint_id=hook.id, now=NOW)
    with pytest.raises(WebhookVerificationError):
        verify(newer, *receiver.requests[1])


def test_secrets_rest_sealed_for_their_row(tenant, hook):
    row = fresh(hook)
    assert hook.shown.encode() not in bytes(row.secret)
    assert hook.shown.startswith("whsec_")
    with scope.tenant(tenant.id):
        other, _ = services.webhook_create(name="Other", url=hook.url, event_types=[SPENT])
        WebhookEndpoint.objects.filter(id=other.id).update(secret=row.secret)
        services.webhook_test(endpoint=other, now=NOW)
    webhook_deliver(endpoint_id=other.id, now=NOW)
    assert delivery(tenant).log[0]["note"].startswith("The secret cannot be opened")


@pytest.mark.parametrize("gone", [False, True])
def test_what_is_gone_or_fails_for_days_is_disabled_and_people_are_told(tenant, hook, receiver, gone):
    receiver.answers = [(410 if gone else 500, {})] * 100
    days = 0 if gone else 5
    for day in range(days + 1):
        moment = NOW + dt.timedelta(days=day)
        publish(tenant, now=moment, event_id=uuid.UUID(int=day + 1))
        webhook_deliver(endpoint_id=hook.id, now=moment)
    row = fresh(hook)
    assert (row.active, row.disabled_at) == (False, moment)
    with scope.tenant(tenant.id):
        told = Mail.objects.get()
        assert told.recipient == "olga@acme.example"
        assert row.disabled_reason in told.text
        with pytest.raises(Conflict):
            services.webhook_test(endpoint=row)
        row = services.webhook_change(endpoint=row, active=True)
    assert (row.disabled_at, row.failing_since, row.disabled_reason) == (None, None, "")


def test_a_webhook_whose_name_leads_inside_later_is_not_reached(tenant, hook, receiver, settings):
    publish(tenant)
    settings.OUTSIDE_ALLOW_LOOPBACK = False
    webhook_deliver(endpoint_id=hook.id, now=NOW)
    found = delivery(tenant)
    assert receiver.requests == []
    assert "private network" in found.log[0]["note"]
    assert found.state == OutboxState.PENDING


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"url": "http://169.254.169.254/latest"}, "url"), ({"url": "ftp://x"}, "url"), ({"name": ""}, "name"),
        ({"event_types": []}, "event_types"), ({"event_types": ["webhook.test"]}, "event_types"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_refused_beside_its_field(tenant, hook, change, field):
    with scope.tenant(tenant.id):
        with pytest.raises(Invalid) as made:
            services.webhook_create(**{"name": "X", "url": hook.url, "event_types": [SPENT]} | change)
        with pytest.raises(Invalid) as changed:
            services.webhook_change(endpoint=hook, **change)
    assert list(made.value.errors) == list(changed.value.errors) == [field]


def test_the_sweeper_finds_what_nobody_was_woken_for(tenant, hook, receiver, monkeypatch):
    woken: list = []
    monkeypatch.setattr("tenants.webhooks.wake._enqueue", lambda task, *args: woken.append((task, *args)))
    publish(tenant)
    with scope.tenant(tenant.id):
        webhooks.mail(tenant_id=tenant.id, event_type=SPENT, subject="s", text="t")
    assert tasks.sweep() == 2
    assert woken == [("tenants.webhooks.tasks.deliver", str(hook.id)), ("tenants.webhooks.tasks.send_mail",)]
    with scope.tenant(tenant.id):
        services.webhook_change(endpoint=hook, active=False)
    assert tasks.sweep() == 1


def test_a_receiver_that_is_slow_holds_a_worker_for_a_bounded_time(tenant, hook, receiver, monkeypatch):
    for _ in range(3):
        publish(tenant)
    monkeypatch.setattr(delivering, "LONGEST_S", 0.0)
    assert webhook_deliver(endpoint_id=hook.id, now=NOW) == 0
    monkeypatch.setattr(delivering, "LONGEST_S", 60.0)
    assert webhook_deliver(endpoint_id=hook.id, now=NOW) == 3


@pytest.mark.parametrize("line", [b"HT\0TP/1.1 200 OK", b"HTTP/1.1 2\x000 OK", b"\xff\xfe"])
def test_an_answer_that_is_no_http_is_noted_as_a_failure(tenant, hook, line):
    with scope.tenant(tenant.id), answering(line + b"\r\n\r\n") as url:
        WebhookEndpoint.objects.update(url=url)
        publish(tenant)
        assert webhook_deliver(endpoint_id=hook.id, now=NOW) == 1
    found = delivery(tenant)
    assert (found.attempts, found.log[0]["status"]) == (1, None)
    assert found.log[0]["note"]
    assert fresh(hook).failing_since is not None


@contextlib.contextmanager
def answering(data: bytes):
    """Answer one request with ``data``, whatever it is; gives the URL."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def answer() -> None:
            with contextlib.suppress(OSError):
                peer, _ = listening.accept()
                with peer:
                    peer.recv(65536)
                    peer.sendall(data)

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/"
        listening.close()
        thread.join(10)


def test_what_was_sent_long_ago_is_forgotten(tenant, hook):
    publish(tenant)
    assert tasks.forget_sent() == 0
    with scope.tenant(tenant.id):
        long_ago = timezone.now() - tasks.KEPT - dt.timedelta(days=1)
        WebhookDelivery.objects.update(created_at=long_ago, since=long_ago)
    assert tasks.forget_sent() == 1


def test_mail_goes_to_those_who_care_or_to_whom_is_named(tenant):
    with scope.tenant(tenant.id):
        for role in Role.values:
            member_add(email=f"{role}@acme.example", role=role, granter_role=Role.OWNER)
        assert webhooks.mail(tenant_id=tenant.id, event_type=SPENT, subject="A\nb", text="Text") == 4
        webhooks.mail(
            tenant_id=tenant.id, event_type=SPENT, subject="C", text="T", recipients=["X@y.example"]
        )
    assert mail_send_due(now=timezone.now()) == 5
    assert mail_send_due(now=timezone.now() + KEEP_TRYING) == 0
    to = [address for message in outbox.outbox for address in message.to]
    assert sorted(to) == [
        "admin@acme.example", "billing@acme.example", "olga@acme.example", "owner@acme.example", "x@y.example"
    ]  # fmt: skip
    assert {message.subject for message in outbox.outbox} == {"A b", "C"}


class OneFails(BaseEmailBackend):
    """A mail server that refuses one recipient."""

    taken: list[tuple[str, str]] = []

    def send_messages(self, messages) -> int:
        for message in messages:
            if message.to == ["broken@acme.example"]:
                raise smtplib.SMTPRecipientsRefused({"broken@acme.example": (550, b"no such mailbox")})
            self.taken.append((message.to[0], message.extra_headers["Message-ID"]))
        return len(messages)


def test_one_who_cannot_be_reached_keeps_mail_from_nobody_and_is_tried_again(tenant, settings):
    settings.EMAIL_BACKEND = f"{__name__}.OneFails"
    OneFails.taken.clear()
    with scope.tenant(tenant.id):
        webhooks.mail(
            tenant_id=tenant.id, event_type=SPENT, subject="S", text="T", now=NOW,
            recipients=["broken@acme.example", "fine@acme.example"],
        )  # fmt: skip
    assert mail_send_due(now=NOW) == 1
    assert [address for address, _ in OneFails.taken] == ["fine@acme.example"]
    moment = NOW
    while True:
        with scope.tenant(tenant.id):
            row = Mail.objects.get(recipient="broken@acme.example")
        if row.state != OutboxState.PENDING:
            break
        moment = row.due_at
        mail_send_due(now=moment)
    assert row.state == OutboxState.GIVEN_UP
    assert "no such mailbox" in row.note
    assert moment - NOW == KEEP_TRYING
    assert len(OneFails.taken) == 1


def test_an_address_that_mail_cannot_carry_keeps_it_from_nobody(tenant):
    with scope.tenant(tenant.id):
        webhooks.mail(
            tenant_id=tenant.id, event_type=SPENT, subject="S", text="T", now=NOW,
            recipients=[f"a@{'ü' * 60}.example", "fine@acme.example", f"z@{'ü' * 60}.example"],
        )  # fmt: skip
    assert mail_send_due(now=NOW) == 1
    assert [each.to for each in outbox.outbox] == [["fine@acme.example"]]
    with scope.tenant(tenant.id):
        failed = Mail.objects.exclude(recipient="fine@acme.example")
        assert [(row.attempts, row.due_at > NOW, bool(row.note)) for row in failed] == [(1, True, True)] * 2


SENDER = """
import sys, django
django.setup()
from tenants.webhooks.delivery import webhook_deliver
webhook_deliver(endpoint_id=sys.argv[1])
"""


def test_a_sender_killed_over_its_work_leaves_it_to_the_next_under_the_same_id(committed_db):
    tenant = make_tenant("acme")
    with receiving() as receiver:
        receiver.hold = threading.Event()
        with scope.tenant(tenant.id):
            endpoint, secret = services.webhook_create(name="Ops", url=receiver.url, event_types=[SPENT])
            webhooks.publish(SPENT, {"n": 1}, tenant_id=tenant.id)
        environment = os.environ | {
            "DATABASE_URL": committed_db, "DJANGO_SETTINGS_MODULE": "portal.settings.test"
        }  # fmt: skip
        process = subprocess.Popen([sys.executable, "-c", SENDER, str(endpoint.id)], env=environment)
        try:
            assert receiver.came.wait(60)
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()
        receiver.hold.set()
        assert delivery(tenant).attempts == 0
        assert webhook_deliver(endpoint_id=endpoint.id) == 0
        assert webhook_deliver(endpoint_id=endpoint.id, now=timezone.now() + LEASE) == 1
    assert delivery(tenant).state == OutboxState.SENT
    assert len(receiver.requests) == 2
    assert len({headers["webhook-id"] for headers, _ in receiver.requests}) == 1
    Webhook(secret).verify(receiver.requests[0][1], receiver.requests[0][0])


def test_a_text_that_does_not_open_keeps_mail_from_nobody_and_waits_for_its_key(tenant, settings):
    with scope.tenant(tenant.id):
        for recipient in ("first@acme.example", "second@acme.example"):
            webhooks.mail(
                tenant_id=tenant.id, event_type=SPENT, subject="S", text="the link", now=NOW,
                recipients=[recipient], secret=True,
            )  # fmt: skip
            settings.SEALING_KEYS = {**settings.SEALING_KEYS, 2: b"2" * 32}
    first_key = settings.SEALING_KEYS[1]
    settings.SEALING_KEYS = {2: b"2" * 32}
    assert mail_send_due(now=NOW) == 1
    assert [each.to for each in outbox.outbox] == [["second@acme.example"]]
    with scope.tenant(tenant.id):
        waiting = Mail.objects.get(recipient="first@acme.example")
    assert "environment:1" in waiting.note
    settings.SEALING_KEYS = {1: first_key, **settings.SEALING_KEYS}
    assert mail_send_due(now=waiting.due_at) == 1
    assert outbox.outbox[-1].body == "the link"
