"""The Kubernetes driver as Berth's own ServiceAccount, against a stand-in and a real API server where found."""

from __future__ import annotations

import dataclasses

import pytest

from clusters.drivers.base import Away, GiveUp, TryLater
from clusters.kube import kinds
from clusters.kube.client import Request
from clusters.specs import Phase, Placement, Weights, WeightsKind
from tests.clusters.drivers.contract import DriverContract, deleted, observed_ready, until
from tests.clusters.drivers.kubernetes_world import KubernetesWorld

pytestmark = pytest.mark.kubernetes


class TestKubernetes(DriverContract):
    @pytest.fixture
    def world(self, cluster) -> KubernetesWorld:
        return cluster


class Killed(Exception):
    """The process ended here."""


def killed_at(world: KubernetesWorld, write: int):
    """A driver whose process is killed just before its n-th write."""
    driver = world.driver_with()
    counted: list[Request] = []

    def count(request: Request) -> None:
        if request.writes:
            counted.append(request)
            if len(counted) > write:
                raise Killed

    driver.client.on_request = count
    return driver


def test_killed_anywhere_while_it_is_made_nothing_is_left(cluster):
    """Whatever was written by then is found by the name alone, the project's namespace included."""
    write = 0
    while True:
        name = f"killed-{write}"
        spec = cluster.spec(name)
        driver = killed_at(cluster, write)
        try:
            driver.apply(spec)
        except Killed:
            deleted(cluster, name)
            assert cluster.admin.get(kinds.NAMESPACE, cluster.place(spec)) is None
            write += 1
        else:
            assert write > 8
            break
        finally:
            driver.close()


def test_killed_anywhere_the_next_pass_goes_on(cluster):
    for write in range(0, 10, 3):
        name = f"resumed-{write}"
        driver = killed_at(cluster, write)
        with pytest.raises(Killed):
            driver.apply(cluster.spec(name))
        driver.close()
        assert cluster.driver.apply(cluster.spec(name)) is True
        observed_ready(cluster, name, replicas=1)


def test_what_is_half_there_is_listed_for_the_sweep(cluster):
    driver = killed_at(cluster, 3)  # the namespace, the Service, something of the project's
    with pytest.raises(Killed):
        driver.apply(cluster.spec("half"))
    driver.close()
    (found,) = (each for each in cluster.driver.deployments() if each.name == "half")
    assert (found.deleting, found.replicas, found.labels) == (True, (), cluster.spec("half").labels)
    deleted(cluster, "half")


def test_deleting_leaves_what_the_projects_other_deployments_need(cluster):
    one = cluster.spec("project-one")
    two = cluster.spec("project-two", owner=one.owner)
    for spec in (one, two):
        cluster.driver.apply(spec)
        observed_ready(cluster, spec.name, replicas=1)
    place = cluster.place(one)
    deleted(cluster, one.name)
    left = cluster.everything(place)
    assert not [each for each in left if each[1].startswith("project-one")]
    assert ("NetworkPolicy", "berth-deny") in left
    before = cluster.writes()
    assert cluster.driver.apply(two) is False
    assert cluster.writes() == before
    assert observed_ready(cluster, two.name, replicas=1)
    deleted(cluster, two.name)
    assert cluster.admin.get(kinds.NAMESPACE, place) is None


def test_a_name_on_its_way_out_is_waited_for(cluster):
    spec = cluster.spec("leaving")
    cluster.driver.apply(spec)
    observed_ready(cluster, spec.name, replicas=1)
    cluster.kubelet.drain_s = 1.0
    try:
        assert cluster.driver.delete(spec.name) is False
        status = cluster.driver.observe(spec.name)
        assert status is not None
        assert status.deleting
        assert not {r.phase for r in status.replicas} & {Phase.READY, Phase.STARTING}
        with pytest.raises(TryLater, match="still being removed"):
            cluster.driver.apply(spec)
    finally:
        cluster.kubelet.drain_s = 0.1
    deleted(cluster, spec.name)


def test_a_replica_that_is_replaced_comes_back_as_another(cluster):
    spec = cluster.spec("replaced")
    cluster.driver.apply(spec)
    (before,) = observed_ready(cluster, spec.name, replicas=1).replicas
    assert cluster.driver.replace(spec.name, before.replica_id) is True

    def another():
        found = observed_ready(cluster, spec.name, replicas=1).replicas[0]
        return found if found.replica_id != before.replica_id else None

    until(another, patience_s=cluster.patience_s, what="another replica")
    assert cluster.driver.replace(spec.name, before.replica_id) is False


def test_parts_of_gpus_and_engines_over_nodes_are_taken(cluster):
    driver = cluster.driver_with(leader_worker_sets=True)
    small = cluster.spec("mig", placement=Placement(resource="nvidia.com/mig-1g.10gb", gpus_per_node=7))
    cluster.kubelet.add_node("mig-1", resources={"nvidia.com/mig-1g.10gb": "7"})
    wide = cluster.spec(
        "wide",
        replicas=2,
        runtime="triton-llmapi",
        gpus_per_replica=16,
        tensor_parallel=8,
        pipeline_parallel=2,
        weights=Weights(kind=WeightsKind.PVC, uri="weights/llama"),
    )
    try:
        driver.apply(small)
        (part,) = observed_ready(cluster, "mig", replicas=1).replicas
        assert part.node == "mig-1"
        driver.apply(wide)
        groups = observed_ready(cluster, "wide", replicas=2).replicas
        assert [r.index for r in groups] == [0, 1]
        assert len(cluster.kubelet.pods("wide")) == 4
        before = cluster.writes()
        assert driver.apply(wide) is False
        assert cluster.writes() == before
        gone = groups[1].replica_id
        assert driver.replace("wide", gone) is True

        def replaced() -> bool:
            now = observed_ready(cluster, "wide", replicas=2).replicas
            return gone not in {r.replica_id for r in now} and now[0].replica_id == groups[0].replica_id

        until(replaced, patience_s=cluster.patience_s, what="another group")
        deleted(cluster, "wide")
        deleted(cluster, "mig")
    finally:
        cluster.admin.delete(kinds.NODE, "mig-1")
        driver.close()


def test_a_cluster_without_leader_worker_sets_says_what_it_lacks(cluster):
    spec = cluster.spec(
        "too-wide",
        runtime="triton-llmapi",
        gpus_per_replica=16,
        tensor_parallel=16,
        weights=Weights(kind=WeightsKind.PVC, uri="weights/llama"),
    )
    with pytest.raises(GiveUp, match="no LeaderWorkerSet API"):
        cluster.driver.apply(spec)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"name": "Upper"}, "DNS label"),
        ({"replicas": -1}, "must not be negative"),
        ({"image": None}, "no engine image"),
        ({"runtime": "steam-engine"}, "no runtime 'steam-engine'"),
    ],
)
def test_orders_that_can_never_run_say_why(stand_in_world, changes, says):
    spec = dataclasses.replace(stand_in_world.spec("wrong"), **changes)
    with pytest.raises(GiveUp, match=says):
        stand_in_world.driver.apply(spec)
    with pytest.raises(GiveUp, match=says):
        stand_in_world.driver.render(spec)


def test_an_image_without_a_digest_is_refused(stand_in_world):
    spec = stand_in_world.spec("tagged")
    assert spec.image is not None
    spec = dataclasses.replace(spec, image=dataclasses.replace(spec.image, digest="latest"))
    with pytest.raises(GiveUp, match="must be pinned by its digest"):
        stand_in_world.driver.apply(spec)


def test_other_credentials_take_over(cluster):
    """A client with a new token goes on where the one before it was; the one before is closed."""
    spec = cluster.spec("rotated")
    cluster.driver.apply(spec)
    first = cluster.driver_with()
    assert first.apply(spec) is False
    second = cluster.driver_with()
    first.close()
    assert second.apply(spec) is False
    second.close()


def test_credentials_that_are_no_longer_accepted_are_named(cluster):
    client = cluster.berth(token="x" * 40)
    driver = type(cluster.driver)(client, cluster.facts())
    with pytest.raises(TryLater, match="does not accept its credentials"):
        driver.apply(cluster.spec("locked-out"))
    with pytest.raises(TryLater, match="does not accept its credentials"):
        driver.observe("locked-out")
    driver.close()


def test_a_cluster_that_is_away_is_told_from_one_that_is_busy(cluster):
    with cluster.away(), pytest.raises(Away, match="cannot be reached"):
        cluster.driver.drifted([cluster.spec("unreached")])
    assert until(
        lambda: cluster.driver.drifted([cluster.spec("unreached", replicas=0)]),
        patience_s=cluster.patience_s,
        what="its return",
    )


def test_one_request_that_hangs_makes_no_cluster_away(stand_in_world):
    server = stand_in_world.server
    driver = stand_in_world.driver_with()
    driver.client._transport._read_s = 0.3
    server.hang(verb="patch", resource="services")
    try:
        with pytest.raises(TryLater, match="did not answer this request") as caught:
            driver.apply(stand_in_world.spec("hanging"))
        assert not isinstance(caught.value, Away)
    finally:
        server.heal()
        driver.close()
    deleted(stand_in_world, "hanging")


@pytest.mark.parametrize(
    ("status", "error", "says"),
    [
        (500, TryLater, "could not do it now"),
        (503, TryLater, "could not do it now"),
        (409, TryLater, "changed meanwhile"),
        (422, GiveUp, "refuses it: it failed on purpose"),
    ],
)
def test_what_a_cluster_answers_is_told_apart(stand_in_world, status, error, says):
    server = stand_in_world.server
    server.fail(status, verb="patch", resource="services", times=3)
    try:
        with pytest.raises(error, match=says):
            stand_in_world.driver.apply(stand_in_world.spec(f"answer-{status}"))
    finally:
        server.heal()
    deleted(stand_in_world, f"answer-{status}")


def test_a_missing_permission_is_named(cluster):
    role = cluster.admin.get(kinds.CLUSTER_ROLE, "berth")
    rules = [rule for rule in role["rules"] if "poddisruptionbudgets" not in rule["resources"]]
    cluster.admin.patch(kinds.CLUSTER_ROLE, "berth", None, {"rules": rules})
    try:

        def refused() -> str:
            try:
                cluster.driver.apply(cluster.spec("unpermitted"))
            except GiveUp as error:
                return str(error)
            return ""

        says = until(refused, patience_s=cluster.patience_s, what="the refusal")
        assert "Berth may not get poddisruptionbudgets of policy in the namespace berth-" in says
        with pytest.raises(TryLater, match="may not list poddisruptionbudgets"):
            cluster.driver.delete("unpermitted")
    finally:
        cluster.admin.patch(kinds.CLUSTER_ROLE, "berth", None, {"rules": role["rules"]})
    deleted(cluster, "unpermitted")
