"""The audit: entries and heads of chains, and the functions by which PostgreSQL alone writes them.

Entries wait in ``tenants_auditpending`` until their transaction commits. Then a deferred trigger numbers and hashes
them. It runs in two steps: the first, among the other checks at commit, only queues the second, which so comes after
them: no check of a foreign key then waits for a row while the head of a chain is locked. Heads are locked in order,
and for as long as the commit takes. The table is unlogged: what waits there never outlives its transaction.
"""

import django.db.models.deletion
from django.db import migrations, models

import tenants.models.base
from tenants.isolation import isolate

PENDING = """
CREATE UNLOGGED TABLE tenants_auditpending (
    seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    xact xid8 NOT NULL DEFAULT pg_current_xact_id(),
    ready boolean NOT NULL DEFAULT false,
    whose uuid,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    action text NOT NULL,
    actor jsonb NOT NULL,
    target_kind text NOT NULL,
    target_id text NOT NULL,
    target_name text NOT NULL,
    before jsonb,
    after jsonb,
    facts jsonb
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);
CREATE INDEX audit_pending_of_transaction ON tenants_auditpending (xact);
CREATE INDEX audit_pending_ready ON tenants_auditpending (xact) WHERE ready;
"""

# RFC 9562, version 7, with the microseconds in the twelve bits after the milliseconds, so that ids sort by time.
UUID7 = """
CREATE FUNCTION berth_uuid7() RETURNS uuid LANGUAGE sql VOLATILE AS $$
    SELECT encode(
        substring(int8send(us / 1000) FROM 3) || int2send((28672 + (us % 1000) * 4096 / 1000)::int2)
            || set_byte(substring(uuid_send(gen_random_uuid()) FROM 9), 0,
                        get_byte(uuid_send(gen_random_uuid()), 8) & 63 | 128),
        'hex')::uuid
    FROM (SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint AS us) AS now
$$;
"""

CANONICAL = """
CREATE FUNCTION berth_audit_canonical(entry tenants_auditentry) RETURNS text LANGUAGE sql STABLE AS $$
    SELECT jsonb_build_array(
        entry.previous, coalesce(entry.tenant_id::text, 'platform'), entry.number::text, entry.id::text,
        to_char(entry.at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'), entry.action,
        entry.actor_kind, entry.actor_id, entry.actor_name, entry.on_behalf, entry.address, entry.user_agent,
        entry.request_id, entry.target_kind, entry.target_id, entry.target_name,
        entry.before::text, entry.after::text, entry.facts::text
    )::text
$$;
"""

NOTE = """
CREATE FUNCTION berth_audit_note(
    whose uuid, what text, kind text, id text, name text, told jsonb, who text
) RETURNS void LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
    INSERT INTO tenants_auditpending (whose, action, actor, target_kind, target_id, target_name, facts)
    VALUES (whose, what, coalesce(nullif(who, ''), '{"kind": "system"}')::jsonb, kind, id, name, told)
$$;
REVOKE EXECUTE ON FUNCTION berth_audit_note(uuid, text, text, text, text, jsonb, text) FROM PUBLIC;
"""

ROW = """
CREATE FUNCTION berth_audit_row() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    about jsonb := TG_ARGV[0]::jsonb;
    old_row jsonb;
    new_row jsonb;
    this jsonb;
    was jsonb;
    becomes jsonb;
    hidden text[];
    verb text;
    rule jsonb;
BEGIN
    IF TG_OP <> 'INSERT' THEN old_row := to_jsonb(OLD); END IF;
    IF TG_OP <> 'DELETE' THEN new_row := to_jsonb(NEW); END IF;
    this := coalesce(new_row, old_row);
    IF TG_OP = 'UPDATE' THEN
        SELECT jsonb_object_agg(each, old_row -> each), jsonb_object_agg(each, new_row -> each) INTO was, becomes
        FROM jsonb_array_elements_text(about -> 'columns') AS each
        WHERE old_row -> each IS DISTINCT FROM new_row -> each;
        SELECT array_agg(each) INTO hidden FROM jsonb_array_elements_text(about -> 'hidden') AS each
        WHERE old_row -> each IS DISTINCT FROM new_row -> each;
        IF was IS NULL AND hidden IS NULL THEN RETURN NULL; END IF;
        FOR verb IN SELECT unnest(hidden) LOOP
            was := coalesce(was, '{}') || jsonb_build_object(verb, '(hidden)');
            becomes := coalesce(becomes, '{}') || jsonb_build_object(verb, '(hidden, changed)');
        END LOOP;
        verb := 'change';
        FOR rule IN SELECT * FROM jsonb_array_elements(about -> 'verbs') LOOP
            IF becomes ? (rule ->> 0) AND (
                becomes ->> (rule ->> 0) = rule ->> 1 OR (rule ->> 1 = '*' AND becomes ->> (rule ->> 0) IS NOT NULL)
            ) THEN
                verb := rule ->> 2;
                EXIT;
            END IF;
        END LOOP;
    ELSE
        verb := CASE TG_OP WHEN 'INSERT' THEN 'create' ELSE 'delete' END;
        SELECT CASE TG_OP WHEN 'DELETE' THEN jsonb_object_agg(each, old_row -> each) END,
               CASE TG_OP WHEN 'INSERT' THEN jsonb_object_agg(each, new_row -> each) END
        INTO was, becomes FROM jsonb_array_elements_text(about -> 'columns') AS each;
    END IF;
    INSERT INTO tenants_auditpending
        (whose, action, actor, target_kind, target_id, target_name, before, after)
    VALUES (
        (this ->> (about ->> 'tenant'))::uuid,
        about ->> 'noun' || '.' || verb,
        coalesce(nullif(current_setting('berth.actor', true), ''), '{"kind": "system"}')::jsonb,
        about ->> 'noun',
        coalesce(this ->> (about ->> 'key'), ''),
        coalesce(this ->> (about ->> 'name'), ''),
        was,
        becomes
    );
    RETURN NULL;
END $$;
REVOKE EXECUTE ON FUNCTION berth_audit_row() FROM PUBLIC;
"""

SEAL = """
CREATE FUNCTION berth_audit_seal_soon() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    -- Kept in the table and not in a setting, which whoever writes could set.
    IF NOT EXISTS (SELECT FROM tenants_auditpending WHERE xact = NEW.xact AND ready) THEN
        UPDATE tenants_auditpending SET ready = true WHERE seq = NEW.seq;
    END IF;
    RETURN NULL;
END $$;

CREATE FUNCTION berth_audit_seal() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    none CONSTANT uuid := '00000000-0000-0000-0000-000000000000';
    mine CONSTANT xid8 := pg_current_xact_id();
    this uuid;
    head tenants_audithead;
    waiting tenants_auditpending;
    entry tenants_auditentry;
BEGIN
    FOR this IN
        SELECT DISTINCT coalesce(whose, none) FROM tenants_auditpending WHERE xact = mine ORDER BY 1
    LOOP
        SELECT * INTO head FROM tenants_audithead WHERE chain = this FOR UPDATE;
        IF NOT FOUND THEN
            INSERT INTO tenants_audithead VALUES (this, 0, repeat('0', 64)) ON CONFLICT (chain) DO NOTHING;
            SELECT * INTO STRICT head FROM tenants_audithead WHERE chain = this FOR UPDATE;
        END IF;
        FOR waiting IN
            SELECT * FROM tenants_auditpending WHERE xact = mine AND coalesce(whose, none) = this ORDER BY seq
        LOOP
            entry.id := berth_uuid7();
            entry.tenant_id := waiting.whose;
            entry.number := head.number + 1;
            entry.at := waiting.at;
            entry.action := left(waiting.action, 80);
            entry.actor_kind := left(coalesce(waiting.actor ->> 'kind', 'system'), 20);
            entry.actor_id := left(coalesce(waiting.actor ->> 'id', ''), 64);
            entry.actor_name := left(coalesce(waiting.actor ->> 'name', ''), 200);
            entry.on_behalf := left(coalesce(waiting.actor ->> 'on_behalf', ''), 200);
            entry.address := left(coalesce(waiting.actor ->> 'address', ''), 64);
            entry.user_agent := left(coalesce(waiting.actor ->> 'agent', ''), 200);
            entry.request_id := left(coalesce(waiting.actor ->> 'request', ''), 64);
            entry.target_kind := left(waiting.target_kind, 40);
            entry.target_id := left(waiting.target_id, 64);
            entry.target_name := left(waiting.target_name, 200);
            entry.before := waiting.before;
            entry.after := waiting.after;
            entry.facts := waiting.facts;
            entry.previous := head.hash;
            entry.hash := encode(sha256(convert_to(berth_audit_canonical(entry), 'UTF8')), 'hex');
            INSERT INTO tenants_auditentry VALUES (entry.*);
            head.number := entry.number;
            head.hash := entry.hash;
        END LOOP;
        UPDATE tenants_audithead SET number = head.number, hash = head.hash WHERE chain = this;
    END LOOP;
    DELETE FROM tenants_auditpending WHERE xact = mine;
    RETURN NULL;
END $$;

REVOKE EXECUTE ON FUNCTION berth_audit_seal_soon(), berth_audit_seal() FROM PUBLIC;
CREATE CONSTRAINT TRIGGER audit_seal_soon AFTER INSERT ON tenants_auditpending DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION berth_audit_seal_soon();
CREATE CONSTRAINT TRIGGER audit_seal AFTER UPDATE ON tenants_auditpending DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION berth_audit_seal();
"""

GUARD = """
CREATE FUNCTION berth_audit_guard() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'The audit is append-only: % refuses %', TG_TABLE_NAME, TG_OP
        USING ERRCODE = 'restrict_violation';
END $$;
CREATE FUNCTION berth_audit_forward() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.chain <> OLD.chain OR NEW.number <= OLD.number THEN
        RAISE EXCEPTION 'The end of a chain only moves on' USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER audit_guard BEFORE UPDATE OR DELETE OR TRUNCATE ON tenants_auditentry
    FOR EACH STATEMENT EXECUTE FUNCTION berth_audit_guard();
CREATE TRIGGER audit_guard BEFORE DELETE OR TRUNCATE ON tenants_audithead
    FOR EACH STATEMENT EXECUTE FUNCTION berth_audit_guard();
CREATE TRIGGER audit_forward BEFORE UPDATE ON tenants_audithead
    FOR EACH ROW EXECUTE FUNCTION berth_audit_forward();
"""

# Forced policies bind the owner, too, as whom the functions run: they alone get past it.
POLICIES = """
CREATE POLICY audit_writer ON tenants_auditentry FOR INSERT TO CURRENT_USER WITH CHECK (true);
CREATE POLICY audit_writer ON tenants_audithead TO CURRENT_USER USING (true) WITH CHECK (true);
"""

HEAD_RULE = """(
    chain = (SELECT nullif(current_setting('berth.tenant', true), '')::uuid)
    OR (SELECT current_setting('berth.platform', true)) = 'on'
)"""


class Migration(migrations.Migration):
    dependencies = [("tenants", "0005_webhooks")]

    operations = [
        migrations.CreateModel(
            name="AuditEntry",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=tenants.models.base.new_id, editable=False, primary_key=True, serialize=False
                    ),
                ),
                (
                    "tenant",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        null=True,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="+",
                        to="tenants.tenant",
                    ),
                ),
                ("number", models.BigIntegerField()),
                ("at", models.DateTimeField()),
                ("action", models.CharField(max_length=80)),
                ("actor_kind", models.CharField(max_length=20)),
                ("actor_id", models.CharField(blank=True, max_length=64)),
                ("actor_name", models.CharField(blank=True, max_length=200)),
                ("on_behalf", models.CharField(blank=True, max_length=200)),
                ("address", models.CharField(blank=True, max_length=64)),
                ("user_agent", models.CharField(blank=True, max_length=200)),
                ("request_id", models.CharField(blank=True, max_length=64)),
                ("target_kind", models.CharField(blank=True, max_length=40)),
                ("target_id", models.CharField(blank=True, max_length=64)),
                ("target_name", models.CharField(blank=True, max_length=200)),
                ("before", models.JSONField(null=True)),
                ("after", models.JSONField(null=True)),
                ("facts", models.JSONField(null=True)),
                ("previous", models.CharField(max_length=64)),
                ("hash", models.CharField(max_length=64)),
            ],
            options={
                "ordering": ["-number"],
                "base_manager_name": "objects",
                "constraints": [
                    models.UniqueConstraint(
                        fields=("tenant", "number"), name="audit_number_in_chain", nulls_distinct=False
                    )
                ],
                "indexes": [
                    models.Index(fields=["tenant", "target_id", "number"], name="audit_of_target"),
                    models.Index(fields=["tenant", "actor_id", "number"], name="audit_of_actor"),
                    models.Index(fields=["tenant", "request_id"], name="audit_of_request"),
                    models.Index(fields=["tenant", "at"], name="audit_of_period"),
                ],
            },
        ),
        migrations.CreateModel(
            name="AuditHead",
            fields=[
                ("chain", models.UUIDField(primary_key=True, serialize=False)),
                ("number", models.BigIntegerField()),
                ("hash", models.CharField(max_length=64)),
            ],
        ),
        isolate("tenants_auditentry", write_rule="(false)"),
        isolate("tenants_audithead", HEAD_RULE, write_rule="(false)"),
        migrations.RunSQL(POLICIES, migrations.RunSQL.noop),
        migrations.RunSQL(PENDING, "DROP TABLE tenants_auditpending;"),
        migrations.RunSQL(UUID7, "DROP FUNCTION berth_uuid7();"),
        migrations.RunSQL(CANONICAL, "DROP FUNCTION berth_audit_canonical(tenants_auditentry);"),
        migrations.RunSQL(NOTE, "DROP FUNCTION berth_audit_note(uuid, text, text, text, text, jsonb, text);"),
        migrations.RunSQL(ROW, "DROP FUNCTION berth_audit_row() CASCADE;"),
        migrations.RunSQL(
            SEAL, "DROP FUNCTION berth_audit_seal_soon() CASCADE; DROP FUNCTION berth_audit_seal() CASCADE;"
        ),
        migrations.RunSQL(
            GUARD, "DROP FUNCTION berth_audit_guard() CASCADE; DROP FUNCTION berth_audit_forward() CASCADE;"
        ),
    ]
