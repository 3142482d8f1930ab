"""Row-level security of the clusters room, and the wake-up of waiting gateways."""

from django.db import migrations

from tenants.isolation import isolate, never_changes

# NOTIFY is delivered at commit, so a gateway's long poll never reads before the change is visible.
WAKE = """
CREATE FUNCTION berth_wake_gateways() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('berth_snapshot', '');
    RETURN NULL;
END $$;
"""
WATCHED = {
    "tenants_apikey": "INSERT OR DELETE OR UPDATE OF revoked_at, expires_at, digest, project_id",
    "tenants_tenant": "UPDATE OF state",
    "clusters_endpoint": "INSERT OR UPDATE OF state, name, project_id, context_tokens, deleted_at",
    "clusters_replica": "INSERT OR DELETE OR UPDATE OF phase, url",
    "clusters_sloclass": "UPDATE",
    "clusters_catalogmodel": "UPDATE",
    "billing_price": "INSERT",
}


class Migration(migrations.Migration):
    dependencies = [
        ("clusters", "0001_initial"),
        ("tenants", "0002_isolation"),
        ("billing", "0002_isolation"),
    ]

    operations = [
        isolate("clusters_endpoint"),
        isolate("clusters_revision"),
        isolate("clusters_condition"),
        isolate("clusters_endpointevent"),
        isolate("clusters_replica"),
        isolate("clusters_reservation"),
        never_changes(
            "clusters_revision",
            "endpoint_id, number, cluster_id, pool_id, deployment, runtime, gpu_type, precision, "
            "tensor_parallel, pipeline_parallel, price_factor, context_tokens, max_batch_size, plan",
        ),
        migrations.RunSQL(WAKE, "DROP FUNCTION berth_wake_gateways();"),
        *[
            migrations.RunSQL(
                f"CREATE TRIGGER {table}_wakes_gateways AFTER {events} ON {table} "
                "FOR EACH STATEMENT EXECUTE FUNCTION berth_wake_gateways();",
                f"DROP TRIGGER {table}_wakes_gateways ON {table};",
            )
            for table, events in WATCHED.items()
        ],
    ]
