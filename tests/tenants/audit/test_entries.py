"""What is written, about whom and into whose chain, whatever path changes the row."""

from __future__ import annotations

import pytest
from django.db import ProgrammingError, connection, transaction

from tenants import acting, scope
from tenants.audit import access, audit
from tenants.keys import key_mint
from tenants.models import ApiKey, AuditEntry, KeyScope, Membership, Project, Quota, Tenant, User
from tests.factories import audit_entries, make_tenant, make_user

pytestmark = pytest.mark.django_db

ANNA = acting.Actor("person", "7", "anna@example.org")


@pytest.fixture
def by_anna():
    with acting.acting(
        acting.Acting(who=ANNA, request_id="req-12345678", address="192.0.2.7", user_agent="test/1")
    ):
        yield


def newest(tenant: Tenant | None = None) -> AuditEntry:
    return audit_entries(tenant)[-1]


def test_a_change_is_told_with_who_where_before_and_after(by_anna):
    tenant = make_tenant("one")
    with scope.tenant(tenant.id):
        project = Project.objects.get()
        project.name = "Renamed"
        project.save()
    entry = newest(tenant)
    assert (entry.action, entry.target_kind, entry.target_id) == (
        "project.change",
        "project",
        str(project.id),
    )
    assert (entry.before, entry.after) == ({"name": "Default"}, {"name": "Renamed"})
    assert (entry.actor_kind, entry.actor_id, entry.actor_name) == ("person", "7", "anna@example.org")
    assert (entry.address, entry.user_agent, entry.request_id) == ("192.0.2.7", "test/1", "req-12345678")
    assert entry.target_name == "Renamed"


def test_what_is_made_is_told_whole_and_without_its_secrets(by_anna):
    tenant = make_tenant("one")
    with scope.tenant(tenant.id):
        key, text = key_mint(name="ci", key_scope=KeyScope.MANAGEMENT, role="viewer")
    entry = newest(tenant)
    assert entry.action == "key.create"
    assert entry.before is None
    assert entry.after["name"] == "ci"
    assert "digest" not in entry.after
    assert text not in str(entry.after)
    assert key.digest not in str(entry.after)


@pytest.mark.parametrize("how", ["queryset", "raw"])
def test_no_path_to_a_row_goes_round_it(by_anna, how):
    tenant = make_tenant("one")
    with scope.tenant(tenant.id):
        if how == "queryset":
            Quota.objects.filter(resource="gpus").update(limit=99)
        else:
            with connection.cursor() as cursor:
                cursor.execute("UPDATE tenants_quota SET \"limit\" = 99 WHERE resource = 'gpus'")
    entry = newest(tenant)
    assert (entry.action, entry.after, entry.actor_name) == (
        "quota.change",
        {"limit": 99},
        "anna@example.org",
    )


def test_an_update_that_changes_nothing_of_note_is_not_told():
    tenant = make_tenant("one")
    with scope.tenant(tenant.id):
        key, _ = key_mint(name="ci", key_scope=KeyScope.MANAGEMENT, role="viewer")
        count = len(audit_entries(tenant))
        ApiKey.objects.filter(id=key.id).update(last_used_at="2026-01-01T00:00:00Z", name="ci")
    assert len(audit_entries(tenant)) == count


def test_revoking_has_a_verb_of_its_own():
    tenant = make_tenant("one")
    with scope.tenant(tenant.id):
        key, _ = key_mint(name="ci", key_scope=KeyScope.MANAGEMENT, role="viewer")
        ApiKey.objects.filter(id=key.id).update(revoked_at="2026-01-01T00:00:00Z")
    assert newest(tenant).action == "key.revoke"


def test_a_deleted_row_is_told_as_it_was():
    tenant, person = make_tenant("one"), make_user()
    with scope.tenant(tenant.id):
        Membership.objects.create(user=person, role="viewer").delete()
    entry = newest(tenant)
    assert (entry.action, entry.after) == ("member.delete", None)
    assert entry.before == {"user_id": str(person.id), "role": "viewer", "managed_by_id": None}


def test_a_new_password_is_told_but_not_its_hash(by_anna):
    person = make_user()
    person.set_password("another long secret")
    person.save()
    entry = newest()
    assert (entry.action, entry.after) == ("person.change", {"password": "(hidden, changed)"})
    assert entry.actor_name == "anna@example.org"


def test_who_acts_is_told_outside_scopes_and_transactions(by_anna):
    person = make_user()
    User.objects.filter(id=person.id).update(name="New name")
    assert (newest().after, newest().actor_id) == ({"name": "New name"}, "7")


def test_a_row_changed_by_nobody_known_is_the_systems():
    make_user()
    assert newest().actor_kind == "system"


def test_who_acts_may_be_found_out_within_the_scope():
    tenant = make_tenant("one")
    with acting.acting(acting.Acting(who=acting.Actor("anonymous"))), scope.tenant(tenant.id):
        acting.identify(ANNA)
        Quota.objects.filter(resource="gpus").update(limit=3)
    assert newest(tenant).actor_name == "anna@example.org"


def test_what_is_rolled_back_was_never_told():
    tenant = make_tenant("one")
    count = len(audit_entries(tenant))
    with scope.tenant(tenant.id), transaction.atomic():
        Quota.objects.filter(resource="gpus").update(limit=3)
        transaction.set_rollback(True)
    assert len(audit_entries(tenant)) == count


def test_each_tenant_has_a_chain_of_its_own():
    one, two = make_tenant("one"), make_tenant("two")
    for tenant in (one, two):
        entries = audit_entries(tenant)
        assert [entry.number for entry in entries] == list(range(1, len(entries) + 1))
        assert entries[0].previous == "0" * 64
        assert [entry.previous for entry in entries[1:]] == [entry.hash for entry in entries[:-1]]


def test_a_tenant_sees_its_chain_only():
    one, two = make_tenant("one"), make_tenant("two")
    audit_entries()
    with scope.tenant(one.id):
        with connection.cursor() as cursor:
            cursor.execute("SELECT DISTINCT tenant_id FROM tenants_auditentry")
            assert cursor.fetchall() == [(one.id,)]
            cursor.execute("SELECT chain FROM tenants_audithead")
            assert cursor.fetchall() == [(one.id,)]
        assert not AuditEntry.objects.filter(tenant_id=two.id).exists()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE tenants_auditentry SET action = 'x'",
        "DELETE FROM tenants_auditentry",
        "TRUNCATE tenants_auditentry",
        "INSERT INTO tenants_auditentry (id) VALUES (gen_random_uuid())",
        "UPDATE tenants_audithead SET number = 0",
        "DELETE FROM tenants_audithead",
        "SELECT * FROM tenants_auditpending",
        "INSERT INTO tenants_auditpending (action) VALUES ('x')",
    ],
)
def test_the_application_may_only_read_and_append(statement):
    make_tenant("one")
    with (
        scope.platform("a test"),
        pytest.raises(ProgrammingError, match="permission denied"),
        transaction.atomic(),
        connection.cursor() as cursor,
    ):
        cursor.execute(statement)


def test_no_setting_keeps_an_act_out_of_it():
    tenant = make_tenant("one")
    count = len(audit_entries(tenant))
    with scope.tenant(tenant.id), connection.cursor() as cursor:
        cursor.execute(
            r"SELECT DISTINCT (regexp_matches(prosrc, 'current_setting\(.(berth\.[a-z_]+)', 'g'))[1] "
            "FROM pg_proc WHERE proname LIKE 'berth_%'"
        )
        names = {name for (name,) in cursor.fetchall()}
        assert "berth.actor" in names
        for name in names - {"berth.actor"}:
            cursor.execute("SELECT set_config(%s, pg_current_xact_id()::text, true)", [name])
        Quota.objects.filter(resource="gpus").update(limit=3)
    assert len(audit_entries(tenant)) == count + 1


def test_an_operators_act_is_told_to_the_platform_and_to_the_tenant_it_was_about():
    tenant, operator = make_tenant("one"), make_user("op@example.org", platform_role="operator")
    audit(operator, "tenant.limits", tenant="one", share=2.5)
    for entry in (newest(), newest(tenant)):
        assert (entry.action, entry.facts) == ("tenant.limits", {"tenant": "one", "share": 2.5})
        assert (entry.actor_kind, entry.actor_name) == ("operator", "op@example.org")
        assert (entry.before, entry.after) == (None, None)


def test_an_act_on_something_of_a_tenant_finds_the_tenant():
    tenant, operator = make_tenant("one"), make_user(platform_role="operator")
    with scope.tenant(tenant.id):
        project = Project.objects.get()
    audit(operator, "project.look", project=str(project.id))
    assert newest(tenant).action == "project.look"


def test_a_look_across_tenants_is_told_once_an_hour(django_capture_on_commit_callbacks):
    tenant, auditor = make_tenant("one"), make_user(platform_role="auditor")
    for _ in range(3):
        with django_capture_on_commit_callbacks(execute=True):
            access(auditor, "tenant one", reason="an audit", tenant_id=tenant.id)
    assert [each.facts for each in audit_entries(action="read")] == [{"reason": "an audit"}]
    assert [each.target_name for each in audit_entries(tenant, action="read")] == ["tenant one"]


def test_a_text_with_a_nul_does_not_stop_the_act():
    audit(None, "test.nul", text="a\x00b")
    assert newest().facts == {"text": "ab"}
