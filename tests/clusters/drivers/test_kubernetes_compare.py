"""What counts as a difference, and the driver that a cluster keeps."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from clusters.drivers.base import GiveUp
from clusters.drivers.kubernetes.access import ClusterAccess
from clusters.drivers.kubernetes.compare import differences, quantity, removals
from clusters.drivers.registry import driver_for, forget_driver
from clusters.kube.client import KubeClient
from clusters.kube.credentials import Credentials
from clusters.kube.manifests import ClusterFacts


def said(wanted: dict, live: dict) -> list[str]:
    return [str(each) for each in differences(wanted, live)]


@pytest.mark.parametrize(
    ("wanted", "live"),
    [
        ({"limits": {"cpu": "1500m", "memory": "1024Mi"}}, {"limits": {"cpu": "1.5", "memory": "1Gi"}}),
        ({"limits": {"nvidia.com/gpu": "8"}}, {"limits": {"nvidia.com/gpu": 8}}),
        ({"emptyDir": {"sizeLimit": "1Gi"}}, {"emptyDir": {"sizeLimit": "1073741824"}}),
        (
            {"ports": [{"name": "http", "port": 80}]},
            {"ports": [{"name": "http", "port": 80, "protocol": "TCP"}]},
        ),
        ({"env": [], "labels": {}, "hostNetwork": False}, {}),
        ({"env": [{"name": "A", "value": ""}]}, {"env": [{"name": "A"}]}),
        ({"labels": {"ours": "1"}}, {"labels": {"ours": "1", "theirs": "2"}}),
        ({"env": [{"name": "A"}, {"name": "B"}]}, {"env": [{"name": "B"}, {"name": "A"}]}),
        ({"podSelector": {}}, {"podSelector": {}}),
    ],
)
def test_the_same_written_otherwise_is_no_difference(wanted, live):
    assert said({"spec": wanted}, {"spec": live}) == []


@pytest.mark.parametrize(
    ("wanted", "live", "says"),
    [
        ({"replicas": 1}, {"replicas": 2}, "spec.replicas is 2, ordered 1"),
        (
            {"automountServiceAccountToken": False},
            {},
            "spec.automountServiceAccountToken is missing, ordered false",
        ),
        ({"enabled": True}, {"enabled": 1}, "spec.enabled is 1, ordered true"),
        ({"command": ["a", "b"]}, {"command": ["a", "c", "b"]}, "spec.command[1] is c, ordered b"),
        (
            {"limits": {"memory": "1Gi"}},
            {"limits": {"memory": "1G"}},
            "spec.limits.memory is 1G, ordered 1Gi",
        ),
        (
            {"nodeSelector": {"a": "b"}},
            {"nodeSelector": {"a": "b", "c": "d"}},
            "spec.nodeSelector.c was added: d",
        ),
        ({"data": {"x": "1"}}, {"data": {"x": "01"}}, "spec.data.x is 01, ordered 1"),
        (
            {"volumeMounts": [{"name": "w", "mountPath": "/w"}]},
            {"volumeMounts": [{"name": "w", "mountPath": "/w"}, {"name": "w", "mountPath": "/etc"}]},
            'spec.volumeMounts[/etc] was added: {"mountPath": "/etc", "name": "w"}',
        ),
    ],
)
def test_a_difference_is_said_as_people_read_it(wanted, live, says):
    assert says in said({"spec": wanted}, {"spec": live})


def test_what_was_added_is_taken_out_from_the_end():
    wanted = {"env": [{"name": "B"}]}
    live = {"env": [{"name": name} for name in "ABCDEFGHIJKL"]}
    operations = removals(differences(wanted, live))
    left = list(live["env"])
    for check, removal in zip(operations[::2], operations[1::2], strict=True):
        index = int(check["path"].rpartition("/")[2])
        assert (check["op"], removal["op"], check["path"]) == ("test", "remove", removal["path"])
        assert left.pop(index) == check["value"]
    assert left == wanted["env"]


def test_a_claim_is_let_be_unless_it_is_too_small():
    def claim(size: str, **spec) -> dict:
        return {
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": "c"},
            "spec": {"resources": {"requests": {"storage": size}}, **spec},
        }

    assert said(claim("10Gi"), claim("20Gi", storageClassName="other")) == []
    assert said(claim("20Gi"), claim("10Gi")) == ["spec.resources.requests.storage is 10Gi, ordered 20Gi"]


@pytest.mark.parametrize(("text", "value"), [("1k", 1000), ("1Ki", 1024), ("250m", 0.25), ("1e3", 1000)])
def test_quantities_are_read(text, value):
    assert float(quantity(text)) == value
    assert quantity("wide") is None
    assert quantity(True) is None


def access(token: str = "t", version: int = 1, **facts) -> ClusterAccess:
    return ClusterAccess(
        credentials=Credentials(server="https://127.0.0.1:1", token=token),
        version=version,
        facts=ClusterFacts(installation="i", **facts),
    )


def test_a_cluster_keeps_one_driver_until_its_credentials_change(tmp_path: Path, monkeypatch):
    closed: list[KubeClient] = []
    monkeypatch.setattr(KubeClient, "close", lambda client: closed.append(client))
    first = driver_for("kubernetes", "here", tmp_path, access())
    assert driver_for("kubernetes", "here", tmp_path, access()) is first
    told = driver_for("kubernetes", "here", tmp_path, access(storage_class="fast"))
    assert told is not first
    assert told.client is first.client  # it is still the same to reach
    rotated = driver_for("kubernetes", "here", tmp_path, access("u", 2, storage_class="fast"))
    assert rotated.client is not first.client
    assert closed == [first.client]
    other = driver_for("kubernetes", "there", tmp_path, access())
    assert other is not rotated
    forget_driver("here")
    forget_driver("there")
    assert driver_for("kubernetes", "here", tmp_path, access()) is not first
    forget_driver("here")


def test_without_access_there_is_no_driver(tmp_path: Path):
    with pytest.raises(GiveUp, match="has no credentials yet"):
        driver_for("kubernetes", "here", tmp_path)
    with pytest.raises(GiveUp, match="not built in"):
        driver_for("swarm", "here", tmp_path)


def test_access_does_not_show_its_secrets():
    assert "t-o-k-e-n" not in repr(dataclasses.replace(access("t-o-k-e-n")))
