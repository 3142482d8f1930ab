"""What is shipped for a cluster's administrator: grants that are exactly what Berth uses, and what confines them."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import yaml

from clusters.drivers.base import GiveUp
from clusters.drivers.kubernetes.driver import KubernetesDriver
from clusters.endpoints.watching_kubernetes import ALL_OF, OWN_KINDS
from clusters.kube import kinds
from clusters.kube.check import connection_check
from clusters.kube.client import KubeClient, Request
from clusters.kube.errors import Forbidden
from clusters.kube.grants import GRANTS, Mode, Place
from clusters.kube.manifests import Autoscaler
from clusters.kube.renewal import renew
from clusters.kube.watch import Reflector
from clusters.specs import GatewaySpec, Owner, Phase, Placement, Scaling, Weights, WeightsKind
from tests.clusters.drivers.contract import until
from tests.clusters.drivers.kubernetes_world import (
    IMAGE,
    INSTALLATION,
    SHIPPED,
    KubernetesWorld,
    documents,
)
from tests.fakes import kubelet
from tests.kube import crds

pytestmark = pytest.mark.kubernetes

Used = set[tuple[str, str, str]]  # verb, group, resource with its subresource
OWN_TOKEN = ("create", "", "serviceaccounts/token")
LEAVES_NONE = (
    *(kinds.DEPLOYMENT, kinds.JOB, kinds.SERVICE, kinds.CONFIG_MAP, kinds.SECRET, kinds.SERVICE_ACCOUNT),
    *(kinds.PVC, kinds.PDB, kinds.HPA, kinds.NETWORK_POLICY, kinds.RESOURCE_QUOTA, kinds.LIMIT_RANGE),
    *(kinds.LEADER_WORKER_SET, kinds.SERVICE_MONITOR, kinds.SCALED_OBJECT, kinds.RESOURCE_CLAIM_TEMPLATE),
)


def shipped(folder: str, role: str) -> Used:
    (found,) = (
        each
        for each in documents(folder)
        if each["kind"] in ("Role", "ClusterRole") and each["metadata"]["name"] == role
    )
    rules = found["rules"]
    assert not any("*" in values for rule in rules for values in rule.values())
    return {
        (verb, group, resource)
        for rule in rules
        for verb in rule["verbs"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
    }


def granted(mode: Mode, *places: Place) -> Used:
    return {
        (verb, grant.group, grant.resource)
        for grant in GRANTS
        if grant.mode is mode and grant.place in places
        for verb in grant.verbs
    }


def used(requests: list[Request]) -> Used:
    """What was asked for, in RBAC's words; what every authenticated user may ask about itself left out."""
    return {
        (
            request.verb,
            request.group,
            f"{request.resource}/{request.subresource}" if request.subresource else request.resource,
        )
        for request in requests
        if not request.resource.startswith("selfsubject")
    }


@pytest.mark.parametrize(
    ("folder", "mode", "place"),
    [
        ("cluster-wide", Mode.CLUSTER, Place.EVERYWHERE),
        ("namespaces", Mode.NAMESPACES, Place.NAMESPACE),
    ],
)
def test_the_shipped_roles_are_what_registration_asks_for(folder, mode, place):
    assert shipped(folder, "berth") == granted(mode, place)
    assert shipped(folder, "berth-token") == granted(mode, Place.OWN) == {OWN_TOKEN}
    forbidden = {"*", "escalate", "bind", "impersonate", "deletecollection"}
    assert not {verb for verb, _, _ in shipped(folder, "berth")} & forbidden
    assert not {resource for _, _, resource in shipped(folder, "berth")} & {"pods/exec", "pods/attach"}


def test_both_ways_ship_the_same_account():
    """The one file of the first way is the second's, save what grants rights in all namespaces."""
    wide = {(d["kind"], d["metadata"]["name"]): d for d in documents("cluster-wide")}
    for document in documents("namespaces"):
        key = (document["kind"], document["metadata"]["name"])
        if document["metadata"].get("namespace") == "berth-system" or key == ("Namespace", "berth-system"):
            assert wide[key] == document


OPTIONAL = {
    "leader_worker_sets": True,
    "service_monitors": True,
    "dra": True,
    "kueue_queue": "gpus",
    "prometheus_namespace": "monitoring",
    "prometheus_url": "http://prometheus.monitoring:9090",
}
SCALERS = (Autoscaler.KEDA, Autoscaler.HPA)


@pytest.fixture
def all_served(cluster, monkeypatch) -> Iterator[None]:
    """The cluster has every API that Berth can use; what it had not before is taken away again."""
    paths = tuple(kind.path() for kind in kinds.OPTIONAL)
    monkeypatch.setattr(kubelet, "LEFT_BEHIND", (*kubelet.LEFT_BEHIND, *paths))  # goes with its namespace
    added = [kind for kind in kinds.OPTIONAL if kind not in cluster.admin.features(fresh=True)]
    crds.install(cluster.admin, *added)
    yield
    crds.remove(cluster.admin, *added)
    cluster.driver.client.features(fresh=True)


def exercise(
    world: KubernetesWorld, driver: KubernetesDriver, name: str, *, owner: Owner | None = None
) -> None:
    """Do everything once that Berth does with deployments and gateways."""
    weights = Weights(kind=WeightsKind.HUGGING_FACE, uri="https://mirror.test/a/b", revision="c", size_gib=1)
    changes = {
        "runtime": "triton-llmapi",
        "secrets": {"HF_TOKEN": "hf_abcdefghijklmnop"},
        "scaling": Scaling(least=1, most=3, in_flight_per_replica=8),
        "owner": owner or world.spec(name).owner,
    }
    spec = world.spec(name, **changes, precision="fp8", weights=dataclasses.replace(weights, quantize="fp8"))
    nodes = {"gpus_per_replica": 2, "tensor_parallel": 2, "placement": Placement(gpus_per_node=1)}
    wide = world.spec(f"{name}-wide", **changes, **nodes, weights=weights)
    for each in (spec, wide):

        def up(each=each) -> bool:
            driver.apply(each)
            status = driver.observe(each.name)
            return bool(status) and [r.phase for r in status.replicas] == [Phase.READY]

        until(up, patience_s=world.patience_s, what=f"{each.name} ready")
    driver.drifted([spec, wide])
    driver.deployments()
    (replica,) = driver.observe(name).replicas
    driver.logs(name, replica.replica_id)
    driver.replace(name, replica.replica_id)
    for each in (spec, wide):  # what only the first needs goes with it, the rest with the second
        until(
            lambda each=each: driver.delete(each.name),
            patience_s=world.patience_s,
            what=f"the end of {each.name}",
        )
    gateway = GatewaySpec(
        name=f"g-{name}",
        region="eu",
        replicas=1,
        image=IMAGE,
        control_plane_url="https://berth.test",
        token="t" * 20,
        peppers={1: "aa"},
    )
    driver.apply_gateway(gateway)
    driver.observe_gateway(gateway.name)
    until(lambda: driver.delete_gateway(gateway.name), patience_s=world.patience_s, what="its end")
    renew(driver.client, "berth-system", "berth", 600)


def follow(world: KubernetesWorld, client: KubeClient, requests: list[Request], *, place: str = "") -> None:
    """Begin the watches that the endpoints' watch keeps, as it does."""
    watched = [(kind, {"namespace": place or None}) for kind in OWN_KINDS]
    watched += [] if place else [(kind, {"fields": fields}) for kind, fields in ALL_OF.items()]
    before = len(requests)
    reflectors = [
        Reflector(client, kind, on_change=lambda *_: None, **where).start() for kind, where in watched
    ]
    try:
        until(
            lambda: sum(request.verb == "watch" for request in requests[before:]) >= len(watched),
            patience_s=world.patience_s,
            what="the watches",
        )
        assert not [reflector.failure for reflector in reflectors if reflector.failure]
    finally:
        client.close()
        for reflector in reflectors:
            reflector.stop(1.0)


def all_used(
    world: KubernetesWorld, make: Callable[..., KubernetesDriver], owner: Owner | None = None, place: str = ""
) -> Used:
    """What Berth's code asks for, by each way of scaling; nothing else speaks through these clients."""
    requests: list[Request] = []
    for scaler in SCALERS:
        driver = make(**OPTIONAL, autoscaler=scaler)
        driver.client.on_request = requests.append
        exercise(world, driver, f"rights-{scaler}", owner=owner)
        follow(world, driver.client, requests, place=place)
    return used(requests)


def test_the_cluster_role_is_exactly_what_is_used(cluster, all_served):
    """Everything runs as the ServiceAccount with that role and nothing more; so none is missing either."""
    checked = connection_check(cluster.server.credentials(cluster.token()))
    assert checked.ok, checked.message
    seen = all_used(cluster, cluster.driver_with)
    allowed = shipped("cluster-wide", "berth") | shipped("cluster-wide", "berth-token")
    assert seen - allowed == set(), "missing"
    assert allowed - seen == set(), "unused"


def prepare(world: KubernetesWorld, name: str) -> None:
    """What an administrator does for the second way."""
    text = (SHIPPED / "namespaces" / "20-namespace.yaml").read_text("utf-8")
    for document in yaml.safe_load_all(text.replace("NAMESPACE", name)):
        world.admin.apply(document)


@pytest.fixture
def confined(cluster) -> Iterator[Callable[..., KubernetesDriver]]:
    """The second way: no ClusterRole, no policy, namespaces that are there already."""
    spec = cluster.spec("prepared")
    places = (cluster.place(spec), "berth-gateways-here")
    for place in places:
        prepare(cluster, place)
    cluster.admin.delete(kinds.CLUSTER_ROLE_BINDING, "berth")
    for name in ("berth-namespaced", "berth-namespaces"):
        cluster.admin.delete(kinds.ADMISSION_POLICY_BINDING, name)
    drivers = []

    def make(**choices: Any) -> KubernetesDriver:
        drivers.append(cluster.driver_with(namespaces=places, gateway_namespace=places[1], **choices))
        return drivers[-1]

    yield make
    for driver in drivers:
        driver.close()
    for place in places:
        cluster.admin.delete(kinds.NAMESPACE, place)
    for document in documents("cluster-wide"):
        if document["kind"].endswith("Binding"):
            cluster.admin.apply(document)
    until(
        lambda: all(cluster.admin.get(kinds.NAMESPACE, place) is None for place in places),
        patience_s=cluster.patience_s,
        what="the end of the prepared namespaces",
    )
    until(lambda: cluster.berth_may_list(), patience_s=cluster.patience_s, what="the role")


def test_the_namespaces_roles_are_exactly_what_is_used(cluster, all_served, confined):
    owner = cluster.spec("prepared").owner
    place = cluster.place(cluster.spec("prepared"))
    guest = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "guest", "namespace": place},
    }

    def allowed_now() -> bool:
        with contextlib.suppress(Forbidden):
            return bool(cluster.driver.client.apply(guest, dry_run=True))
        return False

    until(allowed_now, patience_s=cluster.patience_s, what="the Roles instead of the ClusterRole")
    credentials = cluster.server.credentials(cluster.token())
    checked = connection_check(credentials, namespaces=[place, "berth-gateways-here"])
    assert checked.ok, checked.message
    seen = all_used(cluster, confined, owner, place)
    allowed = shipped("namespaces", "berth") | shipped("namespaces", "berth-token")
    assert seen - allowed == set(), "missing"
    assert allowed - seen == set(), "unused"
    # Nothing of Berth's is left, and what the administrator made is there still.
    ours = f"berth.dev/installation={INSTALLATION}"
    left = [
        (kind.kind, each["metadata"]["name"])
        for kind in LEAVES_NONE
        for each in cluster.admin.list(kind, place, labels=ours).items
    ]
    assert left == []
    assert cluster.admin.get(kinds.NAMESPACE, place) is not None


def test_a_project_without_its_namespace_says_which_to_make(cluster, confined):
    driver = confined()
    other = cluster.spec("unprepared")
    before = cluster.writes()
    with pytest.raises(
        GiveUp, match=f"makes the namespace {cluster.place(other)} with deploy/cluster/namespaces"
    ):
        driver.apply(other)
    assert cluster.writes() == before
