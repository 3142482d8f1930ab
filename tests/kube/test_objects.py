"""Objects through the client, against a real API server where there is one, and the stand-in always."""

from __future__ import annotations

import contextlib

import pytest

from clusters.kube import kinds
from clusters.kube.client import KubeClient
from clusters.kube.errors import AlreadyExists, Conflict, Forbidden, Invalid, NotFound, Unauthorized
from clusters.kube.renewal import renew
from tests.kube import crds, things

pytestmark = pytest.mark.kubernetes


def _as(server, field_manager: str) -> contextlib.closing[KubeClient]:
    return contextlib.closing(KubeClient(server.admin, field_manager=field_manager))


def test_what_is_created_can_be_read_listed_and_deleted(kube_client, kube_namespace):
    made = kube_client.create(kinds.CONFIG_MAP, things.config_map(kube_namespace))
    assert kube_client.get(kinds.CONFIG_MAP, "words", kube_namespace) == made
    listed = kube_client.list(kinds.CONFIG_MAP, kube_namespace, fields="metadata.name=words")
    assert listed.items == [made]
    assert int(listed.resource_version) >= int(made["metadata"]["resourceVersion"])
    assert kube_client.delete(kinds.CONFIG_MAP, "words", kube_namespace)
    assert not kube_client.delete(kinds.CONFIG_MAP, "words", kube_namespace)
    assert kube_client.get(kinds.CONFIG_MAP, "words", kube_namespace) is None


def test_creating_twice_is_told_apart_from_other_conflicts(kube_client, kube_namespace):
    kube_client.create(kinds.CONFIG_MAP, things.config_map(kube_namespace))
    with pytest.raises(AlreadyExists):
        kube_client.create(kinds.CONFIG_MAP, things.config_map(kube_namespace))


def test_nothing_is_made_in_a_namespace_that_is_not_there(kube_client):
    with pytest.raises(NotFound, match="nowhere"):
        kube_client.apply(things.config_map("nowhere"))


def test_a_long_list_comes_in_pages_and_whole(kube_client, kube_namespace, monkeypatch):
    monkeypatch.setattr("clusters.kube.client._PAGE", 3)
    for number in range(8):
        kube_client.create(kinds.CONFIG_MAP, things.config_map(kube_namespace, f"words-{number}"))
    requests = []
    kube_client.on_request = requests.append
    listed = kube_client.list(kinds.CONFIG_MAP, kube_namespace, fields="metadata.namespace=" + kube_namespace)
    names = [item["metadata"]["name"] for item in listed.items]
    assert [name for name in names if name.startswith("words-")] == [f"words-{number}" for number in range(8)]
    assert len(requests) >= 3


def test_labels_select(kube_client, kube_namespace):
    for name, labels in (("a", {"kind": "x"}), ("b", {"kind": "y", "old": "1"}), ("c", {})):
        obj = things.config_map(kube_namespace, name)
        obj["metadata"]["labels"] = labels
        kube_client.create(kinds.CONFIG_MAP, obj)

    def names(labels: str) -> list[str]:
        listed = kube_client.list(kinds.CONFIG_MAP, kube_namespace, labels=labels)
        return [item["metadata"]["name"] for item in listed.items if len(item["metadata"]["name"]) == 1]

    assert names("kind=x") == ["a"]
    assert names("kind in (x,y)") == ["a", "b"]
    assert names("kind,!old") == ["a"]
    assert names("kind!=x") == ["b", "c"]


def test_a_second_apply_changes_nothing(kube_client, kube_namespace):
    first = kube_client.apply(things.deployment(kube_namespace))
    second = kube_client.apply(things.deployment(kube_namespace))
    assert second["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]
    assert second == first


def test_the_server_fills_in_what_was_not_said(kube_client, kube_namespace):
    live = kube_client.apply(things.deployment(kube_namespace))
    spec = live["spec"]
    pod = spec["template"]["spec"]
    container = pod["containers"][0]
    assert spec["replicas"] == 1
    assert spec["strategy"] == {
        "type": "RollingUpdate",
        "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"},
    }
    assert {key: value for key, value in spec.items() if key not in ("template", "selector", "strategy")} == {
        "replicas": 1,
        "revisionHistoryLimit": 10,
        "progressDeadlineSeconds": 600,
    }
    assert {key: value for key, value in pod.items() if key != "containers"} == {
        "restartPolicy": "Always",
        "terminationGracePeriodSeconds": 30,
        "dnsPolicy": "ClusterFirst",
        "securityContext": {},
        "schedulerName": "default-scheduler",
    }
    assert container["ports"] == [{"name": "http", "containerPort": 8000, "protocol": "TCP"}]
    assert container["resources"] == {"limits": {"memory": "2Gi", "cpu": "4"}}
    assert container["readinessProbe"] == {
        "httpGet": {"path": "/ready", "port": 8000, "scheme": "HTTP"},
        "timeoutSeconds": 1,
        "periodSeconds": 10,
        "successThreshold": 1,
        "failureThreshold": 3,
    }
    assert container["imagePullPolicy"] == "IfNotPresent"


OTHERS = [
    {
        "apiVersion": "v1",
        "kind": "Service",
        "spec": {"selector": {"app": "x"}, "ports": [{"name": "http", "port": 80}]},
    },
    {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "spec": {
            "template": {
                "spec": {"restartPolicy": "Never", "containers": [{"name": "a", "image": "r.example/a:1"}]}
            }
        },
    },
    {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "spec": {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "1024Gi"}}},
    },
    {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "spec": {"podSelector": {}, "ingress": [{"ports": [{"port": 80}]}]},
    },
    {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "spec": {
            "serviceName": "x",
            "selector": {"matchLabels": {"app": "x"}},
            "template": {
                "metadata": {"labels": {"app": "x"}},
                "spec": {
                    "containers": [
                        {
                            "name": "a",
                            "image": "r.example/a",
                            "env": [{"name": "P", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
                            "volumeMounts": [{"name": "words", "mountPath": "/words"}],
                        }
                    ],
                    "volumes": [
                        {"name": "words", "configMap": {"name": "words"}},
                        {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": "1024Mi"}},
                    ],
                },
            },
            "volumeClaimTemplates": [
                {
                    "metadata": {"name": "log"},
                    "spec": {
                        "accessModes": ["ReadWriteOnce"],
                        "resources": {"requests": {"storage": "1Gi"}},
                    },
                }
            ],
        },
    },
    {"apiVersion": "v1", "kind": "Secret", "stringData": {"token": "words"}},
    {"apiVersion": "v1", "kind": "ServiceAccount", "automountServiceAccountToken": False},
    {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "spec": {"hard": {"requests.nvidia.com/gpu": 8, "pods": "50"}},
    },
    {
        "apiVersion": "v1",
        "kind": "LimitRange",
        "spec": {"limits": [{"type": "Container", "default": {"memory": "1024Mi"}}]},
    },
    {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "spec": {"maxUnavailable": 1, "selector": {"matchLabels": {"app": "x"}}},
    },
    {
        "apiVersion": "v1",
        "kind": "Pod",
        "spec": {
            "containers": [
                {"name": "a", "image": "r.example/a", "resources": {"limits": {"nvidia.com/gpu": 1}}}
            ]
        },
    },
]


@pytest.mark.parametrize("obj", OTHERS, ids=lambda obj: obj["kind"])
def test_every_kind_settles(kube_client, kube_namespace, obj):
    obj = {**obj, "metadata": {"name": "x", "namespace": kube_namespace}}
    first = kube_client.apply(obj)
    again = kube_client.apply(obj)  # a real server writes Jobs and claims once more, to the same effect
    first["metadata"]["resourceVersion"] = again["metadata"]["resourceVersion"]
    assert again == first
    assert kube_client.apply(obj) == again
    assert first["apiVersion"] == obj["apiVersion"]
    assert first["kind"] == obj["kind"]


@pytest.mark.kubernetes(real=True)
@pytest.mark.parametrize("obj", OTHERS, ids=lambda obj: obj["kind"])
def test_the_stand_in_fills_in_what_a_real_server_does(apiserver, fake_kube, obj):
    """The stand-in is held to the real server's words, wherever there is one."""
    seen = []
    for server in (apiserver, fake_kube):
        with _as(server, "berth") as client:
            place = f"words-{obj['kind'].lower()}"
            client.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": place}})
            live = client.apply({**obj, "metadata": {"name": "words", "namespace": place}})
            seen.append(_timeless(live))
    real, stand_in = seen
    assert stand_in == real


def _timeless(obj):
    """Take away what differs between any two servers."""
    meta = obj["metadata"]
    own = meta["uid"]

    def plain(value):
        if isinstance(value, dict):
            return {
                key: plain(each)
                for key, each in value.items()
                if key
                not in ("uid", "resourceVersion", "creationTimestamp", "time", "clusterIP", "clusterIPs")
            }
        if isinstance(value, list):
            return [plain(each) for each in value]
        return "own uid" if value == own else value

    return plain(obj)


def test_fields_no_longer_sent_go_and_those_of_others_stay(kube_server, kube_client, kube_namespace):
    kube_client.apply(things.deployment(kube_namespace, env={"MODE": "fast", "OLD": "1"}))
    with _as(kube_server, "someone") as someone:
        theirs = {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": "engine", "namespace": kube_namespace, "annotations": {"team": "a"}},
        }
        someone.apply(theirs)
    live = kube_client.apply(things.deployment(kube_namespace, env={"MODE": "slow"}))
    assert live["metadata"]["annotations"] == {"team": "a"}
    container = live["spec"]["template"]["spec"]["containers"][0]
    assert container["env"] == [{"name": "MODE", "value": "slow"}]


def test_without_force_a_field_of_another_manager_is_a_conflict(kube_server, kube_client, kube_namespace):
    kube_client.apply(things.config_map(kube_namespace, a="1"))
    with _as(kube_server, "someone") as someone:
        with pytest.raises(Conflict, match='"berth"') as caught:
            someone.apply(things.config_map(kube_namespace, a="2"), force=False)
        assert caught.value.causes[0][0] == ".data.a"
        assert someone.apply(things.config_map(kube_namespace, a="2"))["data"] == {"a": "2"}
    managers = {
        entry["manager"]: entry["fieldsV1"]
        for entry in kube_client.get(kinds.CONFIG_MAP, "words", kube_namespace)["metadata"]["managedFields"]
    }
    assert managers["someone"]["f:data"] == {"f:a": {}}
    assert "f:a" not in managers.get("berth", {}).get("f:data", {})


def test_what_someone_changed_comes_back_with_the_next_apply(kube_server, kube_client, kube_namespace):
    kube_client.apply(things.deployment(kube_namespace))
    with _as(kube_server, "someone") as someone:
        someone.patch(
            kinds.DEPLOYMENT,
            "engine",
            kube_namespace,
            [
                {"op": "replace", "path": "/spec/template/spec/containers/0/env/0/value", "value": "slow"},
                {"op": "add", "path": "/metadata/labels/added", "value": "yes"},
            ],
        )
    live = kube_client.apply(things.deployment(kube_namespace))
    assert live["spec"]["template"]["spec"]["containers"][0]["env"] == [{"name": "MODE", "value": "fast"}]
    assert live["metadata"]["labels"] == {"app": "engine", "added": "yes"}


def test_an_unowned_replica_count_is_left_to_the_autoscaler(kube_server, kube_client, kube_namespace):
    kube_client.apply(things.deployment(kube_namespace))
    with _as(kube_server, "autoscaler") as autoscaler:
        autoscaler.patch(kinds.DEPLOYMENT, "engine", kube_namespace, {"spec": {"replicas": 7}})
    live = kube_client.apply(things.deployment(kube_namespace))
    assert live["spec"]["replicas"] == 7
    assert live["metadata"]["generation"] == 2


def test_a_dry_run_shows_the_change_and_makes_none(kube_client, kube_namespace):
    kube_client.apply(things.config_map(kube_namespace, a="1"))
    shown = kube_client.apply(things.config_map(kube_namespace, a="2"), dry_run=True)
    assert shown["data"] == {"a": "2"}
    assert kube_client.get(kinds.CONFIG_MAP, "words", kube_namespace)["data"] == {"a": "1"}


def test_a_patch_that_tests_for_what_is_not_so_does_nothing(kube_client, kube_namespace):
    kube_client.apply(things.config_map(kube_namespace, a="1"))
    operations = [
        {"op": "test", "path": "/data/a", "value": "other"},
        {"op": "remove", "path": "/data/a"},
    ]
    with pytest.raises(Invalid):
        kube_client.patch(kinds.CONFIG_MAP, "words", kube_namespace, operations)
    assert kube_client.get(kinds.CONFIG_MAP, "words", kube_namespace)["data"] == {"a": "1"}


def test_a_patch_against_an_older_version_is_a_conflict(kube_client, kube_namespace):
    old = kube_client.apply(things.config_map(kube_namespace, a="1"))
    kube_client.apply(things.config_map(kube_namespace, a="2"))
    patch = {"metadata": {"resourceVersion": old["metadata"]["resourceVersion"]}, "data": {"a": "3"}}
    with pytest.raises(Conflict):
        kube_client.patch(kinds.CONFIG_MAP, "words", kube_namespace, patch)


def test_what_cannot_change_is_invalid_and_says_which_field(kube_client, kube_namespace):
    kube_client.apply(things.deployment(kube_namespace))
    other = things.deployment(kube_namespace)
    other["spec"]["selector"]["matchLabels"] = {"app": "other"}
    other["spec"]["template"]["metadata"]["labels"] = {"app": "other"}
    with pytest.raises(Invalid, match="immutable") as caught:
        kube_client.apply(other)
    assert caught.value.causes[0][0] == "spec.selector"


def test_status_has_a_door_of_its_own(kube_client, kube_namespace):
    kube_client.create(kinds.POD, things.pod(kube_namespace, "engine-0"))
    kube_client.patch(
        kinds.POD,
        "engine-0",
        kube_namespace,
        {"status": {"phase": "Running", "podIP": "10.1.1.1"}, "spec": {"nodeName": "nowhere"}},
        subresource="status",
    )
    live = kube_client.get(kinds.POD, "engine-0", kube_namespace)
    assert live["status"]["phase"] == "Running"
    assert "nodeName" not in live["spec"]


def test_a_pod_on_a_node_goes_gracefully(kube_client, kube_namespace):
    kube_client.create(kinds.POD, things.pod(kube_namespace, "engine-0", node="node-1"))
    assert kube_client.delete(kinds.POD, "engine-0", kube_namespace)
    live = kube_client.get(kinds.POD, "engine-0", kube_namespace)
    assert live["metadata"]["deletionTimestamp"]
    assert live["metadata"]["deletionGracePeriodSeconds"] == 30
    kube_client.delete(kinds.POD, "engine-0", kube_namespace, grace_s=0)
    assert kube_client.get(kinds.POD, "engine-0", kube_namespace) is None


def test_an_object_with_a_finalizer_waits_for_it(kube_client, kube_namespace):
    obj = things.config_map(kube_namespace)
    obj["metadata"]["finalizers"] = ["example.org/wait"]
    kube_client.apply(obj)
    kube_client.delete(kinds.CONFIG_MAP, "words", kube_namespace)
    live = kube_client.get(kinds.CONFIG_MAP, "words", kube_namespace)
    assert live["metadata"]["deletionTimestamp"]
    kube_client.patch(kinds.CONFIG_MAP, "words", kube_namespace, {"metadata": {"finalizers": None}})
    assert kube_client.get(kinds.CONFIG_MAP, "words", kube_namespace) is None


def test_only_the_object_that_was_meant_is_deleted(kube_client, kube_namespace):
    old = kube_client.create(kinds.CONFIG_MAP, things.config_map(kube_namespace))
    kube_client.delete(kinds.CONFIG_MAP, "words", kube_namespace)
    kube_client.create(kinds.CONFIG_MAP, things.config_map(kube_namespace))
    with pytest.raises(Conflict):
        kube_client.delete(kinds.CONFIG_MAP, "words", kube_namespace, uid=old["metadata"]["uid"])
    assert kube_client.get(kinds.CONFIG_MAP, "words", kube_namespace) is not None


def test_nothing_new_comes_into_a_namespace_that_goes(kube_client, kube_namespace):
    obj = things.config_map(kube_namespace)
    obj["metadata"]["finalizers"] = ["example.org/wait"]
    kube_client.apply(obj)
    kube_client.delete(kinds.NAMESPACE, kube_namespace)
    with pytest.raises(Forbidden, match="being terminated") as caught:
        kube_client.apply(things.config_map(kube_namespace, "late"))
    assert not caught.value.by_rbac
    kube_client.patch(kinds.CONFIG_MAP, "words", kube_namespace, {"metadata": {"finalizers": None}})


def test_a_service_account_may_what_its_role_says(kube_server, kube_client, kube_namespace):
    kube_client.apply(things.account(kube_namespace))
    kube_client.apply(things.role(kube_namespace, ("", "configmaps", ["get", "patch"])))
    kube_client.apply(things.binding(kube_namespace, "berth"))
    token, _ = renew(kube_client, kube_namespace, "berth", 600)
    with contextlib.closing(KubeClient(kube_server.credentials(token))) as berth:
        assert berth.whoami() == f"system:serviceaccount:{kube_namespace}:berth"
        assert berth.can("patch", kinds.CONFIG_MAP, kube_namespace)
        assert not berth.can("patch", kinds.CONFIG_MAP, "default")
        assert not berth.can("delete", kinds.CONFIG_MAP, kube_namespace)
        assert not berth.can("get", kinds.POD, kube_namespace, "log")
        assert berth.get(kinds.CONFIG_MAP, "words", kube_namespace) is None
        with pytest.raises(Forbidden) as caught:  # an apply that creates needs the verb create too
            berth.apply(things.config_map(kube_namespace))
        refused = caught.value
        assert (refused.verb, refused.resource, refused.namespace) == ("create", "configmaps", kube_namespace)
        kube_client.apply(things.config_map(kube_namespace))
        assert berth.apply(things.config_map(kube_namespace, a="2"))["data"] == {"a": "2"}
        with pytest.raises(Forbidden) as caught:
            berth.list(kinds.NODE)
        refused = caught.value
        assert (refused.verb, refused.resource, refused.namespace) == ("list", "nodes", "")
        assert refused.by_rbac


def test_a_token_of_nobody_is_unauthorized(kube_server):
    with (
        contextlib.closing(KubeClient(kube_server.credentials("nobodys"))) as client,
        pytest.raises(Unauthorized),
    ):
        client.whoami()


def test_the_token_of_a_deleted_account_is_worth_nothing(kube_server, kube_client, kube_namespace):
    kube_client.apply(things.account(kube_namespace))
    token, _ = renew(kube_client, kube_namespace, "berth", 600)
    kube_client.delete(kinds.SERVICE_ACCOUNT, "berth", kube_namespace)
    with contextlib.closing(KubeClient(kube_server.credentials(token))) as berth, pytest.raises(Unauthorized):
        berth.whoami()


def test_a_kind_that_is_not_served_is_not_there(kube_client, kube_namespace):
    assert not kube_client.serves(kinds.LEADER_WORKER_SET)
    assert kube_client.serves(kinds.DEPLOYMENT)
    assert kube_client.get(kinds.LEADER_WORKER_SET, "x", kube_namespace) is None
    with pytest.raises(NotFound):
        kube_client.list(kinds.LEADER_WORKER_SET, kube_namespace)


def test_an_optional_kind_is_used_once_it_is_defined(kube_client, kube_namespace):
    optional = kinds.LEADER_WORKER_SET
    crds.install(kube_client, optional)
    try:
        obj = {
            "apiVersion": optional.api_version,
            "kind": optional.kind,
            "metadata": {"name": "engine", "namespace": kube_namespace},
            "spec": {"replicas": 1, "leaderWorkerTemplate": {"size": 2}},
        }
        made = kube_client.apply(obj)
        assert made["metadata"]["generation"] == 1
        assert kube_client.apply(obj) == made
        status = {"status": {"readyReplicas": 1}}
        kube_client.patch(optional, "engine", kube_namespace, status, subresource="status")
        live = kube_client.get(optional, "engine", kube_namespace)
        assert live["status"] == {"readyReplicas": 1}
        assert kube_client.serves(optional)
    finally:
        crds.remove(kube_client, optional)
    assert not kube_client.serves(optional)


def test_a_log_of_a_pod_that_is_not_there(kube_client, kube_namespace):
    with pytest.raises(NotFound):
        kube_client.log(kube_namespace, "nobody")


def test_the_version_is_read(kube_client):
    version = kube_client.version()
    assert (version.major, version.minor) >= (1, 30)
    assert version.text.startswith("v1.")
