"""Prices that are only tried are seen by no tenant; what was agreed never vanishes, a commitment may only end at
another time."""

from django.db import migrations, models

from tenants.isolation import PLATFORM_RULE, never_changes

OPEN_TENANT = "(SELECT nullif(current_setting('berth.tenant', true), '')::uuid)"
RULE = f"((book_id IS NULL AND (tenant_id IS NULL OR tenant_id = {OPEN_TENANT})) OR {PLATFORM_RULE})"
RULE_BEFORE = f"((tenant_id IS NULL AND book_id IS NULL) OR tenant_id = {OPEN_TENANT} OR {PLATFORM_RULE})"


def rule(using: str) -> str:
    """Give the statement that sets which prices are seen."""
    return f"ALTER POLICY tenant_isolation ON billing_price USING {using} WITH CHECK {PLATFORM_RULE};"


def stays(table: str, which: str = "") -> migrations.RunSQL:
    """Refuse every DELETE of ``table``, or of the rows for which ``which`` holds."""
    when = f"WHEN ({which}) " if which else ""
    return migrations.RunSQL(
        f"CREATE TRIGGER {table}_never_deleted BEFORE DELETE ON {table} "
        f"FOR EACH ROW {when}EXECUTE FUNCTION berth_refuse_change();",
        f"DROP TRIGGER {table}_never_deleted ON {table};",
    )


class Migration(migrations.Migration):
    dependencies = [("billing", "0011_gpu_time")]

    operations = [
        migrations.RunSQL(rule(RULE), rule(RULE_BEFORE)),
        stays("billing_price", "OLD.book_id IS NULL"),
        stays("billing_commitment"),
        stays("billing_credit"),
        never_changes(
            "billing_commitment", "tenant_id, name, gpu_type, region, gpus, rate, currency, starts_at, note"
        ),
        migrations.RemoveConstraint("commitment", "commitment_ends_after_start"),
        migrations.AddConstraint(
            "commitment",
            models.CheckConstraint(
                condition=models.Q(ends_at__gte=models.F("starts_at")), name="commitment_ends_after_start"
            ),
        ),
    ]
