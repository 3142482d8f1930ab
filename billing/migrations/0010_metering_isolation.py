"""The minutes' partitioned table, dropping partitions by retention, and row-level security of metering."""

import importlib

from django.db import migrations

from tenants.isolation import PLATFORM_RULE, TENANT_RULE, isolate

MINUTES = """
CREATE SEQUENCE billing_usageminute_id;
CREATE TABLE billing_usageminute (
    id bigint NOT NULL DEFAULT nextval('billing_usageminute_id'),
    tenant_id uuid NOT NULL,
    bucket timestamptz NOT NULL,
    project_id uuid NOT NULL,
    key_id uuid NOT NULL,
    endpoint_id uuid,
    revision_id uuid,
    route_id uuid,
    model varchar(80) NOT NULL,
    slo_class varchar(40) NOT NULL,
    region varchar(40) NOT NULL,
    outcome varchar(16) NOT NULL,
    requests bigint NOT NULL DEFAULT 0 CHECK (requests >= 0),
    input_tokens bigint NOT NULL DEFAULT 0 CHECK (input_tokens >= 0),
    output_tokens bigint NOT NULL DEFAULT 0 CHECK (output_tokens >= 0),
    cached_tokens bigint NOT NULL DEFAULT 0 CHECK (cached_tokens >= 0),
    input_tokens_squared bigint NOT NULL DEFAULT 0,
    output_tokens_squared bigint NOT NULL DEFAULT 0,
    CONSTRAINT usage_minute_once UNIQUE NULLS NOT DISTINCT (tenant_id, bucket, project_id, endpoint_id, key_id,
        revision_id, route_id, model, slo_class, region, outcome)
) PARTITION BY RANGE (bucket);
"""
NO_MINUTES = """
DROP TABLE billing_usageminute;
DROP SEQUENCE billing_usageminute_id;
"""

# Partitions belong to the owner of the tables; the application may only ask for one to be made or dropped.
# A day that was dropped is never made again: its identities are forgotten, a repeat would count twice.
PARTITIONS = f"""
CREATE FUNCTION berth_secure_partition(name text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, public AS $$
BEGIN
    EXECUTE format('ALTER TABLE public.%I ENABLE ROW LEVEL SECURITY', name);
    EXECUTE format('ALTER TABLE public.%I FORCE ROW LEVEL SECURITY', name);
    EXECUTE format('CREATE POLICY tenant_isolation ON public.%I USING {TENANT_RULE.replace("'", "''")}', name);
END $$;
REVOKE EXECUTE ON FUNCTION berth_secure_partition(text) FROM PUBLIC;

CREATE OR REPLACE FUNCTION berth_usage_partition(wanted date) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public AS $$
DECLARE
    name text := 'billing_usagesegment_' || to_char(wanted, 'YYYYMMDD');
BEGIN
    IF to_regclass('public.' || name) IS NOT NULL THEN
        RETURN false;
    END IF;
    IF EXISTS (SELECT 1 FROM billing_usagedropped WHERE day = wanted) THEN
        RAISE EXCEPTION 'the usage of % was dropped', wanted USING ERRCODE = 'check_violation';
    END IF;
    EXECUTE format('CREATE TABLE public.%I PARTITION OF public.billing_usagesegment FOR VALUES FROM (%L) TO (%L)',
                   name, wanted, wanted + 1);
    PERFORM berth_secure_partition(name);
    RETURN true;
EXCEPTION WHEN duplicate_table THEN
    RETURN false;
END $$;

CREATE FUNCTION berth_usage_minutes(wanted date) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public AS $$
DECLARE
    name text := 'billing_usageminute_' || to_char(wanted, 'YYYYMMDD');
BEGIN
    IF to_regclass('public.' || name) IS NOT NULL THEN
        RETURN false;
    END IF;
    EXECUTE format('CREATE TABLE public.%I PARTITION OF public.billing_usageminute FOR VALUES FROM (%L) TO (%L)',
                   name, wanted::timestamp AT TIME ZONE 'UTC', (wanted + 1)::timestamp AT TIME ZONE 'UTC');
    PERFORM berth_secure_partition(name);
    RETURN true;
EXCEPTION WHEN duplicate_table THEN
    RETURN false;
END $$;
"""  # noqa: S608
BEFORE = importlib.import_module("billing.migrations.0002_isolation").PARTITIONS
NO_PARTITIONS = (
    BEFORE.replace("CREATE FUNCTION", "CREATE OR REPLACE FUNCTION")
    + """
DROP FUNCTION berth_usage_minutes(date);
DROP FUNCTION berth_secure_partition(text);
"""
)

# Called in the platform's scope: the owner, too, is bound by row-level security.
DROPS = """
CREATE FUNCTION berth_usage_drop(wanted date, moment timestamptz) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public AS $$
DECLARE
    name text := 'billing_usagesegment_' || to_char(wanted, 'YYYYMMDD');
    newest bigint;
    mark bigint;
BEGIN
    IF coalesce(current_setting('berth.platform', true), '') <> 'on' THEN
        RAISE EXCEPTION 'usage is dropped in the scope of the platform only';
    END IF;
    IF wanted >= (moment AT TIME ZONE 'UTC')::date - 1 THEN
        RAISE EXCEPTION 'the usage of % is too new to be dropped', wanted;
    END IF;
    IF to_regclass('public.' || name) IS NULL THEN
        RETURN 'gone';
    END IF;
    -- Nobody may add to it between the look and the drop.
    EXECUTE format('LOCK TABLE public.billing_usagesegment, public.%I IN ACCESS EXCLUSIVE MODE', name);
    EXECUTE format('SELECT max(xact) FROM public.%I', name) INTO newest;
    SELECT xact INTO mark FROM billing_rollupmark WHERE billing_rollupmark.name = 'usage';
    IF newest >= coalesce(mark, 0) THEN
        RETURN 'uncounted';
    END IF;
    EXECUTE format('DROP TABLE public.%I', name);
    INSERT INTO billing_usagedropped (day, dropped_at) VALUES (wanted, moment);
    RETURN 'dropped';
END $$;

CREATE FUNCTION berth_usage_minutes_drop(wanted date, moment timestamptz) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public AS $$
DECLARE
    name text := 'billing_usageminute_' || to_char(wanted, 'YYYYMMDD');
BEGIN
    IF wanted >= (moment AT TIME ZONE 'UTC')::date - 1 THEN
        RAISE EXCEPTION 'the minutes of % are too new to be dropped', wanted;
    END IF;
    IF to_regclass('public.' || name) IS NULL THEN
        RETURN false;
    END IF;
    EXECUTE format('DROP TABLE public.%I', name);
    RETURN true;
END $$;
"""
NO_DROPS = """
DROP FUNCTION berth_usage_minutes_drop(date, timestamptz);
DROP FUNCTION berth_usage_drop(date, timestamptz);
"""

# What was counted before sequences were watched: else all of it would show as missing.
SEQUENCES = """
SELECT set_config('berth.platform', 'on', true);
INSERT INTO billing_gatewaysequence (gateway, seen, counted_at)
SELECT gateway, int8multirange(int8range(0, max(sequence) + 1)), now() FROM billing_usagesegment GROUP BY gateway;
"""


class Migration(migrations.Migration):
    dependencies = [("billing", "0009_metering")]

    operations = [
        migrations.RunSQL(MINUTES, NO_MINUTES),
        isolate("billing_usageminute"),
        migrations.RunSQL(PARTITIONS, NO_PARTITIONS),
        migrations.RunSQL(DROPS, NO_DROPS),
        migrations.RunSQL(SEQUENCES, migrations.RunSQL.noop),
        isolate("billing_usagerefusal", PLATFORM_RULE),
        isolate("billing_gatewaysequence", PLATFORM_RULE),
        isolate("billing_sequencegap", PLATFORM_RULE),
        isolate("billing_gatewayday", PLATFORM_RULE),
        isolate("billing_gatewaylogday", PLATFORM_RULE),
        isolate("billing_enginetokens", PLATFORM_RULE),
    ]
