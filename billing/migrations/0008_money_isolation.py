"""Row-level security of what money needs, and what the database itself holds: a ledger that sums to zero and never
changes, final statements that never change."""

from django.db import migrations

from tenants.isolation import PLATFORM_RULE, TENANT_RULE, isolate, never_changes

PRICE_RULE = f"((tenant_id IS NULL AND book_id IS NULL) OR {TENANT_RULE})"

# Deferred: a transaction is posted entry by entry, and judged when all of them are in.
BALANCE = """
CREATE FUNCTION berth_ledger_balances() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    off numeric;
    currencies integer;
BEGIN
    SELECT sum(entry.amount), count(DISTINCT account.currency) INTO off, currencies
    FROM billing_ledgerentry AS entry JOIN billing_ledgeraccount AS account ON account.id = entry.account_id
    WHERE entry.transaction_id = NEW.transaction_id;
    IF off <> 0 OR currencies > 1 THEN
        RAISE EXCEPTION 'ledger transaction % does not balance: % over % currencies', NEW.transaction_id, off,
            currencies USING ERRCODE = 'check_violation';
    END IF;
    RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER billing_ledgerentry_balances AFTER INSERT ON billing_ledgerentry
DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION berth_ledger_balances();
"""
NO_BALANCE = """
DROP TRIGGER billing_ledgerentry_balances ON billing_ledgerentry;
DROP FUNCTION berth_ledger_balances();
"""

FINAL = """
CREATE FUNCTION berth_final_statement() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.state = 'final' THEN
        RAISE EXCEPTION 'statement % is final; what comes later goes into the next one', OLD.number
            USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN CASE WHEN TG_OP = 'DELETE' THEN OLD ELSE NEW END;
END $$;
CREATE TRIGGER billing_statement_final BEFORE UPDATE OR DELETE ON billing_statement
FOR EACH ROW EXECUTE FUNCTION berth_final_statement();

CREATE FUNCTION berth_final_line() RETURNS trigger LANGUAGE plpgsql AS $$
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
NOT_FINAL = """
DROP TRIGGER billing_statementline_final ON billing_statementline;
DROP FUNCTION berth_final_line();
DROP TRIGGER billing_statement_final ON billing_statement;
DROP FUNCTION berth_final_statement();
"""


def never_deleted(table: str) -> migrations.RunSQL:
    """Refuse every DELETE of ``table``."""
    return migrations.RunSQL(
        f"CREATE TRIGGER {table}_never_deleted BEFORE DELETE ON {table} "
        "FOR EACH ROW EXECUTE FUNCTION berth_refuse_change();",
        f"DROP TRIGGER {table}_never_deleted ON {table};",
    )


class Migration(migrations.Migration):
    dependencies = [("billing", "0007_money"), ("tenants", "0004_gateway_policies")]

    operations = [
        isolate("billing_allocationphase"),
        isolate("billing_heldhour"),
        isolate("billing_attainment"),
        isolate("billing_billingaccount"),
        isolate("billing_commitment"),
        isolate("billing_credit"),
        isolate("billing_ledgeraccount"),
        isolate("billing_ledgertransaction"),
        isolate("billing_ledgerentry"),
        isolate("billing_price", PRICE_RULE, PLATFORM_RULE),
        isolate("billing_book", PLATFORM_RULE),
        isolate("billing_assetrate", PLATFORM_RULE),
        isolate("billing_gpusupply", PLATFORM_RULE),
        isolate("billing_clusterhour", PLATFORM_RULE),
        isolate("billing_sharedperiod", "(true)", PLATFORM_RULE),
        never_changes("billing_assetrate"),
        never_changes("billing_credit"),
        never_changes("billing_ledgeraccount"),
        never_changes("billing_ledgertransaction"),
        never_changes("billing_ledgerentry"),
        never_deleted("billing_ledgertransaction"),
        never_deleted("billing_ledgerentry"),
        migrations.RunSQL(BALANCE, NO_BALANCE),
        migrations.RunSQL(FINAL, NOT_FINAL),
    ]
