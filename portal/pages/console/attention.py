"""What operators should look at first, worst first."""

from __future__ import annotations

import dataclasses
import datetime as dt
from decimal import Decimal

from django.urls import reverse

from billing.metering.reconciliation import bad_days
from billing.metering.sequences import settled_gaps
from billing.metering.tasks import LOOKED_BACK_DAYS
from billing.models import UsageRefusal
from clusters.endpoints.runbooks import runbook
from clusters.inventory import remit
from clusters.inventory.images import unpinned
from clusters.inventory.selectors import is_silent, unpriced_pools
from clusters.models import AdviceRun, Cluster, EndpointState, Gateway
from portal.pages.console.reconciliation import gap_words
from portal.templatetags.berth import money
from tenants.api.caller import Operator
from tenants.roles import PlatformAction

#: So many endpoints of one state are named; the others are counted.
MOST_NAMED = 5
#: Credentials that Berth cannot renew are pointed out so long before their end,
EXPIRES_SOON = dt.timedelta(days=14)
#: and the token of its own account, which it renews after two thirds of its life, so long before.
RENEWAL_LATE = dt.timedelta(minutes=10)

_ENDPOINTS = (
    (EndpointState.FAILED, "danger"),
    (EndpointState.UNREACHABLE, "danger"),
    (EndpointState.UPDATE_FAILED, "warn"),
    (EndpointState.DEGRADED, "warn"),
    (EndpointState.WAITING_FOR_CAPACITY, "warn"),
    (EndpointState.WAITING_FOR_APPROVAL, "warn"),
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Matter:
    """One thing to look at: what, why, since when, and where; ``runbook`` is the address of what to do about it."""

    tone: str
    title: str
    text: str
    url: str
    since: dt.datetime | None = None
    runbook: str = ""


def matters(now: dt.datetime, operator: Operator, *, currency: str) -> list[Matter]:
    """Find what needs attention: clusters away, silent gateways, endpoints in trouble, moves worth deciding on.

    Only what ``operator`` may look at. To be called in the platform's scope and within their reach.
    """
    found = [*_clusters(), *_credentials(now, operator), *_nodes(), *_gateways(now)]
    if operator.may(PlatformAction.VIEW_USAGE_CHECKS):
        found += _metering(now)
    found += _endpoints()
    if operator.may(PlatformAction.MANAGE_OFFER):
        found += _images()
    if operator.may(PlatformAction.VIEW_MONEY):
        found += _prices(now, currency, to_add=operator.may(PlatformAction.MANAGE_MONEY))
    if operator.may(PlatformAction.VIEW_FLEET):
        found += _advice()
    return found


def _clusters() -> list[Matter]:
    words = {
        Cluster.State.UNREACHABLE: ("danger", "does not answer"),
        Cluster.State.CORDONED: ("info", "is cordoned"),
    }
    return [
        Matter(
            tone=words[Cluster.State(cluster.state)][0],
            title=f"Cluster {cluster.name} {words[Cluster.State(cluster.state)][1]}",
            text=_why(cluster),
            url=reverse("console:cluster", args=[cluster.name]),
            since=cluster.last_seen_at if cluster.state == Cluster.State.UNREACHABLE else None,
            runbook=runbook("region-lost") if cluster.state == Cluster.State.UNREACHABLE else "",
        )
        for cluster in remit.clusters().filter(state__in=words).order_by("-state", "name")
    ]


def _why(cluster: Cluster) -> str:
    if cluster.state == Cluster.State.CORDONED:
        return cluster.cordon_reason or cluster.state_reason
    cordoned = f"It is cordoned, too: {cluster.cordon_reason}" if cluster.cordon_reason else ""
    return f"{cluster.state_reason} {cordoned}".strip()


def credentials_end(cluster: Cluster, now: dt.datetime) -> str:
    """Say how the end of a cluster's credentials stands: ``past``, ``soon``, or nothing to worry about."""
    ends = cluster.credentials_expire_at
    if ends is None:
        return ""
    renewed = cluster.credentials_name.startswith("system:serviceaccount:")
    if ends <= now:
        return "past"
    return "soon" if ends - now < (RENEWAL_LATE if renewed else EXPIRES_SOON) else ""


def _credentials(now: dt.datetime, operator: Operator) -> list[Matter]:
    words = {"past": ("danger", "have expired"), "soon": ("warn", "expire soon")}
    page = "cluster-rotate" if operator.may(PlatformAction.MANAGE_ESTATE) else "cluster"
    return [
        Matter(
            tone=words[end][0],
            title=f"Credentials for cluster {cluster.name} {words[end][1]}",
            text="Give new ones; nothing that runs is interrupted.",
            url=reverse(f"console:{page}", args=[cluster.name]),
            runbook=runbook("cluster-credentials"),
        )
        for cluster in remit.clusters().exclude(credentials=None).order_by("name")
        if (end := credentials_end(cluster, now))
    ]


def _nodes() -> list[Matter]:
    faulty = remit.nodes().filter(gone_at=None).exclude(fault="").select_related("pool__cluster")
    rows = list(faulty.order_by("-fault_since")[: MOST_NAMED + 1])
    found = [
        Matter(
            tone="warn",
            title=f"Node {node.name} in {node.pool} is faulty",
            text=node.fault,
            url=reverse("console:cluster", args=[node.pool.cluster.name]),
            since=node.fault_since,
            runbook=runbook("gpu-fault"),
        )
        for node in rows[:MOST_NAMED]
    ]
    if len(rows) > MOST_NAMED:
        more = faulty.count() - MOST_NAMED
        found.append(
            Matter(
                tone="warn", title=f"{more} more nodes are faulty", text="", url=reverse("console:clusters")
            )
        )
    return found


def _images() -> list[Matter]:
    if not Cluster.objects.filter(driver=Cluster.DriverKind.KUBERNETES, credentials__isnull=False).exists():
        return []
    uses = {name for names in Cluster.objects.values_list("runtimes", flat=True) for name in names}
    missing = sorted(unpinned() & uses)
    if not missing:
        return []
    return [
        Matter(
            tone="warn",
            title=f"No image is pinned for {', '.join(missing)}",
            text="Endpoints of these runtimes cannot be started on Kubernetes.",
            url=reverse("console:engine-images"),
        )
    ]


def _gateways(now: dt.datetime) -> list[Matter]:
    gateways = remit.gateways().select_related("region").order_by("name")
    return [
        Matter(
            tone="danger" if gateway.last_seen_at else "warn",
            title=f"Gateway {gateway.name} {'is silent' if gateway.last_seen_at else 'was never heard of'}",
            text=_silence(gateway),
            url=reverse("console:gateway", args=[gateway.name]),
            since=gateway.last_seen_at,
            runbook=runbook("gateway-down") if gateway.last_seen_at else "",
        )
        for gateway in gateways
        if is_silent(gateway, now)
    ]


def _silence(gateway: Gateway) -> str:
    if gateway.last_seen_at:
        return "It goes on serving from the snapshot it holds, and ships its usage when it is back."
    if gateway.cluster_id:
        return gateway.state_reason or "Berth is deploying it."
    return "Start it with the token that was shown when it was registered."


def _metering(now: dt.datetime) -> list[Matter]:
    gaps = settled_gaps(now=now)[:MOST_NAMED]
    there = set(Gateway.objects.values_list("name", flat=True)) if gaps else set()
    found = [
        Matter(
            tone="danger",
            title=f"Usage of gateway {gap.gateway} is missing",
            text=f"Sequence {gap_words(gap)} did not come, though later ones did.",
            url=reverse("console:gateway", args=[name])
            if (name := gap.gateway.partition("/")[0]) in there
            else reverse("console:reconciliation"),
            since=gap.noticed_at,
            runbook=runbook("usage-not-taken"),
        )
        for gap in gaps
    ]
    found += [
        Matter(
            tone="danger",
            title=f"The usage of {day} does not reconcile",
            text="A gateway logged other sums than came.",
            url=f"{reverse('console:reconciliation')}?day={day}",
            runbook=runbook("usage-not-taken"),
        )
        for day in bad_days(now=now, days=LOOKED_BACK_DAYS)[:MOST_NAMED]
    ]
    refused = UsageRefusal.objects.filter(last_seen_at__gte=now - dt.timedelta(days=LOOKED_BACK_DAYS))
    count = refused.count()
    if count:
        newest = refused[0]
        found.append(
            Matter(
                tone="warn",
                title=f"{count} usage segment{'' if count == 1 else 's'} refused in {LOOKED_BACK_DAYS} days",
                text=f"The last one, of {newest.gateway}: {newest.reason}",
                url=f"{reverse('console:reconciliation')}?day={newest.day}",
                since=newest.last_seen_at,
                runbook=runbook("usage-not-taken"),
            )
        )
    return found


def _endpoints() -> list[Matter]:
    found: list[Matter] = []
    for state, tone in _ENDPOINTS:
        rows = remit.endpoints().live().filter(state=state).select_related("tenant").order_by("state_since")
        found += [
            Matter(
                tone=tone,
                title=f"{endpoint.name} of {endpoint.tenant.name}: {state.label.lower()}",
                text=endpoint.state_reason,
                url=reverse("console:endpoint", args=[endpoint.id]),
                since=endpoint.state_since,
            )
            for endpoint in rows[:MOST_NAMED]
        ]
        more = rows.count() - MOST_NAMED
        if more > 0:
            found.append(
                Matter(
                    tone=tone,
                    title=f"{more} more endpoints: {state.label.lower()}",
                    text="",
                    url=f"{reverse('console:endpoints')}?state={state.value}",
                )
            )
    return found


def _prices(now: dt.datetime, currency: str, *, to_add: bool) -> list[Matter]:
    return [
        Matter(
            tone="warn",
            title=f"Pool {pool} is not for sale",
            text=f"There is no price for {pool.gpu_type.title} in {pool.cluster.region.code}.",
            url=f"{reverse('console:price-add')}?kind=gpu_hour&gpu_type={pool.gpu_type.name}"
            if to_add
            else reverse("console:prices"),
        )
        for pool in unpriced_pools(currency=currency, now=now)
    ]


def _advice() -> list[Matter]:
    run = AdviceRun.objects.filter(state=AdviceRun.State.FINISHED).first()
    proposed = run.moves.open().count() if run else 0
    if run is None or not proposed:
        return []
    savings = [money(each["saving"], each["currency"]) for each in run.totals if Decimal(each["saving"])]
    return [
        Matter(
            tone="info",
            title=f"The advisor proposes {proposed} move{'' if proposed == 1 else 's'}",
            text=f"All that it found saves {' and '.join(savings)} per hour." if savings else "",
            url=reverse("console:advisor"),
            since=run.finished_at,
        )
    ]
