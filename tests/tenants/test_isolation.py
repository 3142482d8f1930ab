"""No tenant's rows are seen or written outside its scope: held by the database, not by good manners."""

from __future__ import annotations

import psycopg
import pytest
from django.core.management import call_command
from django.db import ProgrammingError, connection, transaction

from tenants import scope
from tenants.isolation_checks import faults
from tenants.models import Project
from tests import databases
from tests.factories import make_tenant

pytestmark = pytest.mark.django_db


@pytest.fixture
def owner(django_db_setup):
    """A cursor of the tables' owner, whose changes are taken back."""
    with psycopg.connect(databases.owner_url(django_db_setup)) as connected:
        yield connected.cursor()
        connected.rollback()


def found(cursor) -> list[str]:
    return faults(cursor, role=connection.settings_dict["USER"])


def test_every_table_view_index_function_and_role_is_as_it_must_be(owner):
    assert found(owner) == []


def test_the_check_can_be_run_by_hand(capsys):
    call_command("isolation_check")
    assert "isolated or exempt" in capsys.readouterr().out


OWNED = "id uuid PRIMARY KEY, tenant_id uuid NOT NULL"
SECURED = "ALTER TABLE bad ENABLE ROW LEVEL SECURITY; ALTER TABLE bad FORCE ROW LEVEL SECURITY;"
MINE = "(tenant_id = nullif(current_setting('berth.tenant', true), '')::uuid)"
POLICY = f"CREATE POLICY mine ON bad USING {MINE} WITH CHECK {MINE};"
SOUND = f"CREATE TABLE bad ({OWNED}); {SECURED} {POLICY}"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("CREATE TABLE bad (id uuid)", "bad is no model's table"),
        (f"CREATE TABLE bad ({OWNED})", "bad has a tenant and no forced"),
        (f"CREATE TABLE bad ({OWNED}); ALTER TABLE bad ENABLE ROW LEVEL SECURITY; {POLICY}", "no forced"),
        (f"CREATE TABLE bad ({OWNED}); {SECURED}", "no policy"),
        (f"CREATE TABLE bad (id uuid PRIMARY KEY, tenant_id uuid); {SECURED} {POLICY}", "may be of no tenant"),
        (f"CREATE TABLE bad ({OWNED}); {SECURED} CREATE POLICY all_of_it ON bad USING (true)", "USING true"),
        (f"CREATE TABLE bad ({OWNED}); {SECURED} CREATE POLICY mine ON bad USING {MINE}", "WITH CHECK None"),
        (f"{SOUND} CREATE POLICY more ON bad FOR INSERT WITH CHECK (true)", "WITH CHECK true"),
        (f"{SOUND} CREATE POLICY more ON bad FOR SELECT USING (tenant_id IS NOT NULL)", "whatever the scope"),
        (f"{SOUND} ALTER TABLE bad ADD name text UNIQUE", "unique index bad_name_key of bad leaves the tenant out"),
        (f"{SOUND} CREATE UNIQUE INDEX told ON bad (lower(id::text))", "unique index told"),
        (f"{SOUND} ALTER TABLE bad ADD at timestamptz; CREATE INDEX slow ON bad (at, tenant_id)", "index slow of bad"),
        (f"{SOUND} ALTER TABLE bad ADD number bigserial", "bad.number counts over all tenants"),
        (f"{SOUND} ALTER TABLE bad ADD number int GENERATED ALWAYS AS IDENTITY", "bad.number counts"),
        (f"{SOUND} GRANT TRUNCATE ON bad TO berth_app", "may truncate"),
        ("CREATE VIEW bad AS SELECT * FROM tenants_project", "view bad reads with its owner's rights"),
        ("CREATE MATERIALIZED VIEW bad AS SELECT 1 AS one", "materialised view"),
        (
            "CREATE FUNCTION bad() RETURNS int LANGUAGE sql SECURITY DEFINER AS 'SELECT 1'",
            "function bad runs with its owner's rights and has no reason",
        ),
        ("ALTER FUNCTION berth_usage_drop RESET search_path", "the caller's search_path"),
        ("ALTER TABLE tenants_project NO FORCE ROW LEVEL SECURITY", "tenants_project has a tenant and no forced"),
        ("DROP POLICY tenant_isolation ON clusters_endpoint", "clusters_endpoint has row-level security and no policy"),
        (
            "CREATE TABLE bad PARTITION OF billing_usagesegment FOR VALUES FROM ('2001-01-01') TO ('2001-01-02')",
            "partition bad has no forced",
        ),
        ("CREATE TABLE tenants_project_friends (id uuid)", "tenants_project_friends is no model's table"),
        ("DROP TABLE tenants_user_groups, tenants_user_user_permissions", "OTHER_TABLES names tenants_user_*"),
        ("DROP INDEX mail_due", "NOT_BY_TENANT names mail_due, which does not exist"),
        ("GRANT CREATE ON SCHEMA public TO berth_app", "may make tables"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(owner, change, told):
    owner.execute(change)
    assert [each for each in found(owner) if told in each]


def test_what_is_sound_is_not_named(owner):
    owner.execute(SOUND)
    assert [each for each in found(owner) if "no model's table" not in each] == []


def test_a_view_with_its_readers_rights_is_sound(owner):
    owner.execute("CREATE VIEW good WITH (security_invoker = true) AS SELECT * FROM tenants_project")
    assert found(owner) == []


@pytest.mark.parametrize(
    ("rights", "told"),
    [("BYPASSRLS", "free of row-level security"), ("SUPERUSER", "a superuser"), ("CREATEROLE", "make roles")],
)
def test_a_role_of_too_many_rights_is_named(django_db_setup, rights, told):
    with psycopg.connect(databases.superuser_url(django_db_setup)) as connected:
        cursor = connected.cursor()
        cursor.execute(f"CREATE ROLE isolation_too_much {rights} IN ROLE berth_owner")
        cursor.execute("CREATE TABLE bad (id uuid); ALTER TABLE bad OWNER TO isolation_too_much")
        named = faults(cursor, role="isolation_too_much")
        connected.rollback()
    assert [each for each in named if told in each]
    assert "role isolation_too_much is a member of berth_owner and has its rights" in named
    assert "role isolation_too_much owns bad, so that it may switch its policies off" in named


def test_reading_without_a_scope_raises():
    with pytest.raises(scope.ScopeError, match="outside a tenant scope"):
        Project.objects.count()


def test_a_tenant_sees_only_its_rows_even_by_raw_sql():
    one, two = make_tenant("one"), make_tenant("two")
    with scope.tenant(one.id), connection.cursor() as cursor:
        cursor.execute("SELECT DISTINCT tenant_id FROM tenants_project")
        assert cursor.fetchall() == [(one.id,)]
        cursor.execute("SELECT id FROM tenants_tenant")
        assert cursor.fetchall() == [(one.id,)]
        cursor.execute("UPDATE tenants_project SET name = 'mine now' WHERE tenant_id = %s", [two.id])
        assert cursor.rowcount == 0


def test_without_any_setting_the_database_shows_nothing():
    make_tenant("one")
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM tenants_project")
        assert cursor.fetchone() == (0,)


def test_a_row_cannot_be_written_for_another_tenant():
    one, two = make_tenant("one"), make_tenant("two")
    with (
        scope.tenant(one.id),
        pytest.raises(ProgrammingError, match="row-level security"),
        transaction.atomic(),
    ):
        Project.objects.create(tenant_id=two.id, name="theirs", slug="theirs")


def test_inner_scopes_give_back_the_outer_one():
    one, two = make_tenant("one"), make_tenant("two")
    with scope.tenant(one.id):
        with scope.platform("a test"):
            assert Project.objects.count() == 2
        with scope.tenant(two.id):
            assert Project.objects.get().tenant_id == two.id
        assert Project.objects.get().tenant_id == one.id
        with connection.cursor() as cursor:
            cursor.execute("SELECT tenant_id FROM tenants_project")
            assert cursor.fetchall() == [(one.id,)]


def test_the_platform_scope_wants_a_reason():
    with pytest.raises(scope.ScopeError, match="Say why"), scope.platform(""):
        pass


def test_a_price_is_superseded_never_edited():
    from django.utils import timezone

    from billing.models import Price

    with scope.platform("a test"):
        price = Price.objects.create(
            kind="gpu_hour", amount="1.5", currency="EUR", effective_from=timezone.now()
        )
    price.amount = 2
    with (
        scope.platform("a test"),
        pytest.raises(Exception, match="never change"),
        transaction.atomic(),
    ):
        price.save()
