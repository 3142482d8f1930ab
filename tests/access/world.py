"""One installation with rows of every kind, so that every path leads to something: Nord's, Other's, the platform's."""

from __future__ import annotations

import dataclasses
import datetime as dt
import uuid
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from allauth.usersessions.models import UserSession
from django.db import connection
from django.utils import timezone

from billing.books import book_create, book_price_set
from billing.budgets.services import budget_create
from billing.credits import credit_grant
from billing.gpu_time.rates import asset_rate_set
from billing.models import SequenceGap
from billing.prices import price_set
from billing.statements.accounts import account_park
from clusters.endpoints.approvals.figures import Figures
from clusters.endpoints.approvals.judging import Trip
from clusters.endpoints.approvals.rules import rule_create
from clusters.endpoints.autoscaling.setting import ScheduleTerms, schedule_set
from clusters.endpoints.evaluations.prompts import checked
from clusters.endpoints.evaluations.sets import newest_version, set_create
from clusters.endpoints.reconcile import reconcile_endpoint
from clusters.endpoints.rollouts.policy import RolloutPolicy
from clusters.endpoints.routes import route_create
from clusters.endpoints.services import endpoint_order
from clusters.inventory import catalog, services
from clusters.inventory.gateways import gateway_register
from clusters.models import (
    AdviceRun,
    ApprovalRequest,
    CatalogModel,
    Cluster,
    Endpoint,
    EvaluationRun,
    Gateway,
    GpuType,
    LoadObservation,
    NodePool,
    PolicyException,
    PoolMeasurement,
    Region,
    Revision,
    Rollout,
    Saving,
    TenantPolicy,
)
from clusters.models.approvals import Decides
from gateway.contract import RouteRule, RouteTarget
from tenants import scope
from tenants.errors import Conflict
from tenants.identity.invitations import invitation_create
from tenants.identity.providers import mapping_create
from tenants.keys import key_mint
from tenants.members import member_add
from tenants.models import (
    AuditEntry,
    EmailDomain,
    IdentityProvider,
    KeyScope,
    Membership,
    PlatformRole,
    Project,
    Role,
    Tenant,
    User,
)
from tenants.service_accounts import service_account_create
from tenants.webhooks import services as webhooks
from tests.billing.statements import MAY, commitment, every_kind
from tests.estate import MODEL, make_estate
from tests.factories import default_project, make_tenant, make_user, session_of
from tests.fakes.cluster import FakeCluster

#: An id, a name and a number that nothing has.
MISSING = {
    "uuid": str(uuid.UUID("01890000-0000-7000-8000-00000000dead")),
    "name": "no-such-thing",
    "number": "9999",
    "email": "nobody@example.org",
}
HERE, ELSEWHERE = "de-a", "fi-a"

PROMPTS = checked([{"prompt": "2 + 2 =", "checks": [{"contains": "4"}]}])

Ids = dict[str, str]


@dataclasses.dataclass
class World:
    """``ids`` are Nord's objects and the platform's, ``others`` those of the tenant Other, by kind."""

    nord: Tenant
    other: Tenant
    people: dict[str, User]
    ids: Ids
    others: Ids
    clusters: dict[str, Cluster]
    gateway_token: str

    @property
    def secrets(self) -> list[str]:
        """Give names and ids of Nord's alone, which nobody of Other's may ever read."""
        return [
            value for kind, value in self.ids.items()
            if value != self.others[kind] and (len(value) == 36 or value.startswith("nord"))
        ]  # fmt: skip

    def digest(self) -> dict[str, tuple[int, int]]:
        """Give for every table how many rows it has and a sum over what they hold; equal: nothing was changed."""
        with scope.platform("compare what was before with what is"), connection.cursor() as cursor:
            cursor.execute(_digest_query())
            return {name: (count, total) for name, count, total in cursor.fetchall()}

    def changed_since(self, before: dict[str, tuple[int, int]]) -> list[str]:
        """Name the tables that hold something else than at an earlier :meth:`digest`."""
        now = self.digest()
        return [name for name, rows in before.items() if now[name] != rows]


#: Tables that a refused request may write to: sessions end, and who was refused may be written down.
_NOT_COMPARED = ("django_session", "tenants_audit", "usersessions_")
#: Columns that say when something was last used, and nothing else.
_NOT_COMPARED_COLUMNS = ("last_used_at", "last_used_from", "last_used_address", "last_login")
_query: list[str] = []


def _digest_query() -> str:
    if not _query:
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace AND nspname = 'public' "
                "WHERE relkind IN ('r', 'p') AND NOT relispartition ORDER BY 1"
            )
            tables = [name for (name,) in cursor.fetchall() if not name.startswith(_NOT_COMPARED)]
        left = f"'{{{','.join(_NOT_COMPARED_COLUMNS)}}}'"
        _query.append(
            " UNION ALL ".join(
                f"SELECT '{name}', count(*), coalesce(sum(hashtext((to_jsonb(t) - {left}::text[])::text)), 0) "
                f'FROM "{name}" t'
                for name in tables
            )
        )
    return _query[0]


def make_world(patch: Callable[[str, object], None]) -> World:
    """Make it in the transaction that is open. ``patch`` puts a stand-in for every cluster's driver in its place."""
    cluster = FakeCluster(ready_at_once=True)
    patch("clusters.inventory.drivers.driver_for", lambda *args, **values: cluster)
    patch("clusters.inventory.registration.credentials_of", lambda cluster: None)
    patch("clusters.inventory.registration.connection_check", _nobody_answers)
    estate = make_estate()
    people = {name: make_user(f"{name}@example.org", name=name.title()) for name in ("owner", "stranger")}
    nord = make_tenant("nord", owner=people["owner"], name="Nordwind")
    other = make_tenant("other", owner=people["stranger"], name="Other")
    with scope.tenant(nord.id):
        for role in (Role.ADMIN, Role.DEVELOPER, Role.BILLING, Role.VIEWER):
            person = make_user(f"{role}@example.org", name=role.title())
            member = member_add(email=person.email, role=role, granter_role=Role.OWNER)
            people[role.value] = member.user
    ids = _of_the_platform(estate)
    mine = _of_a_tenant(nord, estate, "nord", number="2026-05-000001")
    theirs = _of_a_tenant(other, estate, "other", number="2026-05-000002")
    return World(
        nord=nord, other=other, people=people, ids=ids | mine, others=ids | theirs, clusters=estate.clusters,
        gateway_token=estate.gateway_token,
    )  # fmt: skip


def _figures() -> Figures:
    return Figures(
        price_per_hour=Decimal(1), currency="EUR", replicas=1, gpus=1, gpu="l4", precision="fp8", pool="de-a/l4",
        cluster=HERE, region="eu-de-1", zones=("EU",), residency="zone:EU", slo_class="standard", model=MODEL,
        licence="", tenant_gpus=1, gpu_quota=8,
    )  # fmt: skip


def _nobody_answers(**values: object) -> None:
    raise Conflict("No cluster answers here.")


def _of_a_tenant(tenant: Tenant, estate: Any, word: str, *, number: str) -> Ids:
    project = default_project(tenant)
    with scope.tenant(tenant.id):
        endpoint = endpoint_order(
            project=project,
            name=f"{word}-chat",
            terms=estate.terms(residency="region:eu-de-1"),
            actor="a test",
        )
        second_endpoint = endpoint_order(
            project=project,
            name=f"{word}-second",
            terms=estate.terms(residency="region:eu-de-1"),
            actor="a test",
        )
    _settle(endpoint, estate)
    statement = every_kind(tenant, project, number=number)
    committed = commitment(tenant, name=f"{word} commitment")
    credit = credit_grant(tenant=tenant, amount=Decimal(5), reason="a test")
    account_park(tenant=tenant, reason="a test")
    price = price_set(
        kind="gpu_hour", amount=Decimal(2), currency="EUR", gpu_type="l4", tenant=tenant,
        effective_from=timezone.now() + dt.timedelta(days=1),
    )  # fmt: skip
    with scope.tenant(tenant.id):
        second = Project.objects.create(name=f"{word} second", slug=f"{word}-second")
        key, _ = key_mint(name=f"{word} key", key_scope=KeyScope.INFERENCE, project=project)
        member = member_add(email=f"{word}-member@example.org", role=Role.VIEWER, granter_role=Role.OWNER)
        rule = RouteRule(targets=(RouteTarget(endpoint_id=str(endpoint.id)),))
        route = route_create(project=project, name=f"{word}-route", rules=[rule])
        budget = budget_create(name=f"{word} budget", unit="money", limit=Decimal(500), period="month")
        webhook, _ = webhooks.webhook_create(
            name=f"{word} hook", url="https://127.0.0.1/hook", event_types=["statement.finalized"]
        )
        delivery = webhooks.webhook_test(endpoint=webhook)
        saving = Saving.objects.create(
            endpoint=endpoint, kind=Saving.Kind.IDLE, what="Idle.", amount=12, currency="EUR", gpu_hours=4,
            how=["Half."], computed_at=timezone.now(),
        )  # fmt: skip
        catalog.tenant_model_secret_set(
            model=CatalogModel.objects.get(name="llama-3.1-8b-instruct"), values={"HF_TOKEN": f"{word}-token"}
        )
        LoadObservation.objects.create(
            endpoint=endpoint, since=timezone.now(), until=timezone.now(), hours=9, requests=900,
            requests_per_second=1, input_tokens=100, output_tokens=50,
        )  # fmt: skip
        account = service_account_create(name=f"{word} robot", role=Role.DEVELOPER)
        managing, _ = key_mint(name=f"{word} management key", key_scope=KeyScope.MANAGEMENT, role=Role.VIEWER)
        TenantPolicy.objects.create(version=1, allowed_zones=["EU"], set_as="a test")
        invitation = invitation_create(
            email=f"{word}-invited@example.org", role=Role.VIEWER, granter_role=Role.OWNER, invited_by=None,
            portal_url="https://portal.example",
        )  # fmt: skip
        rule = rule_create(kind="price-above", amount=Decimal(10_000))
        soon = {"asked_as": "a test", "expires_at": timezone.now() + dt.timedelta(days=2)}
        request = ApprovalRequest.objects.create(
            what=ApprovalRequest.What.ORDER,
            endpoint=endpoint,
            title="Order",
            quote=_figures().to_document(),
            trips=[
                Trip(
                    rule="r",
                    kind="reserved-gpus",
                    reason="a test",
                    decides=Decides.OPERATORS.value,
                    part=Decides.OPERATORS.value,
                ).to_document()
            ],
            **soon,
        )
        asked = ApprovalRequest.objects.create(what=ApprovalRequest.What.EXCEPTION, title="Exception", **soon)
        exception = PolicyException.objects.create(
            restriction=PolicyException.Restriction.ZONE, value="US", reason="a test", request=asked,
            starts_at=timezone.now(), ends_at=timezone.now() + dt.timedelta(days=9), approved_as="a test",
        )  # fmt: skip
        terms = ScheduleTerms(
            name=f"{word} nights",
            days=[1],
            from_time=dt.time(20),
            until_time=dt.time(6),
            time_zone="UTC",
            floor=0,
        )
        schedule = schedule_set(endpoint=endpoint, terms=terms, actor="a test")
        asking = newest_version(
            set_create(
                name=f"{word} set", prompts=PROMPTS, actor="a test", tenant_id=tenant.id, endpoint=endpoint
            )
        )
        evaluation = EvaluationRun.objects.create(
            endpoint=endpoint, revision=Revision.objects.get(endpoint=endpoint), version=asking,
            state=EvaluationRun.State.FAILED, pass_percent=100,
        )  # fmt: skip
        provider = IdentityProvider.objects.create(
            tenant=tenant, name=f"{word} SSO", issuer=f"https://{word}.example", client_id=word
        )
        domain = EmailDomain.objects.create(tenant=tenant, provider=provider, domain=f"{word}.example")
        mapping = mapping_create(provider=provider, group="all", tenant=tenant, role=Role.VIEWER)
        sealed()
        entry = AuditEntry.objects.filter(tenant=tenant).first()
        allocation = _first("billing.Allocation")
        replica = _first("clusters.Replica")
        before = Revision.objects.filter(endpoint=endpoint).latest("number")
        rollout = Rollout.objects.create(
            endpoint=endpoint, before=before, revision=before, what="A change.", way="surge", phase="promoted",
            phase_since=timezone.now(), policy=RolloutPolicy.of(endpoint.slo_class).to_document(),
            started_at=timezone.now(), started_by="a test",
        )  # fmt: skip
        assert Membership.objects.filter(id=member.id).exists()
    return {
        "docs": "rollouts",
        "tenants": tenant.slug, "t": tenant.slug, "projects": str(second.id), "project slug": second.slug,
        "keys": str(key.id), "members": str(member.id), "endpoints": str(endpoint.id), "endpoint name": endpoint.name,
        "endpoints/revisions": "1", "revision": str(before.id), "endpoints/schedules": str(schedule.id),
        "endpoints/logs": replica.replica_id, "routes": str(route.id), "endpoints/rollouts": str(rollout.id),
        "budgets": str(budget.id), "tenant-budgets": str(budget.id), "webhooks": str(webhook.id),
        "webhooks/deliveries": str(delivery.id), "statements": str(statement.id),
        "tenant-statements": str(statement.id), "month": f"{MAY:%Y-%m}", "commitments": str(committed.id),
        "tenants/commitments": str(committed.id), "credits": str(credit.id), "tenants/credits": str(credit.id),
        "allocations": str(allocation.id), "platform/savings": str(saving.id), "prices": str(price.id),
        "settings/webhooks": str(webhook.id), "settings/webhooks/deliveries": str(delivery.id),
        "service-accounts": str(account.id), "invitations": str(invitation.id),
        "members/invitations": str(invitation.id), "approval-rules": str(rule.id), "policy/rules": str(rule.id),
        "approval-requests": str(request.id), "platform/approval-requests": str(request.id),
        "approvals": str(request.id), "policy-exceptions": str(exception.id), "policy/exceptions": str(exception.id),
        "audit-entries": str(entry.id), "platform/audit-entries": str(entry.id), "audit": str(entry.id),
        "platform/policies": tenant.slug, "settings/sign-in": str(provider.id),
        "settings/sign-in/mappings": str(mapping.id), "sign-in/domains": str(domain.id),
        "route name": route.name, "robot": account.name, "management key": str(managing.id),
        "email": f"{word}-member@example.org", "user": str(member.user_id),
        "other endpoint": str(second_endpoint.id),
        "evaluation-sets": str(asking.set_id), "endpoints/evaluation-sets": str(asking.set_id),
        "evaluations": str(evaluation.id), "endpoints/evaluations": str(evaluation.id),
        "platform/evaluations": str(evaluation.id),
        "soon": f"{timezone.now() + dt.timedelta(days=9):%Y-%m-%dT%H:%M:%SZ}",
        "reports/savings": str(saving.id), "kind": "csv", "digest": "0" * 64,
    }  # fmt: skip


def measured(pool: NodePool) -> PoolMeasurement:
    """Give a pool a row of the planner's table, of a shape that no order here is planned in."""
    times = {
        f"{kind}_{which}_ms": 20.0 for kind in ("ttft", "itl") for which in ("mean", "p50", "p95", "p99")
    }
    load = dict.fromkeys(("input_cv", "output_cv", "prefix_share", "failed_percent"), 0.0)
    return PoolMeasurement.objects.create(
        pool=pool, model=CatalogModel.objects.get(name="llama-3.1-8b-instruct"), runtime="triton-llmapi",
        precision="bf16", tensor_parallel=8, pipeline_parallel=1, replicas=1, max_batch_size=64, max_num_tokens=8192,
        digest="0" * 64, target="t", speed=1.0, measured_at=timezone.now(), measured_by="a test", requests=200,
        seconds=60.0, requests_per_second=3.0, input_tokens=100, output_tokens=50, burstiness=1.0, in_flight=2.0,
        output_tokens_per_s_per_gpu=20.0, **load, **times,
    )  # fmt: skip


def sealed() -> None:
    """Let the audit chain what was done so far, as at the end of the transaction."""
    with connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        cursor.execute("SET CONSTRAINTS ALL DEFERRED")


def _first(label: str) -> Any:
    from django.apps import apps

    found = apps.get_model(label).objects.first()
    assert found is not None, f"the world has no {label}"
    return found


def _settle(endpoint: Endpoint, estate: Any) -> None:
    for _ in range(12):
        if reconcile_endpoint(endpoint.id) is None:
            return
        estate.confirm_gateway()
    raise AssertionError("the endpoint did not come to rest")


def _session(person: User) -> UserSession:
    return UserSession.objects.create(user=person, session_key=session_of(person), ip="192.0.2.7")


def _of_the_platform(estate: Any) -> Ids:
    book = book_create(name="Next year")
    in_book = book_price_set(book=book, kind="gpu_hour", amount=Decimal(3), currency="EUR", gpu_type="l4")
    rate = asset_rate_set(amount=Decimal(1), currency="EUR", gpu_type="l4")
    price = price_set(
        kind="gpu_hour", amount=Decimal(2), currency="EUR", gpu_type="l4",
        effective_from=timezone.now() + dt.timedelta(days=1),
    )  # fmt: skip
    empty = services.cluster_register(
        name="empty-a", region=Region.objects.get(code="eu-de-1"), driver="local", runtimes=["triton-python"],
        declared=True,
    )  # fmt: skip
    services.pool_add(
        cluster=empty, name="l4", gpu_type=GpuType.objects.get(name="l4"), nodes=1, gpus_per_node=1
    )
    there = Cluster.objects.create(
        name="de-k", region=empty.region, driver=Cluster.DriverKind.KUBERNETES, credentials=b"sealed",
        runtimes=["triton-llmapi"],
    )  # fmt: skip
    Gateway.objects.filter(name="gw-de").update(cluster=there)
    gateway_register(name="gw-spare", region=Region.objects.get(code="eu-de-1"))
    person = make_user("people@example.org", platform_role=PlatformRole.FINANCE)
    with scope.platform("a test"):
        provider = IdentityProvider.objects.create(
            name="Platform SSO", issuer="https://platform.example", client_id="berth"
        )
        mapping = mapping_create(provider=provider, group="ops", platform_role=PlatformRole.OPERATOR)
        run = AdviceRun.objects.create(state=AdviceRun.State.FINISHED, started_by="a test")
        measurement = measured(NodePool.objects.get(cluster__name=HERE, name="h100"))
        llama = CatalogModel.objects.get(name="llama-3.1-8b-instruct")
        asking = set_create(name="set", prompts=PROMPTS, actor="a test", tenant_id=None, model=llama)
        gap = SequenceGap.objects.create(gateway="gw-de", first=1, last=2, noticed_at=timezone.now())
    return {
        "clusters": HERE, "kubernetes": "de-k", "clusters/pools": "h100", "gateways": "gw-de",
        "gateways/gaps": str(gap.id), "clusters/pools/measurements": str(measurement.id),
        "regions": "eu-de-1", "models": "llama-3.1-8b-instruct", "catalog": "llama-3.1-8b-instruct",
        "slo-classes": "standard", "engine-images": "triton-llmapi", "engine-settings": "standard",
        "engines/images": "triton-llmapi", "engines/settings": "standard", "list-prices": str(price.id),
        "price-books": str(book.id), "price-books/prices": str(in_book.id), "prices/books": str(book.id),
        "prices/books/prices": str(in_book.id), "asset-rates": str(rate.id), "advice-runs": str(run.id),
        "advisor": str(run.id), "model": MODEL, "people": str(person.id), "platform/people": str(person.id),
        "people/sessions": str(_session(person).pk),
        "platform/evaluation-sets": str(asking.id), "catalog/evaluation-sets": str(asking.id),
        "sign-in": str(provider.id), "sign-in/mappings": str(mapping.id), "decide": "no-token",
        "account/sessions": "1", "accounts/oidc": "none", "accounts/2fa/webauthn/keys": "1",
    }  # fmt: skip
