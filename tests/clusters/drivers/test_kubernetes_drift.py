"""What others change in a cluster is put right, or named; names that are taken stay theirs."""

from __future__ import annotations

import dataclasses

import pytest

from clusters.drivers.base import GiveUp
from clusters.kube import kinds
from clusters.kube.client import KubeClient
from clusters.specs import Phase
from tests.clusters.drivers.contract import deleted, observed_ready, until
from tests.clusters.drivers.kubernetes_world import INSTALLATION, KubernetesWorld

pytestmark = pytest.mark.kubernetes


@pytest.fixture
def other(cluster):
    """Somebody else's tool with rights of its own."""
    client = KubeClient(cluster.server.admin, field_manager="somebody-else")
    yield client
    client.close()


def spec_in(world: KubernetesWorld, name: str):
    spec = world.spec(name)
    assert world.driver.apply(spec) is True
    observed_ready(world, name, replicas=1)
    return spec, world.place(spec)


CONTAINER = "/spec/template/spec/containers/0"
CHANGES = {
    "a field": (
        kinds.DEPLOYMENT,
        [{"op": "replace", "path": "/spec/template/spec/terminationGracePeriodSeconds", "value": 5}],
        "spec.template.spec.terminationGracePeriodSeconds is 5, ordered",
    ),
    "a quantity": (
        kinds.DEPLOYMENT,
        [{"op": "replace", "path": f"{CONTAINER}/resources/limits/memory", "value": "3Gi"}],
        "containers[engine].resources.limits.memory is 3Gi, ordered",
    ),
    "a variable added": (
        kinds.DEPLOYMENT,
        [{"op": "add", "path": f"{CONTAINER}/env/-", "value": {"name": "SPY", "value": "on"}}],
        "env[SPY] was added",
    ),
    "a variable taken": (
        kinds.DEPLOYMENT,
        [{"op": "remove", "path": f"{CONTAINER}/env/0"}],
        "is missing, ordered",
    ),
    "a file added": (
        kinds.CONFIG_MAP,
        [{"op": "add", "path": "/data/extra", "value": "text"}],
        "data.extra was added",
    ),
    "traffic let in": (
        kinds.NETWORK_POLICY,
        [{"op": "add", "path": "/spec/ingress/-", "value": {}}],
        "ingress[1] was added",
    ),
    "a label": (
        kinds.SERVICE,
        [{"op": "replace", "path": "/metadata/labels/berth.dev~1tenant", "value": "t-2"}],
        "metadata.labels[berth.dev/tenant] is t-2, ordered t-1",
    ),
}
NAMES = {kinds.CONFIG_MAP: "{}-files"}


@pytest.mark.parametrize("change", sorted(CHANGES))
def test_what_somebody_changed_is_put_right(cluster, other, change):
    kind, operations, _ = CHANGES[change]
    name = "drift-" + change.replace(" ", "-")
    spec, place = spec_in(cluster, name)
    named = NAMES.get(kind, "{}").format(name)
    before = cluster.admin.get(kind, named, place)
    other.patch(kind, named, place, operations)
    assert cluster.driver.apply(spec) is True
    after = cluster.admin.get(kind, named, place)
    assert after.get("data") == before.get("data")
    assert after.get("spec") == before.get("spec")
    assert after["metadata"]["labels"] == before["metadata"]["labels"]
    writes = cluster.writes()
    assert cluster.driver.apply(spec) is False
    assert cluster.writes() == writes
    assert cluster.driver.observe(name).drift == ()


def test_what_somebody_changed_is_named_where_it_is_to_be_reported(cluster, other):
    driver = cluster.driver_with(drift="report")
    spec, place = spec_in(cluster, "reported")
    assert driver.observe("reported").drift == ()
    for kind, operations, _ in CHANGES.values():
        other.patch(kind, NAMES.get(kind, "{}").format("reported"), place, operations)
    cluster.admin.delete(kinds.PDB, "reported", place)
    writes = cluster.writes()
    assert driver.apply(spec) is False
    assert cluster.writes() == writes
    drift = driver.observe("reported").drift
    for _, _, says in CHANGES.values():
        assert any(says in each for each in drift), (says, drift)
    assert "PodDisruptionBudget reported is missing" in drift
    # What is ordered anew is written all the same.
    assert driver.apply(dataclasses.replace(spec, replicas=2)) is True
    assert cluster.admin.get(kinds.DEPLOYMENT, "reported", place)["spec"]["replicas"] == 2
    driver.close()


@pytest.mark.parametrize("kind", [kinds.SERVICE, kinds.NETWORK_POLICY, kinds.PDB, kinds.DEPLOYMENT])
def test_what_somebody_removed_is_made_again(cluster, kind):
    name = f"removed-{kind.kind.lower()}"
    spec, place = spec_in(cluster, name)
    cluster.admin.delete(kind, name, place)

    def gone() -> bool:
        return cluster.admin.get(kind, name, place) is None

    until(gone, patience_s=cluster.patience_s, what="its absence")
    assert cluster.driver.apply(spec) is True
    assert cluster.admin.get(kind, name, place) is not None
    observed_ready(cluster, name, replicas=1)


def test_fields_that_are_rendered_no_more_go(cluster):
    tolerant = cluster.spec("dropped")
    placed = dataclasses.replace(tolerant.placement, node_selector={"nvidia.com/gpu.present": "true"})
    cluster.driver.apply(dataclasses.replace(tolerant, placement=placed))
    place = cluster.place(tolerant)
    template = cluster.admin.get(kinds.DEPLOYMENT, "dropped", place)["spec"]["template"]
    assert template["spec"]["nodeSelector"] == {"nvidia.com/gpu.present": "true"}
    assert cluster.driver.apply(tolerant) is True
    template = cluster.admin.get(kinds.DEPLOYMENT, "dropped", place)["spec"]["template"]
    assert "nodeSelector" not in template["spec"]


def test_a_name_that_somebody_else_has_stays_theirs(cluster, other):
    spec = cluster.spec("taken")
    cluster.driver.apply(cluster.spec("neighbour", owner=spec.owner))
    place = cluster.place(spec)
    theirs = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "taken", "namespace": place},
        "spec": {"ports": [{"port": 1}], "selector": {"app": "theirs"}},
    }
    other.create(kinds.SERVICE, theirs, place)
    with pytest.raises(GiveUp, match="Service taken is there already and belongs to somebody else"):
        cluster.driver.apply(spec)
    with pytest.raises(GiveUp, match="belongs to somebody else"):
        raise cluster.driver.drifted([spec])["taken"]
    assert cluster.admin.get(kinds.SERVICE, "taken", place)["spec"]["selector"] == {"app": "theirs"}
    other.delete(kinds.SERVICE, "taken", place)


def test_two_installations_do_not_meet(cluster):
    """Each lists, and takes back, what is its own."""
    spec = cluster.spec("mine")
    cluster.driver.apply(spec)
    theirs = cluster.driver_with(installation="feed")
    assert [each.name for each in theirs.deployments()] == []
    assert theirs.observe("mine") is None
    assert theirs.delete("mine") is True
    assert cluster.driver.observe("mine") is not None
    with pytest.raises(GiveUp, match=f"belongs to Berth's installation {INSTALLATION}"):
        theirs.apply(spec)
    theirs.close()


def test_a_forced_write_takes_fields_back_from_their_new_owner(cluster, other):
    """Field ownership: another manager applied the same field by force; Berth's next pass owns it again."""
    spec, place = spec_in(cluster, "owned")
    other.apply(
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": "owned", "namespace": place},
            "spec": {"replicas": 3},
        }
    )
    assert cluster.driver.apply(spec) is True
    live = cluster.admin.get(kinds.DEPLOYMENT, "owned", place)
    assert live["spec"]["replicas"] == 1
    owners = {
        entry["manager"]
        for entry in live["metadata"]["managedFields"]
        if "f:replicas" in entry.get("fieldsV1", {}).get("f:spec", {})
    }
    assert owners == {"berth"}


def test_many_are_compared_with_one_list_of_each_kind(cluster):
    specs = [cluster.spec(f"many-{number}") for number in range(4)]
    missing = cluster.driver.drifted(specs[:2])
    assert "Deployment many-0 is missing" in missing["many-0"]
    for spec in specs:
        cluster.driver.apply(spec)
    reads: list[int] = []
    for count in (2, 4):
        before, writes = cluster.reads(), cluster.writes()
        assert set(cluster.driver.drifted(specs[:count]).values()) == {()}
        assert cluster.writes() == writes
        reads.append(cluster.reads() - before)
    assert reads[0] == reads[1]
    for spec in specs:
        observed_ready(cluster, spec.name, replicas=1)
    cluster.admin.delete(kinds.PDB, "many-3", cluster.place(specs[3]))
    changed = dataclasses.replace(specs[2], labels=specs[2].labels | {"revision": "r-9"})
    before = cluster.writes()
    found = cluster.driver.drifted([*specs[:2], changed, specs[3]])
    assert cluster.writes() == before
    assert found["many-0"] == found["many-1"] == ()
    assert any("metadata.labels[berth.dev/revision] is r-1, ordered r-9" in each for each in found["many-2"])
    assert found["many-3"] == ("PodDisruptionBudget many-3 is missing",)
    for spec in specs:
        assert all(r.phase is Phase.READY for r in cluster.driver.observe(spec.name).replicas)
        deleted(cluster, spec.name)
