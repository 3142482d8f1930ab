"""Rollups tell keys when they were used last. What is known of the time before is the day."""

from django.db import migrations

LAST_DAYS = """
UPDATE tenants_apikey SET last_used_at = used.day
FROM (SELECT tenant_id, key_id, max(bucket) AS day FROM billing_usageday GROUP BY tenant_id, key_id) AS used
WHERE tenants_apikey.id = used.key_id AND tenants_apikey.tenant_id = used.tenant_id
    AND tenants_apikey.last_used_at IS NULL
"""


class Migration(migrations.Migration):
    dependencies = [
        ("billing", "0016_attainment"),
        ("tenants", "0008_keys"),
    ]

    operations = [
        migrations.RunSQL(
            f"SELECT set_config('berth.platform', 'on', true); {LAST_DAYS};"
            " SELECT set_config('berth.platform', '', true);",
            migrations.RunSQL.noop,
        ),
    ]
