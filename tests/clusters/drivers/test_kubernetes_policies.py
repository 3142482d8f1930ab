"""What only a real API server decides: where Berth may write, and what may run in its namespaces."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator

import pytest

from clusters.drivers.base import GiveUp
from clusters.kube import kinds
from clusters.kube.client import KubeClient
from clusters.kube.errors import Forbidden
from clusters.kube.manifests.names import digest
from clusters.kube.renewal import renew
from tests.clusters.drivers.contract import deleted, observed_ready, until
from tests.clusters.drivers.kubernetes_world import IMAGE, INSTALLATION, KubernetesWorld

pytestmark = pytest.mark.kubernetes(real=True)


def refusal(write: Callable[[], object]) -> str:
    try:
        write()
    except Forbidden as error:
        return error.message
    return ""


def refused(world: KubernetesWorld, write: Callable[[], object]) -> str:
    """Policies take a moment until they hold."""
    return until(lambda: refusal(write), patience_s=world.patience_s, what="the refusal")


class TestPolicies:
    """What only a real API server decides: where Berth may write, and what may run there."""

    @pytest.fixture
    def berth(self, real_cluster) -> Iterator[KubeClient]:
        client = real_cluster.berth()
        yield client
        client.close()

    def config(self, namespace: str, name: str = "c") -> dict:
        return {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": name, "namespace": namespace},
            "data": {},
        }

    def space(self, name: str, **labels: str) -> dict:
        return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}

    def test_it_writes_into_its_own_namespaces_only(self, real_cluster, berth):
        for place in ("default", "kube-system", "berth-system"):
            says = refused(real_cluster, lambda place=place: berth.apply(self.config(place)))
            assert "Berth may write only into namespaces that carry its labels" in says
        images = self.config("berth-system", "berth-images") | {"data": {"images": "evil.test/\n"}}
        assert "Berth may write only" in refused(real_cluster, lambda: berth.apply(images))
        real_cluster.admin.create(kinds.CONFIG_MAP, self.config("default", "theirs"), "default")
        assert "Berth may write only" in refusal(lambda: berth.delete(kinds.CONFIG_MAP, "theirs", "default"))
        real_cluster.admin.delete(kinds.CONFIG_MAP, "theirs", "default")

    def test_it_makes_no_namespace_but_its_own_and_keeps_them_safe(self, real_cluster, berth):
        ours = {"app.kubernetes.io/managed-by": "berth", "berth.dev/installation": INSTALLATION}
        safe = {"pod-security.kubernetes.io/enforce": "restricted"}
        for name, labels, says in (
            ("team-a", ours | safe, "names begin with berth-"),
            ("berth-unsafe", ours, "enforces Pod Security restricted"),
            ("berth-unlabelled", safe, "carries its labels"),
            ("berth-system", ours | safe, "names begin with berth-"),
        ):
            space = self.space(name, **labels)
            assert says in refused(real_cluster, lambda space=space: berth.apply(space))
        real_cluster.driver.apply(real_cluster.spec("safe"))
        place = real_cluster.place(real_cluster.spec("safe"))
        weaker = [
            {
                "op": "replace",
                "path": "/metadata/labels/pod-security.kubernetes.io~1enforce",
                "value": "privileged",
            }
        ]
        assert "enforces Pod Security" in refusal(lambda: berth.patch(kinds.NAMESPACE, place, None, weaker))
        for name in ("default", "kube-system", "berth-system"):
            assert refusal(lambda name=name: berth.delete(kinds.NAMESPACE, name))

    def test_it_takes_no_token_but_its_own(self, real_cluster, berth):
        spec = real_cluster.spec("tokenless")
        real_cluster.driver.apply(spec)
        renew(berth, "berth-system", "berth", 600)
        for place, name in (("berth-system", "default"), (real_cluster.place(spec), spec.name)):
            assert refusal(lambda place=place, name=name: renew(berth, place, name, 600))

    def test_images_that_are_not_listed_are_refused(self, real_cluster):
        spec = real_cluster.spec("foreign")
        foreign = dataclasses.replace(IMAGE, reference="docker.io/somebody/engine:1")
        with pytest.raises(GiveUp, match=r"not on the list of images.*docker.io/somebody/engine:1@sha256"):
            real_cluster.driver.apply(dataclasses.replace(spec, image=foreign))
        # A name that only begins like a listed one is another one.
        real_cluster.allow("docker.io/some")
        try:
            with pytest.raises(GiveUp, match="not on the list of images"):
                real_cluster.driver.apply(dataclasses.replace(spec, image=foreign))
            real_cluster.allow("docker.io/somebody/engine")

            def allowed() -> bool:
                with contextlib.suppress(GiveUp):
                    return real_cluster.driver.apply(dataclasses.replace(spec, image=foreign))
                return False

            until(allowed, patience_s=real_cluster.patience_s, what="the new list")
        finally:
            real_cluster.allow("registry.test/berth/")
        deleted(real_cluster, "foreign")

    @pytest.mark.parametrize(
        ("change", "says"),
        [
            ({"hostNetwork": True}, "share no network"),
            ({"hostPID": True}, "share no network"),
            ({"volumes": [{"name": "h", "hostPath": {"path": "/"}}]}, "share no network"),
            ({"automountServiceAccountToken": True}, "hold no ServiceAccount token"),
            ({"containers": [{"securityContext": {"allowPrivilegeEscalation": True}}]}, "not privileged"),
            ({"containers": [{"image": "registry.test/berth/engine:1"}]}, "named by its digest"),
            ({"initContainers": [{"name": "i", "image": "evil.test/x"}]}, "not on the list of images"),
        ],
    )
    def test_privileged_things_are_refused_whoever_asks(self, real_cluster, change, says):
        spec = real_cluster.spec("guarded-" + digest(str(change)))
        real_cluster.driver.apply(spec)
        place = real_cluster.place(spec)
        deployment = self.workload(place)
        pod = deployment["spec"]["template"]["spec"]
        for key, value in change.items():
            if key == "containers":
                pod["containers"][0] |= value[0]
            else:
                pod[key] = value
        assert says in refusal(lambda: real_cluster.admin.create(kinds.DEPLOYMENT, deployment, place))

    def test_pod_security_is_enforced_and_ours_passes(self, real_cluster):
        """The pods of every deployment in these tests are made under `restricted`; a privileged one is not."""
        real_cluster.driver.apply(real_cluster.spec("restricted"))
        observed_ready(real_cluster, "restricted", replicas=1)
        place = real_cluster.place(real_cluster.spec("restricted"))
        pod = self.workload(place)["spec"]["template"]
        root = {**pod["spec"], "securityContext": {"runAsUser": 0}}
        body = {"metadata": {"name": "root"}, "spec": root}
        says = refusal(lambda: real_cluster.admin.create(kinds.POD, body, place))
        assert 'violates PodSecurity "restricted' in says

    def test_services_are_not_reached_from_outside(self, real_cluster):
        real_cluster.driver.apply(real_cluster.spec("inside"))
        place = real_cluster.place(real_cluster.spec("inside"))
        body = {"metadata": {"name": "out"}, "spec": {"type": "NodePort", "ports": [{"port": 80}]}}
        says = refusal(lambda: real_cluster.admin.create(kinds.SERVICE, body, place))
        assert "of type ClusterIP" in says

    def test_a_quota_that_does_not_suffice_is_told(self, real_cluster):
        driver = real_cluster.driver
        driver.apply(real_cluster.spec("bounded", replicas=2, gpu_quota=1))

        def told() -> str:
            found = driver.observe("bounded")
            return next((r.message for r in found.replicas if r.trouble == "AdmissionRefused"), "")

        says = until(told, patience_s=real_cluster.patience_s, what="the refusal")
        assert "exceeded quota" in says

    def workload(self, place: str) -> dict:
        """A deployment that is allowed as it stands."""
        pod = {
            "automountServiceAccountToken": False,
            "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [
                {
                    "name": "engine",
                    "image": IMAGE.pinned,
                    "securityContext": {
                        "allowPrivilegeEscalation": False,
                        "capabilities": {"drop": ["ALL"]},
                        "runAsUser": 1000,
                    },
                    "resources": {"limits": {"memory": "1Gi"}, "requests": {"cpu": "1"}},
                }
            ],
        }
        return {
            "metadata": {"name": "guest", "namespace": place},
            "spec": {
                "replicas": 0,
                "selector": {"matchLabels": {"app": "guest"}},
                "template": {"metadata": {"labels": {"app": "guest"}}, "spec": pod},
            },
        }
