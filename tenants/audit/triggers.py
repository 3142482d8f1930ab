"""The database's side of the registry: a trigger on every audited table, and who may do what to the audit itself.

``migrate`` brings both in line after every run, so that a migration needs to know nothing of either. Triggers name no
column of their table to PostgreSQL, so that no migration has to take one away first.
"""

from __future__ import annotations

from typing import Any

from psycopg import sql

from tenants.audit import registry

TRIGGER = "berth_audit"

_FOUND = """
SELECT c.relname, encode(t.tgargs, 'escape') FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
WHERE t.tgname = %s AND NOT t.tgisinternal
"""
_RIGHTS = """
REVOKE INSERT, UPDATE, DELETE, TRUNCATE ON tenants_auditentry, tenants_audithead FROM {app};
REVOKE ALL ON tenants_auditpending FROM {app};
"""


def installed(connection: Any) -> dict[str, str]:
    """Give the argument of every audit trigger there is, by table."""
    with connection.cursor() as cursor:
        cursor.execute(_FOUND, [TRIGGER])
        return {table: argument.removesuffix("\\000") for table, argument in cursor.fetchall()}


def align(connection: Any, application: str) -> None:
    """Give every audited table its trigger, and take the application's rights to change the audit.

    Does nothing before the audit's own migration. ``connection`` is the owner's, ``application`` the other role's name.
    """
    with connection.cursor() as cursor:
        cursor.execute("SELECT to_regclass('tenants_auditpending') IS NOT NULL, current_user")
        there, owner = cursor.fetchone()
        if not there:
            return
        if owner != application:
            cursor.execute(sql.SQL(_RIGHTS).format(app=sql.Identifier(application)))
        wanted, found = _wanted(connection), installed(connection)
        for table in found.keys() - wanted.keys():
            cursor.execute(
                sql.SQL("DROP TRIGGER {} ON {}").format(sql.Identifier(TRIGGER), sql.Identifier(table))
            )
        for table, argument in wanted.items():
            if found.get(table) != argument:
                cursor.execute(
                    sql.SQL(
                        "CREATE OR REPLACE TRIGGER {} AFTER INSERT OR UPDATE OR DELETE ON {} "
                        "FOR EACH ROW EXECUTE FUNCTION berth_audit_row({})"
                    ).format(sql.Identifier(TRIGGER), sql.Identifier(table), sql.Literal(argument))
                )


def _wanted(connection: Any) -> dict[str, str]:
    present = set(connection.introspection.table_names())
    return {table: each.argument() for table, each in registry.tables().items() if table in present}
