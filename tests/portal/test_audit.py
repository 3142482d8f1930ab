"""The audit's pages: found, read with before beside after, exported; by whom."""

from __future__ import annotations

import pytest

from tenants import scope
from tenants.models import Project, Quota
from tests.factories import audit_entries, make_user

pytestmark = pytest.mark.django_db
PAGE = "/t/nord/audit"


@pytest.fixture
def audited(world):
    with scope.tenant(world.tenant.id):
        Quota.objects.filter(resource="gpus").update(limit=77)
    return audit_entries(world.tenant)[-1]


def test_the_list_leads_to_an_entry_with_before_and_after(world, audited):
    browser = world.browser("owner")
    text = browser.get(PAGE).text
    assert f'href="{PAGE}/{audited.id}"' in text
    entry = browser.get(f"{PAGE}/{audited.id}").text
    for told in ("quota.change", "77", audited.hash, audited.previous):
        assert told in entry


def test_what_a_page_did_names_who_did_it(world):
    browser = world.browser("owner")
    browser.post("/t/nord/projects/new", {"name": "Lab", "slug": "lab", "cost_centre": ""})
    entry = audit_entries(world.tenant)[-1]
    assert (entry.action, entry.actor_kind, entry.actor_name) == (
        "project.create",
        "person",
        "owner@nord.example",
    )
    assert entry.request_id
    assert entry.address == "127.0.0.1"


def test_a_search_narrows_and_its_address_is_kept_in_the_downloads(world, audited):
    browser = world.browser("owner")
    text = browser.get(PAGE, {"action": "quota.change"}).text
    assert text.count("quota.change</a>") == 1
    assert "project.create" not in text
    assert "action=quota.change&amp;file=csv" in text
    assert "Nothing was found" in browser.get(PAGE, {"actor": "nobody"}).text
    assert browser.get(PAGE, {"since": "not a time"}).status_code == 200


def test_pages_follow_each_other(world):
    for number in range(60):
        with scope.tenant(world.tenant.id):
            Project.objects.filter(slug="default").update(name=f"Name {number}")
    audit_entries(world.tenant)
    browser = world.browser("owner")
    first = browser.get(PAGE)
    second = browser.get(first.context["older_url"])
    back = browser.get(second.context["newer_url"])
    shown = [[row["entry"].number for row in page.context["rows"]] for page in (first, second, back)]
    assert shown[0] == shown[2]
    assert shown[0][-1] == shown[1][0] + 1


def test_a_download_is_a_file(world, audited):
    answer = world.browser("owner").get(f"{PAGE}/export", {"file": "jsonl", "action": "quota.change"})
    assert answer["Content-Disposition"] == 'attachment; filename="audit-nord.jsonl"'
    assert audited.hash in b"".join(answer.streaming_content).decode()


@pytest.mark.parametrize(("who", "status"), [("viewer", 403), ("developer", 403), ("stranger", 404)])
def test_others_do_not_read_it(world, audited, who, status):
    browser = world.browser(who)
    for path in (PAGE, f"{PAGE}/{audited.id}", f"{PAGE}/export"):
        assert browser.get(path).status_code == status


def test_the_console_shows_the_platforms_audit_and_a_tenants(world, audited):
    world.people["olga"] = make_user("olga@example.org", platform_role="auditor")
    browser = world.browser("olga")
    assert "person.create" in browser.get("/console/audit", {"action": "person"}).text
    assert "quota.change" in browser.get("/console/audit", {"tenant": "nord"}).text
    assert "quota.change" in browser.get(f"/console/audit/{audited.id}").text
    read = [entry for entry in audit_entries(world.tenant) if entry.action == "read"]
    assert [entry.actor_name for entry in read] != []
    assert browser.get("/console/audit", {"tenant": "nobody"}).status_code == 404
    assert world.browser("owner").get("/console/audit").status_code == 404
