"""What ran before there was money in it: endpoints that are published are sold by the token, those that run are reserved."""

from django.db import migrations

# An endpoint that is published now is so since it was last told. Others paid nothing for it and its owner all of its
# GPU time, in drafts that no statement was closed from.
PUBLISHED = """
INSERT INTO billing_sharedperiod (id, created_at, owner_id, endpoint_id, name, model, slo_class, started_at)
SELECT gen_random_uuid(), now(), endpoint.tenant_id, endpoint.id, endpoint.name, model.name, class.name,
    coalesce((
        SELECT max(event.created_at) FROM clusters_endpointevent AS event
        WHERE event.endpoint_id = endpoint.id AND event.kind = 'shared'
    ), endpoint.created_at)
FROM clusters_endpoint AS endpoint
JOIN clusters_catalogmodel AS model ON model.id = endpoint.model_id
JOIN clusters_sloclass AS class ON class.id = endpoint.slo_class_id
WHERE endpoint.shared AND endpoint.deleted_at IS NULL
ON CONFLICT DO NOTHING
"""

# Of several revisions the newest counts, as where one is ordered.
CLAIMED = """
INSERT INTO billing_gpuclaim (
    id, created_at, tenant_id, project_id, endpoint_id, region, gpu_type, gpus, price_factor
)
SELECT DISTINCT ON (endpoint.id) gen_random_uuid(), now(), endpoint.tenant_id, endpoint.project_id, endpoint.id,
    region.code, revision.gpu_type, revision.replicas * revision.tensor_parallel * revision.pipeline_parallel,
    revision.price_factor
FROM clusters_endpoint AS endpoint
JOIN clusters_revision AS revision ON revision.endpoint_id = endpoint.id AND revision.retired_at IS NULL
JOIN clusters_cluster AS cluster ON cluster.id = revision.cluster_id
JOIN clusters_region AS region ON region.id = cluster.region_id
WHERE endpoint.deleted_at IS NULL AND revision.replicas > 0
ORDER BY endpoint.id, revision.number DESC
ON CONFLICT DO NOTHING
"""


class Migration(migrations.Migration):
    dependencies = [
        ("clusters", "0014_savings"),
        ("billing", "0014_statements"),
    ]

    operations = [
        migrations.RunSQL(
            f"SELECT set_config('berth.platform', 'on', true); {PUBLISHED}; {CLAIMED};"
            " SELECT set_config('berth.platform', '', true);",
            migrations.RunSQL.noop,
        ),
    ]
