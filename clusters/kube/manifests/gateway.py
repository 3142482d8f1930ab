"""The gateway in a region's cluster: pods that keep serving while the control plane is away."""

from __future__ import annotations

import base64
import hashlib
from typing import Any, Final
from urllib.parse import urlsplit

from clusters.kube.kinds import (
    NAMESPACE,
    NETWORK_POLICY,
    PDB,
    SECRET,
    SERVICE,
    SERVICE_ACCOUNT,
    SERVICE_MONITOR,
    STATEFUL_SET,
)
from clusters.kube.manifests import names, pods, quantities
from clusters.kube.manifests.facts import CannotRender, ClusterFacts
from clusters.kube.manifests.space import dns
from clusters.specs import GIB, GatewaySpec

DATA_AT: Final = "/data"
FILES_AT: Final = "/files"
#: The port stays open for so long while readiness fails already: nodes learn late that a pod goes.
NOTICE_S: Final = 10
#: After the last stream: the last usage is cut and shipped.
SHIP_S: Final = 20
_REDIS_PORT: Final = 6379  # where its URL names none


def gateway(spec: GatewaySpec, facts: ClusterFacts) -> list[dict[str, Any]]:
    """Give every object of a gateway in the order of applying.

    Raises:
        CannotRender: fewer than one replica, or the image has no digest.
    """
    if spec.replicas < 1:
        raise CannotRender(f"a gateway needs at least one replica, got {spec.replicas}")
    if not spec.image.digest.startswith("sha256:"):
        raise CannotRender(f"pin the gateway's image by digest (name@sha256:…), not {spec.image.reference!r}")
    objects = [_namespace(facts)] if facts.makes_namespaces else []
    objects += [
        _new(SERVICE_ACCOUNT, spec, facts, automountServiceAccountToken=False),
        _new(SECRET, spec, facts, type="Opaque", data=_secrets(spec)),
        _new(NETWORK_POLICY, spec, facts, spec=_policy(spec, facts)),
        _new(SERVICE, spec, facts, suffix="-pods", spec=_service(spec, headless=True)),
        _new(STATEFUL_SET, spec, facts, spec=_stateful_set(spec, facts)),
        _new(SERVICE, spec, facts, spec=_service(spec, headless=False)),
        _new(
            PDB,
            spec,
            facts,
            spec={
                "maxUnavailable": 1,
                "selector": {"matchLabels": selector(spec)},
                "unhealthyPodEvictionPolicy": "AlwaysAllow",
            },
        ),
    ]
    if facts.service_monitors and facts.prometheus_namespace:
        endpoints = [{"port": "http", "path": "/metrics", "interval": "15s"}]
        monitor = {"selector": {"matchLabels": {**selector(spec), _ROLE: "clients"}}, "endpoints": endpoints}
        objects.append(_new(SERVICE_MONITOR, spec, facts, spec=monitor))
    return objects


def object_name(spec: GatewaySpec) -> str:
    """Give the name of a gateway's objects; a StatefulSet's leaves room for what its pods' labels add."""
    return name_of(spec.name)


def name_of(gateway: str) -> str:
    """Give the name of the objects of the gateway of a name."""
    return names.fitted(f"gateway-{names.slug(gateway)}", 45)


def selector(spec: GatewaySpec) -> dict[str, str]:
    """Give what selects a gateway's pods."""
    return {names.NAME: names.GATEWAY, names.INSTANCE: object_name(spec)}


def labels_of(spec: GatewaySpec, facts: ClusterFacts) -> dict[str, str]:
    """Give the labels of everything made for one gateway."""
    return names.checked(
        {
            names.MANAGED_BY: "berth",
            **selector(spec),
            names.INSTALLATION: facts.installation,
            **{f"{names.PREFIX}/{key}": value for key, value in spec.labels.items()},
            f"{names.PREFIX}/gateway": spec.name,
        }
    )


_ROLE: Final = f"{names.PREFIX}/role"


def _new(
    kind: Any, spec: GatewaySpec, facts: ClusterFacts, /, suffix: str = "", **body: Any
) -> dict[str, Any]:
    labels = labels_of(spec, facts)
    if kind is SERVICE:
        labels[_ROLE] = "pods" if suffix else "clients"
    name = f"{object_name(spec)}{suffix}"
    return names.new(kind, name, labels=labels, namespace=facts.gateway_namespace, **body)


def _namespace(facts: ClusterFacts) -> dict[str, Any]:
    labels = {
        names.MANAGED_BY: "berth",
        names.NAME: names.GATEWAY,
        names.INSTALLATION: facts.installation,
        **names.POD_SECURITY_LEVELS,
    }
    return names.new(NAMESPACE, facts.gateway_namespace, labels=names.checked(labels))


def _secrets(spec: GatewaySpec) -> dict[str, str]:
    values = {"BERTH_GATEWAY_TOKEN": spec.token, "BERTH_KEY_PEPPERS": _peppers(spec)}
    if spec.redis_url:
        values["BERTH_GATEWAY_REDIS_URL"] = spec.redis_url
    return {key: base64.b64encode(value.encode()).decode("ascii") for key, value in values.items()}


def _peppers(spec: GatewaySpec) -> str:
    return ",".join(f"{number}:{digits}" for number, digits in sorted(spec.peppers.items()))


def _keeps_files(spec: GatewaySpec) -> bool:
    # A volume for each pod would not do: a client's next request may reach another pod.
    return bool(spec.files_claim and spec.files_secret)


def _environment(spec: GatewaySpec) -> dict[str, str]:
    files = {"BERTH_GATEWAY_FILES_DIR": f"{FILES_AT}/{object_name(spec)}"} if _keeps_files(spec) else {}
    proxies = ",".join(spec.trusted_proxies)
    return {
        "BERTH_GATEWAY_NAME": spec.name,
        "BERTH_GATEWAY_REGION": spec.region,
        "BERTH_CONTROL_PLANE_URL": spec.control_plane_url,
        "BERTH_GATEWAY_HOST": "0.0.0.0",  # noqa: S104 - one pod's own address
        "BERTH_GATEWAY_PORT": str(spec.port),
        "BERTH_GATEWAY_NOTICE_S": str(NOTICE_S),
        "BERTH_GATEWAY_DRAIN_S": str(spec.drain_s),
        "BERTH_DATA_DIR": DATA_AT,
        **files,
        **({"BERTH_GATEWAY_TRUSTED_PROXIES": proxies} if proxies else {}),
        "HOME": "/tmp",  # noqa: S108 - the container's own
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONUNBUFFERED": "1",
    }


def _policy(spec: GatewaySpec, facts: ClusterFacts) -> dict[str, Any]:
    engines = {
        # In prepared namespaces there may be no label of Berth's, on pods there always is.
        "namespaceSelector": {},
        "podSelector": {"matchLabels": {names.NAME: names.ENGINE, names.INSTALLATION: facts.installation}},
    }
    parts = urlsplit(spec.control_plane_url)
    outside = [parts.port or (443 if parts.scheme == "https" else 80)]
    if spec.redis_url:
        outside.append(urlsplit(spec.redis_url).port or _REDIS_PORT)
    return {
        "podSelector": {"matchLabels": selector(spec)},
        "policyTypes": ["Ingress", "Egress"],
        # Clients come through whatever the cluster's admin puts before the service.
        "ingress": [{"ports": [{"port": spec.port, "protocol": "TCP"}]}],
        # The control plane and Redis are known by their names, and policies know addresses only.
        "egress": [
            dns(),
            {"to": [engines]},
            {"ports": [{"port": port, "protocol": "TCP"} for port in outside]},
        ],
    }


def _service(spec: GatewaySpec, *, headless: bool) -> dict[str, Any]:
    body: dict[str, Any] = {
        "type": "ClusterIP",
        "selector": selector(spec),
        "ports": [
            {"name": "http", "port": spec.port if headless else 80, "targetPort": "http", "protocol": "TCP"}
        ],
    }
    return {"clusterIP": "None", **body} if headless else body


def _stateful_set(spec: GatewaySpec, facts: ClusterFacts) -> dict[str, Any]:
    claim: dict[str, Any] = {
        "accessModes": ["ReadWriteOnce"],
        "volumeMode": "Filesystem",
        "resources": {"requests": {"storage": quantities.of_bytes(spec.storage_gib * GIB)}},
    }
    if facts.storage_class:
        claim["storageClassName"] = facts.storage_class
    return {
        "replicas": spec.replicas,
        "serviceName": f"{object_name(spec)}-pods",
        "selector": {"matchLabels": selector(spec)},
        "podManagementPolicy": "Parallel",
        "updateStrategy": {"type": "RollingUpdate"},
        # Usage that was not shipped yet is money: volumes stay until a person takes them away.
        "persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Retain", "whenScaled": "Retain"},
        "revisionHistoryLimit": 2,
        "volumeClaimTemplates": [
            {
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                "metadata": {"name": "data", "labels": labels_of(spec, facts)},
                "spec": claim,
            }
        ],
        "template": _pod(spec, facts),
    }


def _pod(spec: GatewaySpec, facts: ClusterFacts) -> dict[str, Any]:
    def probe(path: str, *, period: int, failures: int) -> dict[str, Any]:
        return {
            "httpGet": {"path": path, "port": "http", "scheme": "HTTP"},
            "periodSeconds": period,
            "timeoutSeconds": 3,
            "successThreshold": 1,
            "failureThreshold": failures,
        }

    secrets = [object_name(spec)]
    mounts = [
        {"name": "data", "mountPath": DATA_AT},
        {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108
    ]
    volumes: list[dict[str, Any]] = [{"name": "tmp", "emptyDir": {"sizeLimit": quantities.of_bytes(GIB)}}]
    if _keeps_files(spec):
        secrets.append(spec.files_secret)
        mounts.append({"name": "files", "mountPath": FILES_AT})
        volumes.append({"name": "files", "persistentVolumeClaim": {"claimName": spec.files_claim}})
    container = {
        "name": "gateway",
        "image": spec.image.pinned,
        "imagePullPolicy": "IfNotPresent",
        "command": ["python", "-m", "gateway"],
        "env": pods.env(_environment(spec)),
        "envFrom": [{"secretRef": {"name": name}} for name in secrets],
        "ports": [{"name": "http", "containerPort": spec.port, "protocol": "TCP"}],
        "startupProbe": probe("/healthz", period=2, failures=30),
        "readinessProbe": probe("/readyz", period=2, failures=2),
        "livenessProbe": probe("/healthz", period=10, failures=6),
        "resources": {
            "requests": {"cpu": "1", "memory": quantities.of_bytes(GIB)},
            "limits": {"memory": quantities.of_bytes(GIB)},
        },
        "securityContext": dict(pods.CONTAINER_SECURITY),
        "volumeMounts": mounts,
        "terminationMessagePath": "/dev/termination-log",
        "terminationMessagePolicy": "FallbackToLogsOnError",
    }
    return {
        "metadata": {
            "labels": labels_of(spec, facts),
            # The secret is read at the start only: another one, other pods. The digest tells nothing of it.
            "annotations": {f"{names.PREFIX}/secret": _secret_digest(spec)},
        },
        "spec": {
            **pods.common(facts, grace_s=NOTICE_S + spec.drain_s + SHIP_S),
            "serviceAccountName": object_name(spec),
            "containers": [container],
            "topologySpreadConstraints": [
                {
                    "maxSkew": 1,
                    "topologyKey": "kubernetes.io/hostname",
                    "whenUnsatisfiable": "ScheduleAnyway",
                    "labelSelector": {"matchLabels": selector(spec)},
                }
            ],
            "volumes": volumes,
        },
    }


def _secret_digest(spec: GatewaySpec) -> str:
    values = [spec.name, spec.token, _peppers(spec), *filter(None, [spec.redis_url])]
    return hashlib.sha256("\n".join(values).encode()).hexdigest()[:16]
