"""What final statements must stand on: their lines held by statement, and a note of whatever changes in their time."""

import django.db.models.deletion
from django.db import migrations, models

import tenants.models.base
from tenants.isolation import isolate

# One look for a statement of SQL, not one for a row. FOR SHARE waits for whoever is closing the statement, and keeps it
# from being closed until this transaction ends.
FINAL_LINES = """
CREATE OR REPLACE FUNCTION berth_final_line() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (
        SELECT 1 FROM (
            SELECT state FROM billing_statement WHERE id IN (SELECT statement_id FROM changed) FOR SHARE
        ) AS touched WHERE state = 'final'
    ) THEN
        RAISE EXCEPTION 'the lines of a final statement never change' USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN NULL;
END $$;
DROP TRIGGER billing_statementline_final ON billing_statementline;
CREATE TRIGGER billing_statementline_final_insert AFTER INSERT ON billing_statementline
REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION berth_final_line();
CREATE TRIGGER billing_statementline_final_delete AFTER DELETE ON billing_statementline
REFERENCING OLD TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION berth_final_line();
CREATE TRIGGER billing_statementline_never_changes BEFORE UPDATE ON billing_statementline
FOR EACH ROW EXECUTE FUNCTION berth_refuse_change();
"""
FINAL_LINES_BEFORE = """
DROP TRIGGER billing_statementline_never_changes ON billing_statementline;
DROP TRIGGER billing_statementline_final_delete ON billing_statementline;
DROP TRIGGER billing_statementline_final_insert ON billing_statementline;
CREATE OR REPLACE FUNCTION berth_final_line() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    touched uuid := CASE WHEN TG_OP = 'INSERT' THEN NEW.statement_id ELSE OLD.statement_id END;
BEGIN
    IF EXISTS (SELECT 1 FROM billing_statement WHERE id = touched AND state = 'final') THEN
        RAISE EXCEPTION 'the lines of a final statement never change' USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN CASE WHEN TG_OP = 'DELETE' THEN OLD ELSE NEW END;
END $$;
CREATE TRIGGER billing_statementline_final BEFORE INSERT OR UPDATE OR DELETE ON billing_statementline
FOR EACH ROW EXECUTE FUNCTION berth_final_line();
"""

# For the days that were counted before.
ASKED_HOURS = """
SELECT set_config('berth.platform', 'on', true);
UPDATE billing_usageday AS day SET asked_hours = asked.hours
FROM (
    SELECT tenant_id, project_id, endpoint_id, key_id, revision_id, route_id, model, slo_class, region, outcome,
        date_trunc('day', bucket, 'UTC') AS bucket,
        bit_or(1 << extract(hour FROM bucket AT TIME ZONE 'UTC')::integer) AS hours
    FROM billing_usagehour WHERE requests > 0 GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11
) AS asked
WHERE (day.tenant_id, day.bucket, day.project_id, day.key_id, day.model, day.slo_class, day.region, day.outcome)
    = (asked.tenant_id, asked.bucket, asked.project_id, asked.key_id, asked.model, asked.slo_class, asked.region,
       asked.outcome)
    AND day.endpoint_id IS NOT DISTINCT FROM asked.endpoint_id
    AND day.revision_id IS NOT DISTINCT FROM asked.revision_id
    AND day.route_id IS NOT DISTINCT FROM asked.route_id;
SELECT set_config('berth.platform', '', true);
"""

# A change of a time that no final statement reaches costs one look into the tenant's statements.
LATE = """
CREATE FUNCTION berth_note_late(whose uuid, first timestamptz, last timestamptz) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    -- Waits for whoever is closing a month that is over, and keeps it open until this transaction ends.
    PERFORM 1 FROM billing_statement
    WHERE tenant_id = whose AND period_end > first AND (state = 'final' OR period_end <= now()) FOR SHARE;
    -- A month before a statement's, of which there is no statement: nothing had happened in it.
    IF EXISTS (
        SELECT 1 FROM billing_statement
        WHERE tenant_id = whose AND period_end > first AND (state = 'final' OR period_start > first)
    ) THEN
        INSERT INTO billing_latechange (id, created_at, tenant_id, since, until)
        VALUES (gen_random_uuid(), now(), whose, first, last) ON CONFLICT DO NOTHING;
    END IF;
END $$;

CREATE FUNCTION berth_late_usage() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM berth_note_late(tenant_id, bucket, bucket + interval '1 day')
    FROM (SELECT DISTINCT tenant_id, bucket FROM changed ORDER BY 1, 2) AS days
    WHERE EXISTS (
        SELECT 1 FROM billing_statement AS statement
        WHERE statement.tenant_id = days.tenant_id AND period_end > bucket
            AND (state = 'final' OR period_end <= now() OR period_start > bucket)
    );
    RETURN NULL;
END $$;
CREATE TRIGGER billing_usageday_late_insert AFTER INSERT ON billing_usageday
REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION berth_late_usage();
CREATE TRIGGER billing_usageday_late_update AFTER UPDATE ON billing_usageday
REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION berth_late_usage();

CREATE FUNCTION berth_late_allocation() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    since timestamptz := NEW.started_at;
    until timestamptz := greatest(coalesce(NEW.ended_at, now()), NEW.started_at);
BEGIN
    IF TG_OP = 'UPDATE' THEN
        IF ROW(NEW.started_at, NEW.gpus, NEW.gpu_type, NEW.region, NEW.price_factor, NEW.project_id, NEW.endpoint_id)
            IS DISTINCT FROM
            ROW(OLD.started_at, OLD.gpus, OLD.gpu_type, OLD.region, OLD.price_factor, OLD.project_id, OLD.endpoint_id)
        THEN
            since := least(OLD.started_at, NEW.started_at);
            until := greatest(until, coalesce(OLD.ended_at, now()));
        ELSIF NEW.ended_at IS DISTINCT FROM OLD.ended_at THEN
            since := least(OLD.ended_at, NEW.ended_at);
            until := greatest(until, coalesce(OLD.ended_at, now()));
        ELSE
            RETURN NULL;
        END IF;
    END IF;
    PERFORM berth_note_late(NEW.tenant_id, since, until);
    RETURN NULL;
END $$;
CREATE TRIGGER billing_allocation_late AFTER INSERT OR UPDATE ON billing_allocation
FOR EACH ROW EXECUTE FUNCTION berth_late_allocation();

CREATE FUNCTION berth_late_attainment() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'UPDATE' AND NEW IS NOT DISTINCT FROM OLD THEN
        RETURN NULL;
    END IF;
    PERFORM berth_note_late(NEW.tenant_id, NEW.day AT TIME ZONE 'UTC', (NEW.day + 1) AT TIME ZONE 'UTC');
    RETURN NULL;
END $$;
CREATE TRIGGER billing_attainment_late AFTER INSERT OR UPDATE ON billing_attainment
FOR EACH ROW EXECUTE FUNCTION berth_late_attainment();

CREATE FUNCTION berth_late_commitment() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    since timestamptz := NEW.starts_at;
    until timestamptz := NEW.ends_at;
BEGIN
    IF TG_OP = 'UPDATE' THEN
        since := least(OLD.ends_at, NEW.ends_at);
        until := greatest(OLD.ends_at, NEW.ends_at);
    END IF;
    PERFORM berth_note_late(NEW.tenant_id, since, until);
    RETURN NULL;
END $$;
CREATE TRIGGER billing_commitment_late AFTER INSERT OR UPDATE ON billing_commitment
FOR EACH ROW EXECUTE FUNCTION berth_late_commitment();
"""
NOT_LATE = """
DROP TRIGGER billing_commitment_late ON billing_commitment;
DROP FUNCTION berth_late_commitment();
DROP TRIGGER billing_attainment_late ON billing_attainment;
DROP FUNCTION berth_late_attainment();
DROP TRIGGER billing_allocation_late ON billing_allocation;
DROP FUNCTION berth_late_allocation();
DROP TRIGGER billing_usageday_late_update ON billing_usageday;
DROP TRIGGER billing_usageday_late_insert ON billing_usageday;
DROP FUNCTION berth_late_usage();
DROP FUNCTION berth_note_late(uuid, timestamptz, timestamptz);
"""


class Migration(migrations.Migration):
    dependencies = [
        ("billing", "0013_budget_policies"),
        ("tenants", "0004_gateway_policies"),
    ]

    operations = [
        migrations.CreateModel(
            name="LateChange",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=tenants.models.base.new_id, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("created_at", models.DateTimeField(auto_now_add=True)),
                ("since", models.DateTimeField()),
                ("until", models.DateTimeField()),
            ],
            options={
                "ordering": ["since"],
                "abstract": False,
                "base_manager_name": "objects",
            },
        ),
        migrations.AddField(
            model_name="billingaccount",
            name="accepted",
            field=models.CharField(blank=True, max_length=500),
        ),
        migrations.AddField(
            model_name="statement",
            name="tenant_name",
            field=models.CharField(blank=True, help_text="As it was called then.", max_length=120),
        ),
        migrations.AddField(
            model_name="statement",
            name="time_zone",
            field=models.CharField(blank=True, help_text="Whose calendar month it is.", max_length=64),
        ),
        migrations.AlterField(
            model_name="statement",
            name="credits",
            field=models.DecimalField(
                decimal_places=4,
                default=0,
                help_text="Negative; what is carried forward counts against.",
                max_digits=20,
            ),
        ),
        migrations.AlterField(
            model_name="statementline",
            name="sku",
            field=models.CharField(max_length=160),
        ),
        migrations.AddIndex(
            model_name="statementline",
            index=models.Index(
                condition=models.Q(("kind", "credit")), fields=["tenant"], name="statement_line_credit"
            ),
        ),
        migrations.AddField(
            model_name="latechange",
            name="tenant",
            field=models.ForeignKey(
                editable=False,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="+",
                to="tenants.tenant",
            ),
        ),
        migrations.AddConstraint(
            model_name="latechange",
            constraint=models.UniqueConstraint(fields=("tenant", "since", "until"), name="late_change_once"),
        ),
        migrations.RemoveIndex(model_name="usageday", name="usage_day_counted"),
        migrations.AddIndex(
            model_name="usageday",
            index=models.Index(fields=["endpoint_id", "bucket"], name="usage_day_endpoint"),
        ),
        migrations.AddField(
            model_name="usageday",
            name="asked_hours",
            field=models.IntegerField(
                default=0, help_text="A bit for each UTC hour with requests, the lowest for the first."
            ),
        ),
        migrations.RunSQL(ASKED_HOURS, migrations.RunSQL.noop),
        isolate("billing_latechange"),
        migrations.RunSQL(FINAL_LINES, FINAL_LINES_BEFORE),
        migrations.RunSQL(LATE, NOT_LATE),
    ]
