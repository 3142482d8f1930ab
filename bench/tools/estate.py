"""Many settled endpoints: one of each cluster goes the whole way through Berth's doors, the others are its copies.

For processes in which Django is set up.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator, Sequence
from typing import Final, TypeVar

from django.db.models import Model
from django.utils import timezone

from bench.tools import pods
from bench.tools.deployments import IMAGE, WEIGHTS
from clusters.drivers.kubernetes.driver import KubernetesDriver
from clusters.endpoints.blueprint import spec_again, spec_of
from clusters.endpoints.names import deployment_name
from clusters.endpoints.planning import OrderTerms
from clusters.endpoints.reconcile import reconcile_endpoint
from clusters.endpoints.reconcile.replicas import Seen
from clusters.endpoints.services import endpoint_order
from clusters.inventory.catalog import model_weights_set
from clusters.inventory.drivers import driver_of
from clusters.inventory.images import image_set
from clusters.inventory.registration import kubernetes_cluster_register
from clusters.kube import kinds
from clusters.kube.client import KubeClient
from clusters.kube.credentials import Credentials
from clusters.models import (
    CatalogModel,
    Cluster,
    Condition,
    Endpoint,
    EndpointState,
    Gateway,
    Node,
    Region,
    Replica,
    Reservation,
    Revision,
    SloClass,
)
from portal.demo import accounts
from tenants import scope
from tenants.models import Project, Tenant, User, new_id
from tenants.services import project_create, quota_set, tenant_create
from tests.scenarios.stack import wait

MODEL: Final = "llama-3.1-8b-instruct"
TENANT: Final = "bench"
OWNER: Final = "owner@bench.example"
PATIENCE_S: Final = 60.0
LOOK_EVERY_S: Final = 0.1
BATCH: Final = 500

Row = TypeVar("Row", bound=Model)


def prepare(*, gpus: int) -> None:
    """Pin the engine's image, say where the model's weights are, and make a tenant that may hold ``gpus``."""
    image_set(
        use="triton-llmapi",
        reference=IMAGE.reference,
        digest=IMAGE.digest,
        engine_version=IMAGE.engine_version,
        min_driver=IMAGE.min_driver,
    )
    model_weights_set(
        model=CatalogModel.objects.get(name=MODEL),
        kind=WEIGHTS.kind,
        uri=WEIGHTS.uri,
        size_gib=WEIGHTS.size_gib,
    )
    owner = User.objects.create_user(OWNER, accounts.PASSWORD)
    tenant = tenant_create(name="Bench", slug=TENANT, owner=owner, gpus=gpus)
    with scope.tenant(tenant.id):
        quota_set(resource="endpoints", limit=gpus)


def register(name: str, credentials: Credentials) -> Cluster:
    """Register a cluster in the demo's first region."""
    return kubernetes_cluster_register(
        name=name,
        region=Region.objects.get(code="eu-de-1"),
        credentials=credentials,
        runtimes=["triton-llmapi"],
    )


def settle(cluster: Cluster, *, endpoints: int, addresses: Iterator[str]) -> list[str]:
    """Bring a cluster to that many ready endpoints of one engine each, in a project of their own; give their ids."""
    with scope.platform("find the tenant of the benchmark"):
        tenant = Tenant.objects.get(slug=TENANT)
    with scope.tenant(tenant.id):
        project = project_create(name=cluster.name, slug=cluster.name)
    driver = driver_of(cluster)
    if not isinstance(driver, KubernetesDriver):
        raise TypeError(f"{cluster.name} has the driver {driver!r}")
    nodes = Node.objects.filter(pool__cluster=cluster).order_by("name")
    seats = [node.name for node in nodes for _ in range(node.free_for_berth)][:endpoints]
    if len(seats) < endpoints:
        raise RuntimeError(f"{cluster.name} has {len(seats)} free GPUs")
    first = _order(cluster, tenant, project)
    _await(lambda: _applied(driver, first))
    _pods(driver.client, cluster, seats[:1], addresses)
    ahead = timezone.now() + dt.timedelta(hours=1)
    Gateway.objects.update(confirmed_at=ahead, last_seen_at=ahead)
    _await(lambda: _settled(first))
    copies = _copies(first, endpoints - 1)
    with scope.tenant(tenant.id):
        specs = [spec_of(revision.endpoint, revision) for revision in copies]
    for spec in specs:
        driver.apply(spec)
    _pods(driver.client, cluster, seats[1:], addresses)
    _write_replicas(driver, first, copies)
    for revision in copies:  # a worker that runs may have looked too early
        _await(lambda endpoint=revision.endpoint: _is_ready(endpoint) or _settled(endpoint))
    return [str(first.id), *(str(revision.endpoint_id) for revision in copies)]


def _order(cluster: Cluster, tenant: Tenant, project: Project) -> Endpoint:
    with scope.tenant(tenant.id):
        terms = OrderTerms(
            model=CatalogModel.objects.get(name=MODEL),
            slo_class=SloClass.objects.get(name="standard"),
            residency="zone:EU",
            context_tokens=8192,
            replicas=1,
            cluster=cluster,
        )
        return endpoint_order(project=project, name=f"{cluster.name}-0", terms=terms, actor="bench")


def _applied(driver: KubernetesDriver, endpoint: Endpoint) -> bool:
    """Run a pass, unless a worker does; say whether the cluster has the endpoint's Deployment."""
    reconcile_endpoint(endpoint.id)
    return bool(driver.client.list(kinds.DEPLOYMENT, labels=f"berth.dev/endpoint={endpoint.id}").items)


def _settled(endpoint: Endpoint) -> bool:
    """Run a pass, unless a worker does; say whether the endpoint is ready and asks for no further one."""
    reconcile_endpoint(endpoint.id)
    return _is_ready(endpoint)


def _is_ready(endpoint: Endpoint) -> bool:
    with scope.platform("see whether it is ready"):
        endpoint.refresh_from_db()
    return endpoint.state == EndpointState.READY and endpoint.due_at is None


def _await(done: Callable[[], bool]) -> None:
    wait(done, PATIENCE_S, lambda: "an endpoint did not settle", LOOK_EVERY_S)


def _copies(first: Endpoint, count: int) -> list[Revision]:
    """Write endpoints like ``first``, everything of them but what their own pods will show."""
    with scope.tenant(first.tenant_id):
        earlier = Revision.objects.get(endpoint=first)
        reserved = Reservation.objects.get(revision=earlier)
        conditions = list(Condition.objects.filter(endpoint=first).order_by("created_at"))
        endpoints = [
            _copy(first, name=f"{first.name.rpartition('-')[0]}-{number}") for number in range(1, count + 1)
        ]
        revisions = [_revision(endpoint, earlier) for endpoint in endpoints]
        Endpoint.objects.bulk_create(endpoints, BATCH)
        Revision.objects.bulk_create(revisions, BATCH)
        Reservation.objects.bulk_create(
            [_copy(reserved, endpoint=revision.endpoint, revision=revision) for revision in revisions], BATCH
        )
        Condition.objects.bulk_create(
            [_copy(each, endpoint=endpoint) for endpoint in endpoints for each in conditions], BATCH
        )
    return revisions


def _revision(endpoint: Endpoint, earlier: Revision) -> Revision:
    revision_id = new_id()
    name = deployment_name(TENANT, endpoint.name, endpoint.id, earlier.number)
    spec = spec_again(
        endpoint=endpoint, earlier=earlier, name=name, revision_id=revision_id, replicas=earlier.replicas
    )
    return _copy(earlier, id=revision_id, endpoint=endpoint, deployment=name, spec=spec.to_document())


def _copy(row: Row, **changes: object) -> Row:
    fields = {field.attname: getattr(row, field.attname) for field in row._meta.concrete_fields}
    made = type(row)(**fields | {"id": new_id()})
    for name, value in changes.items():
        setattr(made, name, value)
    return made


def _pods(client: KubeClient, cluster: Cluster, nodes: Sequence[str], addresses: Iterator[str]) -> None:
    """Have a ready pod on each of ``nodes``, for the Deployments of a cluster that have none."""
    labels = f"berth.dev/installation={cluster.id.hex}"
    running = {each["metadata"]["name"] for each in client.list(kinds.POD, labels=labels).items}
    waiting = [
        each
        for each in client.list(kinds.DEPLOYMENT, labels=labels).items
        if f"{each['metadata']['name']}-0" not in running
    ]
    for namespace in {each["metadata"]["namespace"] for each in waiting}:
        pods.count_quotas(client, namespace)
    for deployment, node in zip(waiting, nodes, strict=True):
        pods.add_ready_pod(client, deployment, node=node, address=next(addresses))


def _write_replicas(driver: KubernetesDriver, first: Endpoint, copies: Sequence[Revision]) -> None:
    """Write down what the cluster shows of the copies, as passes over them would."""
    shown = {status.name: status.replicas[0] for status in driver.deployments()}
    indexes = dict(Node.objects.filter(pool_id=copies[0].pool_id).values_list("name", "index"))
    with scope.tenant(first.tenant_id):
        rows = []
        for revision in copies:
            status = shown[revision.deployment]
            values = {name: getattr(Seen.of(status), name) for name in Seen.__dataclass_fields__}
            rows.append(
                Replica(
                    tenant_id=first.tenant_id,
                    endpoint=revision.endpoint,
                    revision=revision,
                    replica_id=status.replica_id,
                    index=0,
                    **values,
                )
            )
            Reservation.objects.filter(revision=revision).update(nodes=[indexes[status.node]])
        Replica.objects.bulk_create(rows, BATCH, ignore_conflicts=True)
