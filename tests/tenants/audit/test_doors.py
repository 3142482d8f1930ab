"""Who stands on an entry, door by door: tasks, commands, gateways, the admin, the sign-in page."""

from __future__ import annotations

import getpass
import logging
import sys

import pytest
from celery import shared_task
from celery.signals import before_task_publish
from django.db import connections
from django.test import Client

import manage
from portal import celery  # noqa: F401  (its signals are what is tested)
from tenants import acting, scope
from tenants.models import Membership, Quota, Role, User
from tenants.requests import RequestId
from tests.factories import audit_entries, make_tenant, make_user

ANNA = acting.Actor("person", "7", "anna@example.org")


@shared_task
def set_quota(tenant_id: str) -> None:
    with scope.tenant(tenant_id):
        Quota.objects.filter(resource="gpus").update(limit=55)


@pytest.mark.django_db
def test_a_task_is_told_with_who_enqueued_it_and_in_which_request():
    tenant, headers = make_tenant("one"), {}
    with acting.acting(acting.Acting(who=ANNA, request_id="req-12345678")):
        before_task_publish.send(sender="x", headers=headers, body=())
    set_quota.apply(args=[str(tenant.id)], headers=headers).get()
    entry = audit_entries(tenant)[-1]
    assert (entry.actor_kind, entry.actor_name) == ("task", set_quota.name)
    assert (entry.on_behalf, entry.request_id) == ("anna@example.org", "req-12345678")
    assert acting.actor() == acting.NOBODY


@pytest.mark.django_db
def test_a_task_of_nobodys_is_told_as_a_task():
    tenant = make_tenant("one")
    set_quota.apply(args=[str(tenant.id)]).get()
    entry = audit_entries(tenant)[-1]
    assert (entry.actor_kind, entry.on_behalf, entry.request_id) == ("task", "", "")


@pytest.mark.django_db
def test_what_the_admin_changes_is_an_operators():
    tenant = make_tenant("one")
    boss = User.objects.create_superuser("boss@example.org", "a long enough secret")
    client = Client()
    client.force_login(boss)
    client.post(
        f"/admin/tenants/tenant/{tenant.id}/change/",
        {"name": "Renamed", "time_zone": "UTC", "state": "active", "files_days": "7", "share": "1"},
    )
    entry = audit_entries(tenant)[-1]
    assert (entry.action, entry.after) == ("tenant.change", {"name": "Renamed"})
    assert (entry.actor_kind, entry.actor_name) == ("operator", "boss@example.org")


@pytest.mark.django_db
def test_a_command_is_told_with_the_account_that_ran_it(monkeypatch):
    make_user("somebody@example.org")
    script = "from tenants.models import User; User.objects.update(name='New')"
    monkeypatch.setattr(sys, "argv", ["manage.py", "shell", "-v0", "-c", script])
    monkeypatch.setattr(connections, "close_all", lambda: None)  # the test's transaction goes on
    manage.main()
    (entry,) = audit_entries(action="person.change")
    assert (entry.actor_kind, entry.actor_name, entry.on_behalf) == ("command", "shell", getpass.getuser())
    assert (entry.before, entry.after) == ({"name": ""}, {"name": "New"})


def test_lines_of_the_log_carry_the_request():
    record = logging.LogRecord("x", logging.INFO, "x.py", 1, "text", None, None)
    with acting.acting(acting.Acting(request_id="req-12345678")):
        RequestId().filter(record)
    assert record.request_id == "req-12345678"
    RequestId().filter(record)
    assert record.request_id == "-"


@pytest.mark.django_db
def test_who_is_refused_what_is_in_the_log_and_no_line_can_be_forged(client, caplog):
    caplog.set_level(logging.INFO, "berth.refused")
    client.get("/api/v1/projects", headers={"Authorization": "Bearer berth_wrong"})
    client.get("/api/v1/projects/%0aERROR%20forged", headers={"Authorization": "Bearer berth_wrong"})
    tenant, viewer = make_tenant("one"), make_user("vera@one.example")
    with scope.tenant(tenant.id):
        Membership.objects.create(user=viewer, role=Role.VIEWER)
    client.force_login(viewer)
    client.post("/api/v1/projects", {"name": "x"}, content_type="application/json")
    lines = [record.getMessage() for record in caplog.records if record.name == "berth.refused"]
    assert "status=401 method=GET path='/api/v1/projects'" in lines[0]
    assert all("\n" not in line for line in lines)
    assert "status=403 method=POST" in lines[-1]
    assert "vera@one.example" in lines[-1]
