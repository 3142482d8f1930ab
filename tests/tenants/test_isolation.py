"""No tenant's rows are seen or written outside its scope: held by the database, not by good manners."""

from __future__ import annotations

import pytest
from django.apps import apps
from django.db import ProgrammingError, connection, transaction

from tenants import scope
from tenants.isolation import EXEMPT
from tenants.models import Project
from tests.factories import make_tenant

pytestmark = pytest.mark.django_db

OURS = ("tenants", "billing", "clusters")


def own_models():
    return [model for model in apps.get_models() if model._meta.app_label in OURS]


def test_every_model_has_a_tenant_column_and_forced_policy_or_a_reason():
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT c.relname FROM pg_class c JOIN pg_policy p ON p.polrelid = c.oid "
            "WHERE c.relrowsecurity AND c.relforcerowsecurity"
        )
        forced = {name for (name,) in cursor.fetchall()}
    wrong = []
    for model in own_models():
        label = model._meta.label
        columns = {field.column for field in model._meta.local_fields}
        isolated = "tenant_id" in columns and model._meta.db_table in forced
        if label in EXEMPT:
            optional = "tenant_id" in columns and model._meta.get_field("tenant").null
            assert "tenant_id" not in columns or (optional and model._meta.db_table in forced), (
                f"{label} has a tenant and must not be exempt"
            )
            assert EXEMPT[label], f"{label} is exempt without a reason"
        elif not isolated:
            wrong.append(label)
    assert wrong == []


def test_exemptions_name_models_that_exist():
    assert set(EXEMPT) <= {model._meta.label for model in own_models()}


def test_the_application_role_is_neither_superuser_nor_owner():
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT rolsuper, rolbypassrls, rolcreaterole FROM pg_roles WHERE rolname = current_user"
        )
        assert cursor.fetchone() == (False, False, False)
        cursor.execute(
            "SELECT count(*) FROM pg_tables WHERE schemaname = 'public' AND tableowner = current_user"
        )
        assert cursor.fetchone() == (0,)


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
