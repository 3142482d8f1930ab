"""A connection that goes back to a pool carries nobody's scope."""

from __future__ import annotations

from django.db import connection

from tenants import scope
from tenants.models import Project
from tests.factories import make_tenant


def test_a_connection_carries_no_tenant_on_after_the_block(committed_db):
    tenant = make_tenant("one")
    with scope.tenant(tenant.id):
        assert Project.objects.count() == 1
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT current_setting('berth.tenant', true), current_setting('berth.platform', true)"
        )
        assert set(cursor.fetchone()) <= {"", None}
        cursor.execute("SELECT count(*) FROM tenants_project")
        assert cursor.fetchone() == (0,)
