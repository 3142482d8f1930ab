"""What of people, keys and tenants is audited."""

from __future__ import annotations

from tenants.audit.registry import Audited, register

RATES = ("requests_per_minute", "tokens_per_minute")

AUDITED = {
    "tenants.User": Audited(
        "person",
        ("email", "name", "platform_role", "is_active", "is_staff", "is_superuser"),
        name="email",
        tenant="",
        hidden=("password",),
    ),
    "tenants.Tenant": Audited(
        "tenant",
        ("name", "slug", "time_zone", "currency", "state", "refuse_after_s", "files_days", "share", *RATES),
        tenant="id",
        verbs=(("state", "suspended", "suspend"), ("state", "active", "resume")),
    ),
    "tenants.Project": Audited("project", ("name", "slug", "cost_centre", *RATES)),
    "tenants.Membership": Audited("member", ("user_id", "role"), name=""),
    "tenants.ApiKey": Audited(
        "key",
        (
            "name", "hint", "scope", "role", "project_id", "ephemeral", "slo_class", "context_tokens", "expires_at",
            "revoked_at", "created_by_id", *RATES,
        ),
        verbs=(("revoked_at", "*", "revoke"),),
    ),
    "tenants.Quota": Audited("quota", ("resource", "limit"), name="resource"),
    "tenants.WebhookEndpoint": Audited(
        "webhook",
        ("name", "url", "event_types", "active", "previous_until", "disabled_at", "disabled_reason"),
        hidden=("secret",),
        verbs=(("disabled_at", "*", "disable"), ("previous_until", "*", "rotate")),
    ),
    # Of others' applications: who a person is elsewhere, and their second factors.
    "socialaccount.SocialAccount": Audited("outside-account", ("user_id", "provider", "uid"), name="uid", tenant=""),
    "mfa.Authenticator": Audited(
        "second-factor", ("user_id", "type"), name="type", tenant="", hidden=("data",)
    ),
}  # fmt: skip

UNAUDITED = {
    "tenants.AuditEntry": "the audit itself, chained by hashes",
    "tenants.AuditHead": "the audit itself, chained by hashes",
    "tenants.IdempotencyRecord": "answers kept for repeats; what was done is audited",
    "tenants.OperatorIdempotencyRecord": "answers kept for repeats; what was done is audited",
    "tenants.WebhookDelivery": "what is sent and when: machine state with a log of its own",
    "tenants.Mail": "what is sent and when: machine state",
}


def register_tables() -> None:
    """Tell the registry of them."""
    register(AUDITED, UNAUDITED)
