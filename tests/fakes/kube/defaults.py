"""What a server adds to objects on its own, as far as Berth's tests see it, and quantities in one form."""

from __future__ import annotations

import base64
import re
import secrets
from collections.abc import Callable
from decimal import Decimal
from typing import Any

Object = dict[str, Any]

_QUANTITIES = {
    "limits",
    "requests",
    "hard",
    "capacity",
    "allocatable",
    "default",
    "defaultRequest",
    "max",
    "min",
}
_BINARY = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40, "Pi": 2**50}
_DECIMAL = {"m": Decimal("0.001"), "": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "P": 10**15}


def canonical(value: Any, name: str = "") -> Any:
    """Give a value with its quantities as the server writes them: text, in the largest whole unit."""
    if isinstance(value, dict):
        if name in _QUANTITIES and all(isinstance(each, str | int | float) for each in value.values()):
            return {key: quantity(each) for key, each in value.items()}
        return {
            key: quantity(each)
            if key == "sizeLimit" and isinstance(each, str | int)
            else canonical(each, key)
            for key, each in value.items()
        }
    if isinstance(value, list):
        return [canonical(each) for each in value]
    return value


def quantity(value: str | float) -> str:
    """Give a quantity in its canonical form: 1024Mi is 1Gi, 4000m is 4."""
    found = re.fullmatch(r"(-?[0-9.]+)(Ki|Mi|Gi|Ti|Pi|m|k|M|G|T|P|)", str(value))
    if not found:
        return str(value)
    number, unit = Decimal(found[1]), found[2]
    units: dict[str, Any] = _BINARY if unit in _BINARY else _DECIMAL
    amount = number * units[unit]
    for name, size in sorted(units.items(), key=lambda each: -each[1]):
        if amount % size == 0 and amount:
            return f"{int(amount / size)}{name}"
    return str(int(amount)) if amount == int(amount) else str(value)


def complete(obj: Object) -> Object:
    """Fill in, in place, what the server would; give the object."""
    if step := _STEPS.get(obj.get("kind", "")):
        step(obj)
    return obj


def _under(obj: Object, key: str, values: Object) -> Object:
    inner: Object = obj.setdefault(key, {})
    for name, value in values.items():
        inner.setdefault(name, value)
    return inner


def _pod_spec(spec: Object, *, restart: str | None = "Always") -> None:
    if restart:
        spec.setdefault("restartPolicy", restart)
    for name, value in (
        ("dnsPolicy", "ClusterFirst"),
        ("schedulerName", "default-scheduler"),
        ("terminationGracePeriodSeconds", 30),
    ):
        spec.setdefault(name, value)
    spec.setdefault("securityContext", {})
    for container in [*spec.get("initContainers", ()), *spec.get("containers", ())]:
        _container(container)
    for volume in spec.get("volumes", ()):
        for source in ("configMap", "secret", "projected"):
            if source in volume:
                volume[source].setdefault("defaultMode", 420)


def _container(container: Object) -> None:
    image = str(container.get("image", ""))
    latest = "@" not in image and (":" not in image.rsplit("/", 1)[-1] or image.endswith(":latest"))
    container.setdefault("imagePullPolicy", "Always" if latest else "IfNotPresent")
    container.setdefault("terminationMessagePath", "/dev/termination-log")
    container.setdefault("terminationMessagePolicy", "File")
    container.setdefault("resources", {})
    for port in container.get("ports", ()):
        port.setdefault("protocol", "TCP")
    for entry in container.get("env", ()):
        if field := entry.get("valueFrom", {}).get("fieldRef"):
            field.setdefault("apiVersion", "v1")
    for name in ("readinessProbe", "livenessProbe", "startupProbe"):
        if probe := container.get(name):
            _under(
                container,
                name,
                {"timeoutSeconds": 1, "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3},
            )
            _scheme(probe)
    for hook in container.get("lifecycle", {}).values():
        _scheme(hook)


def _scheme(action: Object) -> None:
    if "httpGet" in action:
        action["httpGet"].setdefault("scheme", "HTTP")
        action["httpGet"].setdefault("path", "/")


def _pod(obj: Object) -> None:
    spec = obj.setdefault("spec", {})
    _pod_spec(spec)
    for container in [*spec.get("initContainers", ()), *spec.get("containers", ())]:
        for name, value in container["resources"].get("limits", {}).items():
            container["resources"].setdefault("requests", {}).setdefault(name, value)
    spec.setdefault("enableServiceLinks", True)
    spec.setdefault("preemptionPolicy", "PreemptLowerPriority")
    spec.setdefault("priority", 0)
    if not obj["metadata"].get("resourceVersion"):
        for key in ("not-ready", "unreachable"):
            toleration = {"key": f"node.kubernetes.io/{key}", "operator": "Exists", "effect": "NoExecute"}
            spec.setdefault("tolerations", []).append({**toleration, "tolerationSeconds": 300})
    status = obj.setdefault("status", {})
    status.setdefault("phase", "Pending")
    status.setdefault("qosClass", _quality(spec))


def _quality(spec: Object) -> str:
    """The quality of service, from cpu and memory alone."""
    pairs = [
        (
            container["resources"].get("limits", {}).get(name),
            container["resources"].get("requests", {}).get(name),
        )
        for container in [*spec.get("initContainers", ()), *spec["containers"]]
        for name in ("cpu", "memory")
    ]
    if not any(limit or request for limit, request in pairs):
        return "BestEffort"
    return "Guaranteed" if all(limit and limit == request for limit, request in pairs) else "Burstable"


def _deployment(obj: Object) -> None:
    spec = _under(
        obj,
        "spec",
        {"replicas": 1, "revisionHistoryLimit": 10, "progressDeadlineSeconds": 600, "template": {}},
    )
    strategy = _under(spec, "strategy", {"type": "RollingUpdate"})
    if strategy["type"] == "RollingUpdate":
        _under(strategy, "rollingUpdate", {"maxUnavailable": "25%", "maxSurge": "25%"})
    _pod_spec(spec["template"].setdefault("spec", {}))


def _stateful_set(obj: Object) -> None:
    spec = _under(
        obj,
        "spec",
        {"replicas": 1, "revisionHistoryLimit": 10, "podManagementPolicy": "OrderedReady", "template": {}},
    )
    strategy = _under(spec, "updateStrategy", {"type": "RollingUpdate"})
    if strategy["type"] == "RollingUpdate":
        _under(strategy, "rollingUpdate", {"partition": 0})
    _under(spec, "persistentVolumeClaimRetentionPolicy", {"whenDeleted": "Retain", "whenScaled": "Retain"})
    _pod_spec(spec["template"].setdefault("spec", {}))
    _under(obj, "status", {"replicas": 0, "availableReplicas": 0})
    for claim in spec.get("volumeClaimTemplates", ()):
        claim.update({"apiVersion": "v1", "kind": "PersistentVolumeClaim"})
        _under(claim, "spec", {"volumeMode": "Filesystem"})
        _under(claim, "status", {"phase": "Pending"})


def _job(obj: Object) -> None:
    spec = _under(
        obj,
        "spec",
        {
            "completions": 1,
            "parallelism": 1,
            "backoffLimit": 6,
            "completionMode": "NonIndexed",
            "suspend": False,
            "manualSelector": False,
            "podReplacementPolicy": "TerminatingOrFailed",
            "template": {},
        },
    )
    uid = obj["metadata"].get("uid", "")
    labels = _under(spec["template"].setdefault("metadata", {}), "labels", {})
    labels["batch.kubernetes.io/controller-uid"] = labels["controller-uid"] = uid
    labels["batch.kubernetes.io/job-name"] = labels["job-name"] = obj["metadata"]["name"]
    _under(obj["metadata"], "labels", labels)
    obj.setdefault("status", {})
    spec.setdefault("selector", {"matchLabels": {"batch.kubernetes.io/controller-uid": uid}})
    _pod_spec(spec["template"].setdefault("spec", {}), restart=None)


def _service(obj: Object) -> None:
    spec = _under(
        obj,
        "spec",
        {
            "type": "ClusterIP",
            "sessionAffinity": "None",
            "internalTrafficPolicy": "Cluster",
            "ipFamilies": ["IPv4"],
            "ipFamilyPolicy": "SingleStack",
        },
    )
    address = spec.setdefault("clusterIP", f"10.96.{secrets.randbelow(256)}.{secrets.randbelow(254) + 1}")
    spec.setdefault("clusterIPs", [address])
    for port in spec.get("ports", ()):
        port.setdefault("protocol", "TCP")
        port.setdefault("targetPort", port.get("port"))
    _under(obj, "status", {"loadBalancer": {}})


def _claim(obj: Object) -> None:
    if not obj["metadata"].get("resourceVersion"):
        obj["metadata"].setdefault("finalizers", []).append("kubernetes.io/pvc-protection")
    _under(obj, "spec", {"volumeMode": "Filesystem"})
    _under(obj, "status", {"phase": "Pending"})


def _namespace(obj: Object) -> None:
    _under(obj["metadata"], "labels", {"kubernetes.io/metadata.name": obj["metadata"]["name"]})
    _under(obj, "spec", {"finalizers": ["kubernetes"]})
    _under(obj, "status", {"phase": "Active"})


def _network_policy(obj: Object) -> None:
    spec = _under(obj, "spec", {"podSelector": {}})
    spec.setdefault("policyTypes", ["Ingress", "Egress"] if "egress" in spec else ["Ingress"])
    for rule in [*spec.get("ingress", ()), *spec.get("egress", ())]:
        for port in rule.get("ports", ()):
            port.setdefault("protocol", "TCP")


def _secret(obj: Object) -> None:
    obj.setdefault("type", "Opaque")
    for name, text in (obj.pop("stringData", None) or {}).items():
        obj.setdefault("data", {})[name] = base64.b64encode(text.encode()).decode()


def _quota(obj: Object) -> None:
    obj.setdefault("status", {})


def _limit_range(obj: Object) -> None:
    for limit in (obj.get("spec") or {}).get("limits") or ():
        if limit.get("type") == "Container":
            for name, value in limit.get("default", {}).items():
                limit.setdefault("defaultRequest", {}).setdefault(name, value)


def _disruption_budget(obj: Object) -> None:
    counts = ("currentHealthy", "desiredHealthy", "disruptionsAllowed", "expectedPods")
    _under(obj, "status", dict.fromkeys(counts, 0))


def _autoscaler(obj: Object) -> None:
    _under(obj, "spec", {"minReplicas": 1})


_STEPS: dict[str, Callable[[Object], None]] = {
    "Pod": _pod,
    "Deployment": _deployment,
    "StatefulSet": _stateful_set,
    "Job": _job,
    "Service": _service,
    "PersistentVolumeClaim": _claim,
    "Namespace": _namespace,
    "NetworkPolicy": _network_policy,
    "Secret": _secret,
    "HorizontalPodAutoscaler": _autoscaler,
    "ResourceQuota": _quota,
    "LimitRange": _limit_range,
    "PodDisruptionBudget": _disruption_budget,
}
