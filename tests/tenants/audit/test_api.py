"""The audit through REST: who may read it, what it is narrowed by, pages, files."""

from __future__ import annotations

import csv
import io
import json

import pytest
from django.core.management import CommandError, call_command
from rest_framework.test import APIClient

from tenants import scope
from tenants.audit.exporting import NAMES, write_csv
from tenants.models import Quota, Role
from tests.api.conftest import client_of
from tests.factories import audit_entries, make_tenant, make_user

pytestmark = pytest.mark.django_db
PATH = "/api/v1/audit-entries"


@pytest.fixture
def tenant(db):
    return make_tenant("acme")


@pytest.fixture
def owner(tenant) -> APIClient:
    client = client_of(tenant)
    for limit in (1, 2, 3):
        with scope.tenant(tenant.id):
            Quota.objects.filter(resource="gpus").update(limit=limit * 10)
    audit_entries(tenant)
    return client


@pytest.fixture
def auditor(db) -> APIClient:
    client = APIClient()
    client.force_login(make_user("olga@example.org", platform_role="auditor"))
    return client


def text_of(answer) -> str:
    return b"".join(answer.streaming_content).decode()


def test_entries_come_newest_first_with_their_place_in_the_chain(owner, tenant):
    found = owner.get(PATH).json()["results"]
    stored = audit_entries(tenant)
    assert [entry["id"] for entry in found] == [str(entry.id) for entry in reversed(stored)]
    assert found[0]["action"] == "quota.change"
    assert (found[0]["before"], found[0]["after"]) == ({"limit": 20}, {"limit": 30})
    assert found[0]["previous"] == found[1]["hash"]
    assert owner.get(f"{PATH}/{found[0]['id']}").json() == found[0]


@pytest.mark.parametrize(
    ("query", "count"),
    [
        ({"action": "quota"}, 5), ({"action": "quota.change"}, 3), ({"action": "quot"}, 0), ({"target": "gpus"}, 4),
        ({"since": "2200-01-01T00:00:00Z"}, 0), ({"until": "2200-01-01T00:00:00Z", "action": "quota.change"}, 3),
        ({"actor": "nobody"}, 0), ({"request_id": "nothing"}, 0),
    ],
)  # fmt: skip
def test_filters_narrow(owner, query, count):
    assert len(owner.get(PATH, query).json()["results"]) == count


def test_pages_by_cursor_lose_nothing(owner, tenant):
    found, url = [], f"{PATH}?page_size=2"
    while url:
        page = owner.get(url).json()
        found, url = found + page["results"], page["next"]
    assert [entry["number"] for entry in found] == [entry.number for entry in reversed(audit_entries(tenant))]


@pytest.mark.parametrize(
    "query", [{"since": "yesterday"}, {"nothing": "1"}, {"cursor": "cD1hYmM="}, {"actor": "a\x00"}]
)
def test_what_is_malformed_is_refused(owner, query):
    assert owner.get(PATH, query).status_code == 422


@pytest.mark.parametrize(
    ("role", "status"), [(Role.ADMIN, 200), (Role.DEVELOPER, 403), (Role.BILLING, 403), (Role.VIEWER, 403)]
)
def test_owners_and_admins_read_it(tenant, role, status):
    client = client_of(tenant, role)
    assert [client.get(path).status_code for path in (PATH, f"{PATH}:export")] == [status, status]


def test_another_tenants_entries_are_not_there(owner, tenant):
    stranger = client_of(make_tenant("other"))
    entry = audit_entries(tenant)[0]
    assert stranger.get(f"{PATH}/{entry.id}").status_code == 404
    assert APIClient().get(PATH).status_code == 401
    assert str(entry.id) not in stranger.get(PATH).text


def test_nothing_is_written_through_it(owner, tenant):
    entry = audit_entries(tenant)[0]
    for method in ("post", "put", "patch", "delete"):
        assert getattr(owner, method)(PATH).status_code == 405
        assert getattr(owner, method)(f"{PATH}/{entry.id}").status_code == 405


def test_the_key_that_asked_stands_on_what_it_did(owner, tenant):
    headers = {"X-Request-Id": "ci-run-000017", "User-Agent": "terraform/1"}
    answer = owner.post("/api/v1/projects", {"name": "Lab", "slug": "lab"}, headers=headers)
    assert answer.status_code == 201, answer.text
    assert answer["X-Request-Id"] == "ci-run-000017"
    entry = audit_entries(tenant)[-1]
    assert (entry.action, entry.actor_kind, entry.actor_name) == ("project.create", "key", "owner key")
    assert (entry.request_id, entry.user_agent, entry.address) == (
        "ci-run-000017",
        "terraform/1",
        "127.0.0.1",
    )


@pytest.mark.parametrize("given", ["", "short", "a" * 65, "with blank inside", "new\nline-0123456"])
def test_an_id_that_is_not_sane_is_replaced(owner, given):
    made = owner.get(PATH, headers={"X-Request-Id": given})["X-Request-Id"]
    assert made != given
    assert len(made) == 32


def test_an_export_can_be_verified_and_what_was_changed_in_it_is_found(owner, tenant, tmp_path):
    lines = text_of(owner.get(f"{PATH}:export")).splitlines()
    assert len(lines) == len(audit_entries(tenant)) - 1  # the export itself is told after
    file = tmp_path / "audit.jsonl"
    file.write_text("\n".join(lines) + "\n")
    out = io.StringIO()
    call_command("audit_verify", "--file", str(file), stdout=out)
    assert "whole" in out.getvalue()
    for index, line in enumerate(lines):
        entry = json.loads(line)
        changed = json.dumps(entry | {"actor_name": "somebody else"})
        file.write_text("\n".join([*lines[:index], changed, *lines[index + 1 :]]))
        out = io.StringIO()
        with pytest.raises(CommandError, match="not what was written"):
            call_command("audit_verify", "--file", str(file), stdout=out)
        assert f"number {entry['number']}," in out.getvalue()


def test_an_export_of_a_search_says_what_it_was_in_the_audit(owner, tenant):
    rows = list(
        csv.DictReader(
            io.StringIO(text_of(owner.get(f"{PATH}:export", {"file": "csv", "action": "quota.change"})))
        )
    )
    assert [row["after"] for row in rows] == ['{"limit": 10}', '{"limit": 20}', '{"limit": 30}']
    told = audit_entries(tenant)[-1]
    assert (told.action, told.facts) == ("audit.export", {"file": "csv", "action": "quota.change"})
    assert told.actor_kind == "key"


def test_a_file_of_no_kind_is_refused(owner):
    assert owner.get(f"{PATH}:export", {"file": "xml"}).status_code == 422


def test_the_platform_reads_its_own_chain_and_a_tenants_which_hears_of_it(auditor, owner, tenant):
    audit_entries()
    path = "/api/v1/platform/audit-entries"
    own = auditor.get(path).json()["results"]
    assert {entry["target_kind"] for entry in own} >= {"person"}
    theirs = auditor.get(path, {"tenant": "acme"}).json()["results"]
    assert theirs[0]["action"] == "quota.change"
    assert auditor.get(f"{path}/{theirs[0]['id']}").json() == theirs[0]
    assert "quota.change" in text_of(auditor.get(f"{path}:export", {"tenant": "acme"}))
    assert auditor.get(path, {"tenant": "nobody"}).status_code == 404
    assert owner.get(path).status_code == 404
    read = [entry for entry in audit_entries(tenant) if entry.action == "read"]
    assert {entry.actor_name for entry in read} == {"olga@example.org"}


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@x", "\tx", "\rx"])
def test_no_text_of_a_table_is_a_formula(text):
    out = io.BytesIO()
    write_csv([[text] * len(NAMES)], out)
    _, row = csv.reader(io.StringIO(out.getvalue().decode(), newline=""))
    assert set(row) == {f"'{text}"}
