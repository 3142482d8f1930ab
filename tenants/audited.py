"""What of people, keys and tenants is audited."""

from __future__ import annotations

from tenants.audit.registry import Audited, register

RATES = ("requests_per_minute", "tokens_per_minute")

AUDITED = {
    "tenants.User": Audited(
        "person",
        ("email", "name", "platform_role", "platform_role_by_id", "is_active", "is_staff", "is_superuser"),
        name="email",
        tenant="",
        hidden=("password",),
    ),
    "tenants.Tenant": Audited(
        "tenant",
        ("name", "slug", "time_zone", "currency", "state", "refuse_after_s", "files_days", "share",
         "provider_only", "second_factor_of", *RATES),
        tenant="id",
        verbs=(("state", "suspended", "suspend"), ("state", "active", "resume")),
    ),
    "tenants.Project": Audited("project", ("name", "slug", "cost_centre", *RATES)),
    "tenants.Membership": Audited("member", ("user_id", "role", "managed_by_id"), name=""),
    "tenants.Invitation": Audited(
        "invitation",
        ("email", "role", "invited_by_id", "sent_at", "expires_at", "accepted_at", "revoked_at"),
        name="email",
        verbs=(("accepted_at", "*", "accept"), ("revoked_at", "*", "revoke"), ("sent_at", "*", "resend")),
    ),
    "tenants.IdentityProvider": Audited(
        "sign-in-provider",
        (
            "name", "issuer", "client_id", "scopes", "groups_claim", "makes_accounts", "second_factor", "active",
        ),
        hidden=("client_secret",),
    ),
    "tenants.EmailDomain": Audited(
        "email-domain",
        ("provider_id", "domain", "confirmed_at", "confirmed_by_id"),
        name="domain",
        verbs=(("confirmed_at", "*", "confirm"),),
    ),
    "tenants.GroupMapping": Audited(
        "group-mapping", ("provider_id", "group", "role", "platform_role"), name="group"
    ),
    "tenants.ProviderIdentity": Audited(
        "outside-identity", ("provider_id", "user_id", "subject"), name="subject", tenant=""
    ),
    "tenants.ApiKey": Audited(
        "key",
        (
            "name", "hint", "scope", "role", "project_id", "ephemeral", "revision", "slo_class", "context_tokens",
            "expires_at", "revoked_at", "created_by_id", "service_account_id", "projects", "endpoints", "verbs",
            "networks", "rotated_at", "replaced_by_id", *RATES,
        ),
        verbs=(("revoked_at", "*", "revoke"), ("rotated_at", "*", "rotate")),
    ),
    "tenants.ServiceAccount": Audited(
        "service-account",
        ("name", "description", "role", "projects", "active", "created_by_id", "removed_at"),
        verbs=(("removed_at", "*", "remove"), ("active", "false", "stop"), ("active", "true", "start")),
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
    "account.EmailAddress": Audited(
        "email-address", ("user_id", "email", "verified", "primary"), name="email", tenant=""
    ),
    "mfa.Authenticator": Audited(
        "second-factor", ("user_id", "type"), name="type", tenant="", hidden=("data",)
    ),
}  # fmt: skip

UNAUDITED = {
    "tenants.AuditEntry": "the audit itself, chained by hashes",
    "tenants.AuditHead": "the audit itself, chained by hashes",
    "tenants.IdempotencyRecord": "answers kept for repeats; what was done is audited",
    "tenants.OperatorIdempotencyRecord": "answers kept for repeats; what was done is audited",
    "tenants.SealingRotation": "how far a rotation came; the rotation is audited at its end",
    "tenants.WebhookDelivery": "what is sent and when: machine state with a log of its own",
    "tenants.CacheEntry": "counts of attempts to sign in, which expire",
    "tenants.Mail": "what is sent and when: machine state",
}


def register_tables() -> None:
    """Tell the registry of them."""
    register(AUDITED, UNAUDITED)
