"""Row-level security of the new tables; a revision's spec is as immutable as the rest of it."""

from django.db import migrations

from tenants.isolation import isolate, never_changes

IMMUTABLE = (
    "endpoint_id, number, cluster_id, pool_id, deployment, runtime, gpu_type, precision, "
    "tensor_parallel, pipeline_parallel, price_factor, context_tokens, max_batch_size, plan"
)


class Migration(migrations.Migration):
    dependencies = [("clusters", "0003_kubernetes")]

    operations = [
        isolate("clusters_renderedconfiguration"),
        isolate("clusters_modelsecret"),
        never_changes("clusters_renderedconfiguration"),
        migrations.RunSQL(
            "DROP TRIGGER clusters_revision_never_changes ON clusters_revision;", migrations.RunSQL.noop
        ),
        never_changes("clusters_revision", f"{IMMUTABLE}, spec, restored_from"),
    ]
