"""Row-level security of the tenants room, and the trigger function that refuses changes."""

from django.db import migrations

from tenants.isolation import isolate

REFUSE_CHANGE = """
CREATE FUNCTION berth_refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% rows never change; add a new row that supersedes the old one', TG_TABLE_NAME
        USING ERRCODE = 'restrict_violation';
END $$;
"""

TENANT_ROW = """(
    id = (SELECT nullif(current_setting('berth.tenant', true), '')::uuid)
    OR (SELECT current_setting('berth.platform', true)) = 'on'
)"""


class Migration(migrations.Migration):
    dependencies = [("tenants", "0001_initial")]

    operations = [
        migrations.RunSQL(REFUSE_CHANGE, "DROP FUNCTION berth_refuse_change();"),
        isolate("tenants_tenant", TENANT_ROW),
        isolate("tenants_project"),
        isolate("tenants_membership"),
        isolate("tenants_apikey"),
        isolate("tenants_quota"),
        isolate("tenants_idempotencyrecord"),
    ]
