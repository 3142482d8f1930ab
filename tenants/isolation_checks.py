"""What must hold of every table, view, function and role for tenants to be apart, asked of the database itself.

:func:`faults` reads PostgreSQL's catalogs and names what is wrong, one line each. What may differ stands in the lists
here and in :data:`tenants.isolation.EXEMPT`, each with its reason; a reason for what does not exist is a fault, too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple, Protocol

from django.apps import apps

from tenants.isolation import EXEMPT

#: Tables (or beginnings of names, ending in ``*``) that no model of the rooms describes.
OTHER_TABLES: Final = {
    "account_*": "sign-in addresses of people, who may be members of several tenants",
    "auth_*": "Django's own rights; Berth hands none out",
    "mfa_*": "second factors of people, who may be members of several tenants; their secrets are sealed",
    "socialaccount_*": "people at sign-in providers; no secret of a provider and no token is kept there",
    "usersessions_*": "sessions of people, who may be members of several tenants",
    "django_*": "Django's sessions, migrations, content types and the admin's log; no tenant's rows",
    "tenants_user_*": "Django's own rights of people; Berth hands none out",
}

#: Tables whose policy lets everybody read every row.
OPEN_TO_READ: Final = {
    "billing_sharedperiod": "which endpoints are sold to all tenants, which all may know; the platform alone writes",
}

#: Functions that run with their owner's rights.
DEFINERS: Final = {
    "berth_audit_note": "adds an entry to the audit, as the application may; reads no row",
    "berth_audit_row": "adds an entry to the audit about the row that changed; reads no other",
    "berth_audit_seal": "numbers and hashes the entries of its own transaction at its end",
    "berth_audit_seal_soon": "has the entries of its own transaction sealed at its end",
    "berth_usage_partition": "makes a day's partition and secures it; takes a day, reads no row",
    "berth_usage_minutes": "makes a day's partition of minutes and secures it; takes a day, reads no row",
    "berth_usage_drop": "drops the partition of a day that is past keeping; the day is checked inside",
    "berth_usage_minutes_drop": "drops the minutes of a day that is past keeping; the day is checked inside",
}

#: Unique indexes of tenants' rows without the tenant. A refusal by one tells that a row exists somewhere.
UNIQUE_WITHOUT_TENANT: Final = {
    "domain_of_one_provider": "a domain that an operator has confirmed is one provider's; confirming alone collides",
    "domain_once_per_provider": "of one provider, and so of its tenant",
    "tenants_invitation_token_digest_key": "keyed hashes of random tokens; nobody chooses them",
    "clusters_policyexception_request_id_key": "one for a request of the same tenant; only deciding it writes one",
    "endpoint_name_among_shared": "names of endpoints that are published to every tenant are known to all",
    "clusters_endpointscaling_endpoint_id_key": "one for an endpoint of the same tenant, who sets it",
    "clusters_loadobservation_endpoint_id_key": "one for an endpoint; only Berth's own work writes it",
    "clusters_renderedconfiguration_revision_id_key": "one for a revision; only Berth's own work writes it",
    "clusters_reservation_revision_id_key": "one for a revision; only Berth's own work writes it",
    "revision_deployment_name": "names of objects on a cluster, hashed from the endpoint's id; nobody chooses them",
    "statement_number_once": "numbers are given by Berth when a statement becomes final; nobody chooses them",
    "tenants_apikey_replaced_by_id_key": "one for a key of the same tenant; only rotating it writes one",
    "tenants_apikey_digest_key": "keyed hashes of random keys; nobody chooses them",
}

#: Other indexes that do not begin with the tenant: what of the platform's own work reads through them.
NOT_BY_TENANT: Final = {
    "allocation_cluster": "GPU time by cluster, for all tenants",
    "allocation_overlap": "GPU time of an hour, for all tenants",
    "approvals_pending": "requests that expire, of all tenants",
    "audit_of_request": "what one request did, in whichever chains",
    "budget_lease_open": "leases of a gateway, which serves many tenants",
    "budget_window_end": "windows that end, of all tenants",
    "endpoint_day_ranks": "reports over all tenants",
    "endpoint_due": "endpoints that are due, of all tenants",
    "endpoint_month_month": "reports over all tenants",
    "evaluations_due": "evaluations that are due, of all tenants",
    "exceptions_to_end": "exceptions that end, of all tenants",
    "held_day_bucket": "reports over all tenants",
    "held_hour_bucket": "reports over all tenants",
    "held_hour_idle": "reports over all tenants",
    "idempotency_expiry": "answers that expire, of all tenants",
    "mail_due": "e-mails that are due, of all tenants",
    "price_once_per_moment": "the platform's prices have no tenant; begins with the book that is tried",
    "reservation_held": "GPUs held of a pool, by whomever",
    "scaling_due": "replicas to be looked at, of all tenants",
    "tenants_apikey_digest_81fd075d_like": "Django's own, of the digest",
    "tenants_invitation_token_digest_02c9f5e8_like": "Django's own, of the digest",
    "tenants_project_slug_a042eb10": "Django's own, of a slug field",
    "tenants_project_slug_a042eb10_like": "Django's own, of a slug field",
    "usage_day_endpoint": "what an endpoint is used, shared ones by many tenants",
    "usagesegment_xact": "the watermark of rollups, over all tenants",
    "wait_overlap": "who waited for GPUs in an hour, of all tenants",
    "waits_open": "the queue for free GPUs, of all tenants",
    "waits_over": "the queue for free GPUs, of all tenants",
    "webhook_delivery_due": "deliveries that are due, of all tenants",
}

#: Columns of tenants' rows that count up over all tenants. Such a number tells how much others do.
COUNTED_OVER_TENANTS: Final = dict.fromkeys(
    (
        "billing_endpointday.id", "billing_endpointmonth.id", "billing_heldday.id", "billing_heldhour.id",
        "billing_usageday.id", "billing_usagehour.id", "billing_usageminute.id", "billing_usageminutes.id",
    ),
    "sums that Berth writes in bulk; no answer and no page shows the number, tenants' code asks for sums alone",
)  # fmt: skip

_TENANT, _PLATFORM = "berth.tenant", "berth.platform"


class Cursor(Protocol):
    """What is needed of a database cursor, Django's or psycopg's."""

    def execute(self, sql: str, params: Any = None) -> Any: ...

    def fetchall(self) -> list[Any]: ...


class _Table(NamedTuple):
    name: str
    kind: str
    is_partition: bool
    secured: bool
    forced: bool
    options: tuple[str, ...]
    has_tenant: bool
    tenant_needed: bool


def faults(cursor: Cursor, *, role: str) -> list[str]:
    """Name what is wrong in the open database, for an application that connects as ``role``; empty: nothing."""
    tables = _tables(cursor, role)
    known = {model._meta.db_table: model._meta.label for model in _models()}
    found = [
        *_faults_of_tables(tables, known),
        *_faults_of_policies(cursor, tables, role),
        *_faults_of_indexes(cursor, tables),
        *_faults_of_counters(cursor, tables),
        *_faults_of_functions(cursor),
        *_faults_of_role(cursor, role),
        *_stale(cursor, tables, known),
    ]
    return sorted(found)


def _models() -> Iterator[Any]:
    rooms = {label.partition(".")[0] for label in EXEMPT} | {"tenants", "billing", "clusters"}
    return (each for each in apps.get_models(include_auto_created=True) if each._meta.app_label in rooms)


def _rows(cursor: Cursor, query: str, **parameters: object) -> list[Any]:
    cursor.execute(query, parameters or None)
    return cursor.fetchall()


def _tables(cursor: Cursor, role: str) -> dict[str, _Table]:
    """Give what ``role`` may ask for anything at all; what is closed to it shows nobody's rows to anybody."""
    rows = _rows(
        cursor,
        """
        SELECT c.relname, c.relkind::text, c.relispartition, c.relrowsecurity, c.relforcerowsecurity,
               coalesce(c.reloptions, '{}'), a.attname IS NOT NULL, coalesce(a.attnotnull, false)
        FROM pg_class c
        JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname = 'public'
        LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'tenant_id' AND NOT a.attisdropped
        WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f')
          AND has_any_column_privilege(%(role)s, c.oid, 'SELECT, INSERT, UPDATE, REFERENCES')
        """,
        role=role,
    )
    return {row[0]: _Table(row[0], row[1], row[2], row[3], row[4], tuple(row[5]), *row[6:]) for row in rows}


def _faults_of_tables(tables: Mapping[str, _Table], known: Mapping[str, str]) -> Iterator[str]:
    for table in tables.values():
        label = known.get(table.name, "")
        exempt = EXEMPT.get(label, "")
        if table.kind == "v":
            if not {"security_invoker=true", "security_invoker=on"} & set(table.options):
                yield f"view {table.name} reads with its owner's rights; make it WITH (security_invoker = true)"
        elif table.kind in "mf":
            yield f"{table.name} is a materialised view or foreign table, which no policy can guard"
        elif table.is_partition:
            if not (table.secured and table.forced):
                yield f"partition {table.name} has no forced row-level security; asked directly, it shows every row"
        elif table.has_tenant:
            if not (table.secured and table.forced):
                yield f"{table.name} has a tenant and no forced row-level security; isolate() it in its migration"
            if exempt and table.tenant_needed:
                yield f"{label} always has a tenant and must not be exempt"
            if not exempt and not table.tenant_needed:
                yield f"{table.name} may be of no tenant; make tenant_id NOT NULL or exempt it with a reason"
        elif not exempt and not _listed(table.name, OTHER_TABLES):
            told = f"{label} has neither a tenant nor a reason in EXEMPT"
            yield told if label else f"{table.name} is no model's table and has no reason in OTHER_TABLES"


def _faults_of_policies(cursor: Cursor, tables: Mapping[str, _Table], role: str) -> Iterator[str]:
    ruled = set()
    for table, policy, permissive, command, rule, write_rule in _rows(
        cursor,
        """
        SELECT tablename, policyname, permissive, cmd, qual, with_check FROM pg_policies
        WHERE schemaname = 'public' AND roles && ARRAY['public', %(role)s]::name[]
        """,
        role=role,
    ):
        ruled.add(table)
        told = f"policy {policy} of {table}"
        if permissive != "PERMISSIVE":
            continue  # it can only take away
        if command in {"ALL", "SELECT", "UPDATE", "DELETE"} and not (
            _asks_scope(rule) or (rule == "true" and table in OPEN_TO_READ)
        ):
            yield f"{told} shows rows whatever the scope: USING {rule}"
        if command in {"ALL", "INSERT", "UPDATE"} and not _asks_scope(write_rule):
            yield f"{told} takes rows whatever the scope: WITH CHECK {write_rule}"
    for table in tables.values():
        if table.secured and table.name not in ruled:
            yield f"{table.name} has row-level security and no policy: nobody sees a row"


def _asks_scope(rule: str | None) -> bool:
    return bool(rule) and (rule == "false" or _TENANT in str(rule) or _PLATFORM in str(rule))


def _faults_of_indexes(cursor: Cursor, tables: Mapping[str, _Table]) -> Iterator[str]:
    for table, index, unique, primary, columns, method, references in _rows(
        cursor,
        """
        SELECT t.relname, i.relname, x.indisunique OR x.indisexclusion, x.indisprimary,
               array(SELECT coalesce(a.attname, '(expression)')
                     FROM unnest(x.indkey[0:x.indnkeyatts - 1]) WITH ORDINALITY AS k(number, position)
                     LEFT JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum = k.number
                     ORDER BY k.position)::text[],
               m.amname,
               array(SELECT a.attname FROM pg_constraint f
                     JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum = ANY (f.conkey)
                     WHERE f.conrelid = t.oid AND f.contype = 'f')::text[]
        FROM pg_index x
        JOIN pg_class t ON t.oid = x.indrelid AND NOT t.relispartition
        JOIN pg_namespace n ON n.oid = t.relnamespace AND n.nspname = 'public'
        JOIN pg_class i ON i.oid = x.indexrelid
        JOIN pg_am m ON m.oid = i.relam
        WHERE EXISTS (SELECT 1 FROM pg_attribute a
                      WHERE a.attrelid = t.oid AND a.attname = 'tenant_id' AND NOT a.attisdropped)
        """,
    ):
        if table not in tables:
            continue
        if unique:
            # A primary key of random ids tells nothing that its holder did not know.
            random = primary and columns == ["id"]
            if not random and "tenant_id" not in columns and index not in UNIQUE_WITHOUT_TENANT:
                yield f"unique index {index} of {table} leaves the tenant out: it tells of other tenants' rows"
            continue
        # BRIN covers whole ranges of a table, and a single reference is followed from a row that was found already.
        followed = len(columns) == 1 and columns[0] in references
        if columns[0] != "tenant_id" and method != "brin" and not followed and index not in NOT_BY_TENANT:
            yield f"index {index} of {table} does not begin with the tenant and has no reason in NOT_BY_TENANT"


def _faults_of_counters(cursor: Cursor, tables: Mapping[str, _Table]) -> Iterator[str]:
    for table, column in _rows(
        cursor,
        """
        SELECT t.relname, a.attname
        FROM pg_attribute a
        JOIN pg_class t ON t.oid = a.attrelid AND t.relkind IN ('r', 'p') AND NOT t.relispartition
        JOIN pg_namespace n ON n.oid = t.relnamespace AND n.nspname = 'public'
        LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
        WHERE (a.attidentity <> '' OR pg_get_expr(d.adbin, d.adrelid) LIKE 'nextval(%%')
          AND EXISTS (SELECT 1 FROM pg_attribute o
                      WHERE o.attrelid = t.oid AND o.attname = 'tenant_id' AND NOT o.attisdropped)
        """,
        none=None,
    ):
        if table in tables and f"{table}.{column}" not in COUNTED_OVER_TENANTS:
            yield f"{table}.{column} counts over all tenants; take a UUIDv7"


def _faults_of_functions(cursor: Cursor) -> Iterator[str]:
    for name, configured in _rows(cursor, _DEFINERS_QUERY):
        if name not in DEFINERS:
            yield f"function {name} runs with its owner's rights and has no reason in DEFINERS"
        if not any(each.startswith("search_path=") for each in configured):
            yield f"function {name} runs with its owner's rights and the caller's search_path; SET search_path"


_DEFINERS_QUERY: Final = """
    SELECT p.proname, coalesce(p.proconfig, '{}')
    FROM pg_proc p
    JOIN pg_namespace n ON n.oid = p.pronamespace AND n.nspname = 'public'
    WHERE p.prosecdef
"""


def _faults_of_role(cursor: Cursor, role: str) -> Iterator[str]:
    rows = _rows(
        cursor,
        """
        SELECT rolsuper, rolbypassrls, rolcreaterole, rolcreatedb, rolreplication
        FROM pg_roles WHERE rolname = %(role)s
        """,
        role=role,
    )
    if not rows:
        yield f"there is no role {role}"
        return
    for holds, told in zip(
        rows[0],
        ("a superuser", "free of row-level security", "able to make roles", "able to make databases",
         "able to replicate"),
        strict=True,
    ):  # fmt: skip
        if holds:
            yield f"role {role} is {told}"
    for (owned,) in _rows(
        cursor,
        """
        SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname = 'public' AND pg_get_userbyid(c.relowner) = %(role)s
        UNION ALL SELECT p.proname FROM pg_proc p WHERE pg_get_userbyid(p.proowner) = %(role)s
        UNION ALL SELECT n.nspname FROM pg_namespace n WHERE pg_get_userbyid(n.nspowner) = %(role)s
        UNION ALL SELECT d.datname FROM pg_database d WHERE pg_get_userbyid(d.datdba) = %(role)s
        """,
        role=role,
    ):
        yield f"role {role} owns {owned}, so that it may switch its policies off"
    for (group,) in _rows(
        cursor,
        "SELECT rolname FROM pg_roles WHERE rolname <> %(role)s AND pg_has_role(%(role)s, oid, 'MEMBER')",
        role=role,
    ):
        yield f"role {role} is a member of {group} and has its rights"
    for (table,) in _rows(
        cursor,
        """
        SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname = 'public'
        WHERE c.relkind IN ('r', 'p')
          AND (has_table_privilege(%(role)s, c.oid, 'TRUNCATE') OR has_table_privilege(%(role)s, c.oid, 'TRIGGER')
               OR has_table_privilege(%(role)s, c.oid, 'REFERENCES'))
        """,
        role=role,
    ):
        yield f"role {role} may truncate, reference or put triggers on {table}, past its policies"
    if _rows(cursor, "SELECT 1 WHERE has_schema_privilege(%(role)s, 'public', 'CREATE')", role=role):
        yield f"role {role} may make tables in the schema public"


def _stale(cursor: Cursor, tables: Mapping[str, _Table], known: Mapping[str, str]) -> Iterator[str]:
    indexes = {
        name
        for (name,) in _rows(
            cursor, "SELECT c.relname FROM pg_class c WHERE c.relkind IN ('i', 'I') AND NOT c.relispartition"
        )
    }
    definers = {name for name, _ in _rows(cursor, _DEFINERS_QUERY)}
    for title, listed, there in (
        ("EXEMPT", EXEMPT, set(known.values())),
        ("OPEN_TO_READ", OPEN_TO_READ, set(tables)),
        ("DEFINERS", DEFINERS, definers),
        ("UNIQUE_WITHOUT_TENANT", UNIQUE_WITHOUT_TENANT, indexes),
        ("NOT_BY_TENANT", NOT_BY_TENANT, indexes),
    ):
        for name, reason in listed.items():
            if name not in there:
                yield f"{title} names {name}, which does not exist"
            if not reason.strip():
                yield f"{title} gives no reason for {name}"
    for pattern, reason in OTHER_TABLES.items():
        if not any(_listed(name, {pattern: reason}) for name in tables):
            yield f"OTHER_TABLES names {pattern}, which does not exist"


def _listed(name: str, listed: Mapping[str, str]) -> bool:
    return any(
        name.startswith(each[:-1]) if each.endswith("*") else name == each
        for each, reason in listed.items()
        if reason.strip()
    )
