"""The table: what everybody may do. Written by hand, apart from the code; a test holds one against the other.

``OPERATIONS`` and ``PAGES`` sort everything there is into groups, ``GROUPS`` says who may. Whoever may not is answered
by where they stand (:func:`outcome`): strangers as if it did not exist, members by what their role lacks.

*Allowed* is every answer but those of a refusal: a request that is let in may still be wrong (400, 409, 422), for
most writes are sent with an empty body. *Refused* is 401, 403 or 404, or on pages the way to the sign-in page.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from tests.access.callers import Side

EVERY_ROLE = frozenset({"owner", "admin", "developer", "billing", "viewer", "service account"})
OF_MONEY = frozenset({"owner", "admin", "developer", "billing", "service account"})
OF_WORK = frozenset({"owner", "admin", "developer", "service account"})
OF_TENANT = frozenset({"owner", "admin"})
WHOLE = frozenset({"operator", "superuser"})  # operators who answer for every cluster
OPERATORS = WHOLE | {"operator here", "operator elsewhere"}

GROUPS: Final[dict[str, frozenset[str]]] = {
    "tenant: look": EVERY_ROLE,
    "tenant: order": OF_WORK,
    "tenant: keys": OF_WORK,
    "tenant: report usage": OF_WORK,
    "tenant: money": OF_MONEY,
    "tenant: budgets": frozenset({"owner", "admin", "billing"}),
    "tenant: manage": OF_TENANT,
    "tenant: identity": frozenset({"owner"}),
    # People decide, and the rule names them: no key, not even an owner's.
    "tenant: decide": frozenset(),
    "platform: see estate": OPERATORS | {"auditor"},
    "platform: manage estate": OPERATORS,
    "platform: see fleet": WHOLE | {"auditor"},
    "platform: manage fleet": WHOLE,
    "platform: see endpoints": OPERATORS | {"auditor"},
    "platform: manage endpoints": OPERATORS,
    "platform: see offer": OPERATORS | {"auditor"},
    # Each kind of document asks for its own right.
    "platform: see configuration": OPERATORS | {"finance", "auditor"},
    "platform: apply configuration": WHOLE | {"finance"},
    "platform: manage offer": WHOLE,
    "platform: see tenants": WHOLE | {"finance", "auditor"},
    "platform: manage tenants": WHOLE,
    "platform: see money": WHOLE | {"finance", "auditor"},
    "platform: manage money": frozenset({"superuser", "finance"}),
    "platform: see usage checks": WHOLE | {"finance", "auditor"},
    "platform: see audit": frozenset({"superuser", "auditor"}),
    "platform: see people": frozenset({"superuser", "auditor"}),
    "platform: manage people": frozenset({"superuser"}),
}

#: Operations of the API under /api/v1/, by group.
OPERATIONS: Final[dict[str, str]] = {
    "tenant: look": """
        GET tenant
        GET quotas
        GET projects
        GET projects/{id}
        GET members
        GET members/{id}
        GET keys
        GET keys/{id}
        GET models
        GET models/{name}
        GET models/{name}/secret
        GET slo-classes
        GET slo-classes/{name}
        GET regions
        GET regions/{code}
        GET profiles
        GET endpoints
        GET endpoints/{id}
        GET endpoints/{id}/events
        GET endpoints/{id}/revisions
        GET endpoints/{id}/revisions/{number}/configuration
        GET endpoints/{id}/rollouts
        GET endpoints/{id}/rollouts/{rollout_id}
        POST endpoints/{id}:plan-change
        GET endpoints/{id}/logs
        GET endpoints/{id}/signals
        GET endpoints/{id}/load
        GET endpoints/{id}/autoscaling
        GET endpoints/{id}/scaling-decisions
        GET endpoints/{id}/schedules
        GET endpoints/{id}/schedules/{schedule_id}
        GET endpoints/{id}/trace
        GET shared-endpoints
        GET routes
        GET routes/{id}
        GET budgets
        GET budgets/{id}
        GET budgets/{id}/forecast
        GET budgets/{id}/windows
        GET slo-attainment
        GET approval-requests
        GET approval-requests/{id}
        GET approval-rules
        GET approval-rules/{id}
        GET policy
        GET policy/versions
        GET policy-exceptions
        GET policy-exceptions/{id}
        GET service-accounts
        GET service-accounts/{id}
        GET evaluation-sets
        GET evaluation-sets/{id}
        GET evaluations
        GET evaluations/{id}
        POST endpoints:plan
        GET configuration
        POST configuration:diff
        POST configuration:apply
    """,
    "tenant: order": """
        POST endpoints
        PATCH endpoints/{id}
        DELETE endpoints/{id}
        PUT endpoints/{id}/autoscaling
        POST endpoints/{id}/schedules
        PUT endpoints/{id}/schedules/{schedule_id}
        DELETE endpoints/{id}/schedules/{schedule_id}
        POST endpoints/{id}:pause
        POST endpoints/{id}:resume
        POST endpoints/{id}:replan
        POST endpoints/{id}:keep-order
        POST endpoints/{id}/revisions/{number}:restore
        POST endpoints/{id}:change
        POST endpoints/{id}/rollouts/{rollout_id}:promote
        POST endpoints/{id}/rollouts/{rollout_id}:rollback
        POST endpoints/{id}/rollouts/{rollout_id}:retry
        POST endpoints/{id}/rollouts/{rollout_id}:dismiss
        POST routes
        PATCH routes/{id}
        DELETE routes/{id}
        POST endpoints/{id}:ask-again
        POST policy-exceptions
        POST endpoints/{id}/evaluations
        POST evaluation-sets
        PATCH evaluation-sets/{id}
        DELETE evaluation-sets/{id}
    """,
    "tenant: keys": """
        POST keys
        PATCH keys/{id}
        DELETE keys/{id}
        POST keys/{id}:revoke
        POST keys/{id}:rotate
        POST keys:leaked
        POST keys:revoke-many
    """,
    "tenant: report usage": """
        POST usage-events
    """,
    "tenant: money": """
        GET usage
        GET costs
        GET statements
        GET statements/current
        GET statements/{id}
        GET statements/{id}/lines
        GET statements/{id}/pdf
        GET statements/{id}/csv
        GET statements/{id}/focus.csv
        GET statements/{id}/focus.parquet
        GET commitments
        GET commitments/use
        GET commitments/{id}
        GET credits
        GET credits/{id}
        GET prices
        GET prices/{id}
        GET allocations
        GET allocations/{id}
        GET routes/{id}/costs
        POST endpoints/{id}:what-if
        POST endpoints/{id}:gate
    """,
    "tenant: budgets": """
        POST budgets
        PATCH budgets/{id}
        DELETE budgets/{id}
    """,
    "tenant: manage": """
        PATCH tenant
        POST projects
        PATCH projects/{id}
        PATCH members/{id}
        DELETE members/{id}
        PUT models/{name}/secret
        DELETE models/{name}/secret
        GET webhooks
        POST webhooks
        GET webhooks/{id}
        PATCH webhooks/{id}
        DELETE webhooks/{id}
        POST webhooks/{id}/rotate
        POST webhooks/{id}/test
        GET webhooks/{id}/deliveries
        POST webhooks/deliveries/{id}/redeliver
        GET invitations
        POST invitations
        GET invitations/{id}
        DELETE invitations/{id}
        POST invitations/{id}:resend
        POST invitations/{id}:revoke
        POST service-accounts
        PATCH service-accounts/{id}
        DELETE service-accounts/{id}
        POST approval-rules
        PATCH approval-rules/{id}
        DELETE approval-rules/{id}
        PUT policy
        POST policy-exceptions/{id}:end
        GET audit-entries
        GET audit-entries/{id}
        GET audit-entries:export
        GET endpoints/{id}/evidence
        POST evaluations/{id}:accept
    """,
    "platform: see estate": """
        GET clusters
        GET clusters/{name}
        GET clusters/{name}/nodes
        GET clusters/{name}/pools/{pool}/measurements
        GET clusters/{name}/pools/{pool}/measurements/{id}
        GET platform/utilization
        GET platform/fragmentation
        GET platform/throughput
    """,
    "platform: manage estate": """
        PATCH clusters/{name}
        DELETE clusters/{name}
        POST clusters/{name}:check
        POST clusters/{name}:cordon
        POST clusters/{name}:uncordon
        POST clusters/{name}:declare-lost
        POST clusters/{name}/credentials
        POST clusters/{name}/pools/{pool}:qualify
        DELETE clusters/{name}/pools/{pool}/measurements/{id}
    """,
    "platform: see fleet": """
        GET advice-policy
        GET advice-runs
        GET advice-runs/{id}
    """,
    "platform: manage fleet": """
        POST clusters
        POST clusters:check
        PATCH advice-policy
        POST advice-runs
        POST advice-runs/{id}:apply
        POST advice-runs/{id}:dismiss
    """,
    "platform: see endpoints": """
        GET platform/savings
        GET platform/approval-requests
    """,
    "platform: manage endpoints": """
        POST endpoints/{id}:move
        POST platform/savings/{id}:dismiss
        POST platform/approval-requests/{id}:approve
        POST platform/approval-requests/{id}:refuse
        POST platform/evaluations/{id}:accept
    """,
    "platform: see offer": """
        GET engine-images
        GET engine-images/{use}
        GET engine-settings
        GET engine-settings/{slo_class}
        GET platform/evaluation-sets
        GET platform/evaluation-sets/{id}
    """,
    "platform: see configuration": """
        GET platform/configuration
        POST platform/configuration:diff
    """,
    "platform: apply configuration": """
        POST platform/configuration:apply
    """,
    "platform: manage offer": """
        PUT engine-images/{use}
        PATCH engine-settings/{slo_class}
        PUT models/{name}/tokenizer
        POST endpoints/{id}:share
        POST platform/evaluation-sets
        PATCH platform/evaluation-sets/{id}
        DELETE platform/evaluation-sets/{id}
    """,
    "platform: see tenants": """
        GET tenants/{slug}
    """,
    "platform: manage tenants": """
        PATCH tenants/{slug}
        PUT platform/policies/{slug}/floor
    """,
    "platform: see money": """
        GET asset-rates
        GET asset-rates/{id}
        GET billing-accounts
        GET list-prices
        GET list-prices/{id}
        GET platform/costs
        GET price-books
        GET price-books/{id}
        GET price-books/{id}/prices
        GET price-books/{id}/rerate
        GET tenant-budgets
        GET tenant-budgets/{id}
        GET tenant-statements
        GET tenant-statements/{id}
        GET tenant-statements/{id}/pdf
        GET tenant-statements/{id}/csv
        GET tenant-statements/{id}/focus.csv
        GET tenant-statements/{id}/focus.parquet
        GET tenants/{slug}/commitments
        GET tenants/{slug}/commitments/{id}
        GET tenants/{slug}/credits
        GET tenants/{slug}/credits/{id}
        GET platform/recovery
    """,
    "platform: manage money": """
        POST asset-rates
        POST list-prices
        POST price-books
        DELETE price-books/{id}
        POST price-books/{id}/prices
        POST price-books/{id}:copy-list
        POST price-books/{id}:publish
        DELETE price-books/prices/{id}
        POST tenants/{slug}/billing-account:park
        POST tenants/{slug}/billing-account:unpark
        POST tenants/{slug}/commitments
        POST tenants/{slug}/commitments/{id}:end
        POST tenants/{slug}/credits
    """,
    "platform: see usage checks": """
        GET usage-gaps
        GET usage-reconciliation
        GET usage-refusals
    """,
    "tenant: decide": """
        POST approval-requests/{id}:approve
        POST approval-requests/{id}:change
        POST approval-requests/{id}:refuse
        POST approval-requests/{id}:withdraw
    """,
    "platform: see audit": """
        GET platform/audit-entries
        GET platform/audit-entries/{id}
        GET platform/audit-entries:export
    """,
    "platform: see people": """
        GET platform/people
        GET platform/people/{id}
    """,
    "platform: manage people": """
        POST platform/people
        PATCH platform/people/{id}
        DELETE platform/people/{id}
    """,
}

#: Pages by the name of their address. GET and POST both, but for the POSTs that ``POSTS`` names.
PAGES: Final[dict[str, str]] = {
    "tenant: look": """
        tenant:endpoints
        tenant:endpoints-table
        tenant:endpoint
        tenant:endpoint-status
        tenant:endpoint-revisions
        tenant:endpoint-revision
        tenant:endpoint-rollouts
        tenant:endpoint-rollout
        tenant:endpoint-playground
        tenant:endpoint-logs
        tenant:endpoint-log
        tenant:endpoint-load
        tenant:endpoint-replicas
        tenant:catalog
        tenant:model
        tenant:keys
        tenant:budgets
        tenant:budget
        tenant:projects
        tenant:settings
        tenant:routes
        tenant:route
        tenant:members
        tenant:approvals
        tenant:approval
        tenant:policy
        tenant:policy-versions
        tenant:service-accounts
        tenant:endpoint-evaluations
        tenant:endpoint-evaluation
        tenant:endpoint-evaluation-set
    """,
    "tenant: order": """
        tenant:endpoint-restore
        tenant:endpoint-change
        tenant:endpoint-rollout-promote
        tenant:endpoint-rollout-rollback
        tenant:endpoint-rollout-retry
        tenant:endpoint-rollout-dismiss
        tenant:endpoint-replan
        tenant:endpoint-keep-order
        tenant:endpoint-limits
        tenant:endpoint-scale
        tenant:endpoint-schedule-new
        tenant:endpoint-schedule
        tenant:endpoint-pause
        tenant:endpoint-resume
        tenant:endpoint-delete
        tenant:order
        tenant:order-quote
        tenant:route-new
        tenant:route-edit
        tenant:route-delete
        tenant:approval-ask-again
        tenant:policy-exception-new
        tenant:endpoint-evaluation-set-new
        tenant:endpoint-evaluation-set-remove
    """,
    "tenant: keys": """
        tenant:endpoint-playground-key
        tenant:key-new
        tenant:key
        tenant:key-revoke
        tenant:key-rotate
        tenant:keys-revoke
        tenant:key-leaked
    """,
    "tenant: money": """
        tenant:endpoint-cost
        tenant:endpoint-cost-csv
        tenant:endpoint-what-if
        tenant:usage
        tenant:usage-csv
        tenant:commitments
        tenant:statements
        tenant:statement
        tenant:statement-file
    """,
    "tenant: budgets": """
        tenant:budget-new
        tenant:budget-edit
        tenant:budget-delete
    """,
    "tenant: manage": """
        tenant:model-secret
        tenant:model-secret-remove
        tenant:project-new
        tenant:project
        tenant:webhooks
        tenant:webhook-new
        tenant:webhook
        tenant:webhook-edit
        tenant:webhook-test
        tenant:webhook-rotate
        tenant:webhook-remove
        tenant:webhook-redeliver
        tenant:member-new
        tenant:member-role
        tenant:member-remove
        tenant:endpoint-evidence
        tenant:policy-edit
        tenant:approval-rule-new
        tenant:approval-rule
        tenant:policy-exception-end
        tenant:audit
        tenant:audit-export
        tenant:audit-entry
        tenant:member-invite-resend
        tenant:member-invite-revoke
        tenant:service-account-new
        tenant:service-account-switch
        tenant:service-account-remove
        tenant:service-account
    """,
    "platform: see estate": """
        console:home
        console:clusters
        console:cluster
        console:pool-measurements
        console:gateways
        console:gateway
        console:report-utilization
        console:report-fragmentation
        console:report-throughput
    """,
    "platform: manage estate": """
        console:cluster-check
        console:cluster-rotate
        console:cluster-settings
        console:cluster-remove
        console:cluster-lost
        console:cluster-cordon
        console:cluster-uncordon
        console:pool-add
        console:pool-change
        console:pool-qualify
        console:pool-measurement-remove
        console:gateway-deploy
        console:gateway-change
        console:gateway-remove
        console:gateway-token
        console:gateway-gap-accept
    """,
    "platform: see fleet": """
        console:advisor
        console:advisor-state
        console:advisor-result
        console:what-if
    """,
    "platform: manage fleet": """
        console:cluster-register
        console:cluster-register-local
        console:region-register
        console:gateway-register
        console:advisor-run
        console:advisor-policy
        console:advisor-decide
    """,
    "platform: see endpoints": """
        console:endpoints
        console:endpoint
        console:endpoint-log
        console:endpoint-revision
        console:report-savings
        console:approvals
        console:approval
    """,
    "platform: manage endpoints": """
        console:endpoint-move
        console:endpoint-restore
        console:saving-dismiss
    """,
    "platform: see offer": """
        console:catalog
        console:model
        console:engine-images
        console:engine-settings
        console:slo-classes
    """,
    "platform: manage offer": """
        console:model-add
        console:model-edit
        console:model-weights
        console:model-evaluation-add
        console:model-evaluation
        console:model-evaluation-remove
        console:model-secret
        console:model-secret-remove
        console:engine-image
        console:engine-settings-edit
        console:slo-add
        console:slo-edit
        console:endpoint-share
    """,
    "platform: see tenants": """
        console:tenants
        console:tenant
        console:sign-in
    """,
    "platform: manage tenants": """
        console:tenant-open
        console:tenant-limits
        console:tenant-quota
        console:sign-in-domain-confirm
    """,
    "platform: see money": """
        console:report-costs
        console:prices
        console:asset-rates
        console:price-rerate
        console:price-books
        console:price-book
        console:statements
        console:statement-file
        console:tenant-commitments
    """,
    "platform: manage money": """
        console:price-add
        console:asset-rate-add
        console:price-book-new
        console:price-book-set
        console:price-book-copy
        console:price-book-publish
        console:price-book-delete
        console:price-book-remove
        console:account-unpark
        console:tenant-commitment-add
        console:tenant-commitment-end
        console:tenant-credit-grant
    """,
    "platform: see usage checks": """
        console:reconciliation
    """,
    "everybody": """
        healthz
        error-docs
        docs
    """,
    "signed in": """
        home
        tenants
        security
        sessions-end-others
    """,
    "gateways": """
        gateway-snapshot
        gateway-usage
        gateway-tokenizer
        gateway-replicas
        gateway-leases
        gateway-signals
        gateway-wakes
    """,
    "tenant: identity": """
        tenant:sign-in
        tenant:sign-in-provider-new
        tenant:sign-in-provider
        tenant:sign-in-provider-edit
        tenant:sign-in-provider-remove
        tenant:sign-in-mapping-remove
    """,
    "platform: see audit": """
        console:audit
        console:audit-export
        console:audit-entry
        console:endpoint-evidence
    """,
    "platform: see people": """
        console:people
        console:sign-in-provider
    """,
    "platform: manage people": """
        console:person-add
        console:person
        console:person-remove
        console:person-sessions
        console:person-session-end
        console:person-sessions-end
        console:sign-in-provider-add
        console:sign-in-provider-edit
        console:sign-in-provider-remove
        console:sign-in-mapping-remove
    """,
    "by a link": """
        decide
        invitation
        invitation-join
        session-end
    """,
}

POSTS: Final[dict[str, str]] = {
    "tenant: order": """
        tenant:endpoint-evaluations
        tenant:endpoint-evaluation-set
        tenant:endpoint-replicas
    """,
    "tenant: budgets": """
        tenant:budget
    """,
    "tenant: manage": """
        tenant:settings
        tenant:policy
        tenant:policy-versions
        tenant:endpoint-evaluation
    """,
    "platform: manage endpoints": """
        console:approvals
        console:approval
    """,
    "platform: manage people": """
        console:sign-in-provider
    """,
}

#: Pages that write when somebody looks, each with the reason. No other may.
WRITES_WHEN_SHOWN: Final = {
    "tenant:statements": "the draft of the running month is computed where it is not yet"
}

#: Kinds of objects in paths that are of a tenant: to other tenants they do not exist.
OF_TENANTS: Final = {
    "approval-requests", "approval-rules", "policy-exceptions", "audit-entries", "service-accounts", "invitations",
    "projects", "members", "keys", "endpoints", "endpoints/revisions", "endpoints/schedules", "routes", "budgets",
    "statements", "commitments", "credits", "allocations", "webhooks", "webhooks/deliveries", "prices",
    "evaluation-sets", "evaluations",
}  # fmt: skip

#: Kinds that stand on one cluster: to operators of others they do not exist.
ON_A_CLUSTER: Final = {
    "clusters", "clusters/pools", "clusters/pools/measurements", "kubernetes", "gateways", "gateways/gaps",
    "endpoints", "endpoints/revisions", "endpoints/logs", "platform/savings", "reports/savings",
    "platform/approval-requests", "approvals", "platform/evaluations",
}  # fmt: skip

ALLOWED, UNKNOWN, REFUSED, HIDDEN, NO_TENANT = "allowed", "401", "403", "404", "400: no tenant named"
SIGN_IN = "to the sign-in page"
NO_METHOD = "405"  # said before anything is looked for, and so of nothing in particular


def outcome(group: str, caller: str, side: Side, kinds: Collection[str]) -> str:
    """Say what a caller of the API is answered whose path names objects of these kinds, Nord's or on its cluster."""
    if side is Side.NOBODY:
        return UNKNOWN
    if group.startswith("platform"):
        if side is not Side.PLATFORM:
            return HIDDEN
        return _of_platform(group, caller, kinds)
    if side is Side.PLATFORM:
        return NO_TENANT
    if side is Side.OTHER:
        return HIDDEN if OF_TENANTS & set(kinds) else ALLOWED if GROUPS[group] else REFUSED
    return ALLOWED if caller in GROUPS[group] else REFUSED


def _of_platform(group: str, caller: str, kinds: Collection[str]) -> str:
    if caller not in GROUPS[group]:
        return REFUSED
    return HIDDEN if caller == "operator elsewhere" and ON_A_CLUSTER & set(kinds) else ALLOWED


def page_outcome(group: str, caller: str, side: Side, kinds: Collection[str]) -> str:
    """Say what a page answers a person."""
    if group in {"everybody", "by a link"}:
        return ALLOWED
    if group == "gateways":
        return UNKNOWN
    if side is Side.NOBODY:
        return SIGN_IN
    if group == "signed in":
        return ALLOWED
    if group.startswith("platform") != (side is Side.PLATFORM) or side is Side.OTHER:
        return HIDDEN
    if side is Side.PLATFORM:
        return _of_platform(group, caller, kinds)
    return ALLOWED if caller in GROUPS[group] else REFUSED
