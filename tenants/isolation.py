"""Row-level security as a migration operation, and the exemptions that need none."""

from __future__ import annotations

from django.db.migrations.operations import RunSQL

#: Models without a tenant column, each with the reason. The registry test reads this.
EXEMPT = {
    "tenants.User": "a person may be a member of several tenants; memberships are isolated",
    "tenants.Tenant": "the row that all others point to; its own policy shows only the open tenant",
    "tenants.AuditEntry": "also the platform's chain; its own policy shows a tenant its own, and lets nobody write",
    "tenants.AuditHead": "ends of chains, the platform's too; its own policy shows a tenant its own",
    "tenants.IdentityProvider": "the platform's and tenants' providers; its own policy shows a tenant its own",
    "tenants.EmailDomain": "of the platform's and tenants' providers; its own policy shows a tenant its own",
    "tenants.GroupMapping": "of the platform's and tenants' providers; its own policy shows a tenant its own",
    "tenants.ProviderIdentity": "people at providers; its own policy shows them in the platform's scope only",
    "tenants.CacheEntry": "counts of attempts to sign in, by digest; no tenant's data",
    "tenants.OperatorIdempotencyRecord": "answers to operators, who act for no tenant",
    "tenants.SealingRotation": "when sealing keys were rotated; no tenant's data",
    "billing.Price": "the platform's and tenants' prices; its own policy shows a tenant the platform's and its own",
    "billing.Book": "price books that operators try; its own policy shows them in the platform's scope only",
    "billing.AssetRate": "what GPUs cost their owner; its own policy shows it in the platform's scope only",
    "billing.GpuSupply": "the platform's estate; its own policy shows it in the platform's scope only",
    "billing.ClusterHour": "the platform's estate; its own policy shows it in the platform's scope only",
    "billing.ModelDay": "sums over all tenants; its own policy shows them in the platform's scope only",
    "billing.ReportDay": "when reports were made; no tenant's data",
    "billing.ClusterDay": "the platform's estate; its own policy shows it in the platform's scope only",
    "billing.DueHour": "which hours of GPU time are computed next; no tenant's data",
    "billing.SharedPeriod": "which endpoints are sold to all tenants; all may read it, the platform alone writes",
    "billing.StatementNumber": "how many statements of a month were numbered; no tenant's data",
    "billing.RollupMark": "how far the rollups have read; no tenant's data",
    "billing.UsageDropped": "which days of usage were dropped; no tenant's data",
    "billing.UsageRefusal": "usage of whomever a gateway named; its own policy shows it in the platform's scope only",
    "billing.GatewaySequence": "what gateways shipped; its own policy shows it in the platform's scope only",
    "billing.SequenceGap": "what gateways shipped; its own policy shows it in the platform's scope only",
    "billing.GatewayDay": "sums of gateways over all tenants; its own policy shows it in the platform's scope only",
    "billing.GatewayLogDay": "sums of gateways over all tenants; its own policy shows it in the platform's scope only",
    "billing.EngineTokens": "what engines counted; its own policy shows it in the platform's scope only",
    "clusters.Region": "the platform's estate",
    "clusters.Cluster": "the platform's estate",
    "clusters.NodePool": "the platform's estate",
    "clusters.Node": "the platform's estate",
    "clusters.PoolMeasurement": "what was measured on the platform's estate, which plans for all tenants read",
    "clusters.EngineImage": "the platform's images, the same for all tenants",
    "clusters.ClassTuning": "the engine settings of the classes, the same for all tenants",
    "clusters.GpuType": "the platform's estate",
    "clusters.CatalogModel": "the catalog is the same for all tenants",
    "clusters.Tokenizer": "the tokenizers of the catalog are the same for all tenants",
    "clusters.SloClass": "the classes are the same for all tenants",
    "clusters.Gateway": "the platform's estate",
    "clusters.EvaluationSet": "the platform's and tenants' sets; its own policy shows a tenant both, it writes its own",
    "clusters.EvaluationVersion": "of the platform's and tenants' sets; its own policy is that of the sets",
    "clusters.OperatorCluster": "which clusters operators answer for; no tenant's data",
    "clusters.AppliedPlatformObject": "what was applied of the platform; its own policy shows it there only",
    "clusters.AdvicePolicy": "the operators' rules for the advisor",
    "clusters.AdviceRun": "re-plans of the whole fleet; its own policy shows them in the platform's scope only",
    "clusters.AdviceMove": "moves that operators decide on; its own policy shows them in the platform's scope only",
}

TENANT_RULE = """(
    tenant_id = (SELECT nullif(current_setting('berth.tenant', true), '')::uuid)
    OR (SELECT current_setting('berth.platform', true)) = 'on'
)"""

#: For rows that are of no one tenant and that no tenant may see.
PLATFORM_RULE = "((SELECT current_setting('berth.platform', true)) = 'on')"


def isolate(table: str, rule: str = TENANT_RULE, write_rule: str | None = None) -> RunSQL:
    """Enable and force row-level security on ``table``.

    ``rule`` decides which rows are seen, ``write_rule`` (default: the same) which may be written.
    The settings are read in scalar sub-selects, which PostgreSQL evaluates once per statement.
    """
    return RunSQL(
        f"""
        ALTER TABLE {table} ENABLE ROW LEVEL SECURITY;
        ALTER TABLE {table} FORCE ROW LEVEL SECURITY;
        CREATE POLICY tenant_isolation ON {table} USING {rule} WITH CHECK {write_rule or rule};
        """,
        f"""
        DROP POLICY tenant_isolation ON {table};
        ALTER TABLE {table} NO FORCE ROW LEVEL SECURITY;
        ALTER TABLE {table} DISABLE ROW LEVEL SECURITY;
        """,
    )


def never_changes(table: str, columns: str = "") -> RunSQL:
    """Refuse every UPDATE of ``table`` (or of ``columns``, separated by commas) in the database itself."""
    of = f"OF {columns} " if columns else ""
    return RunSQL(
        f"""
        CREATE TRIGGER {table}_never_changes BEFORE UPDATE {of}ON {table}
        FOR EACH ROW EXECUTE FUNCTION berth_refuse_change();
        """,
        f"DROP TRIGGER {table}_never_changes ON {table};",
    )
