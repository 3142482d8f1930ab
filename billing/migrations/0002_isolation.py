"""The partitioned usage table, its partitions' maker, and row-level security of the billing room."""

from django.db import migrations

from tenants.isolation import TENANT_RULE, isolate, never_changes

SEGMENTS = """
CREATE TABLE billing_usagesegment (
    -- No foreign key: ingest looks tenants and projects up once per batch, a trigger per row takes a third of its time.
    tenant_id uuid NOT NULL,
    day date NOT NULL,
    gateway varchar(64) NOT NULL,
    sequence bigint NOT NULL,
    key_id uuid NOT NULL,
    project_id uuid NOT NULL,
    endpoint_id uuid,
    revision_id uuid,
    model varchar(80) NOT NULL,
    slo_class varchar(40) NOT NULL,
    region varchar(40) NOT NULL,
    outcome varchar(16) NOT NULL,
    window_start timestamptz NOT NULL,
    window_end timestamptz NOT NULL,
    requests integer NOT NULL CHECK (requests >= 0),
    input_tokens bigint NOT NULL CHECK (input_tokens >= 0),
    output_tokens bigint NOT NULL CHECK (output_tokens >= 0),
    cached_tokens bigint NOT NULL CHECK (cached_tokens >= 0),
    ttft_ms integer[] NOT NULL DEFAULT '{}',
    received_at timestamptz NOT NULL DEFAULT now(),
    -- The inserting transaction: rollups read only what no running transaction can still add to.
    xact bigint NOT NULL DEFAULT (pg_current_xact_id()::text::bigint),
    PRIMARY KEY (tenant_id, day, gateway, sequence, key_id)
) PARTITION BY RANGE (day);
CREATE INDEX usagesegment_xact ON billing_usagesegment (xact);
"""

# Partitions belong to the owner of the table; the application may only ask for one, by this function.
PARTITIONS = f"""
CREATE FUNCTION berth_usage_partition(wanted date) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public AS $$
DECLARE
    name text := 'billing_usagesegment_' || to_char(wanted, 'YYYYMMDD');
BEGIN
    IF to_regclass('public.' || name) IS NOT NULL THEN
        RETURN false;
    END IF;
    EXECUTE format('CREATE TABLE public.%I PARTITION OF public.billing_usagesegment FOR VALUES FROM (%L) TO (%L)',
                   name, wanted, wanted + 1);
    EXECUTE format('ALTER TABLE public.%I ENABLE ROW LEVEL SECURITY', name);
    EXECUTE format('ALTER TABLE public.%I FORCE ROW LEVEL SECURITY', name);
    EXECUTE format('CREATE POLICY tenant_isolation ON public.%I USING {TENANT_RULE.replace("'", "''")}', name);
    RETURN true;
EXCEPTION WHEN duplicate_table THEN
    RETURN false;
END $$;
"""


class Migration(migrations.Migration):
    dependencies = [("billing", "0001_initial"), ("tenants", "0002_isolation")]

    operations = [
        migrations.RunSQL(SEGMENTS, "DROP TABLE billing_usagesegment;"),
        migrations.RunSQL(PARTITIONS, "DROP FUNCTION berth_usage_partition(date);"),
        isolate("billing_usagesegment"),
        isolate("billing_usagehour"),
        isolate("billing_usageday"),
        isolate("billing_allocation"),
        isolate("billing_endpointlabel"),
        isolate("billing_statement"),
        isolate("billing_statementline"),
        never_changes("billing_price"),
        never_changes("billing_usagesegment"),
    ]
