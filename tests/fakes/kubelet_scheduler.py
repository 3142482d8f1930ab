"""The scheduler of the played kubelet: which node takes a pod, and how much pods take."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tests.fakes.kubelet_rest import Cluster, Object, meta

UNITS = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40, "k": 10**3, "M": 10**6, "G": 10**9}


class Scheduler:
    """Chooses nodes by readiness, taints, labels and what is left of their resources."""

    cluster: Cluster

    def fitting_node(self, pod: Object) -> tuple[str, str]:
        """A node that takes the pod, or the scheduler's words why there is none."""
        reasons: dict[str, int] = {}
        nodes = self.cluster.of("nodes")
        for node in nodes:
            why = self._refuses(node, pod)
            if not why:
                return meta(node)["name"], ""
            reasons[why] = reasons.get(why, 0) + 1
        told = ", ".join(f"{count} {why}" for why, count in sorted(reasons.items()))
        return "", f"0/{len(nodes)} nodes are available: {told}."

    def _refuses(self, node: Object, pod: Object) -> str:
        spec, labels = pod["spec"], meta(node).get("labels") or {}
        ready = {c["type"]: c["status"] for c in node.get("status", {}).get("conditions", [])}.get("Ready")
        if ready != "True":
            return "node(s) had untolerated taint {node.kubernetes.io/not-ready: }"
        if node["spec"].get("unschedulable"):
            return "node(s) were unschedulable"
        for taint in node["spec"].get("taints") or []:
            if taint["effect"] != "PreferNoSchedule" and not _borne(taint, spec.get("tolerations") or []):
                return f"node(s) had untolerated taint {{{taint['key']}: {taint.get('value', '')}}}"
        if any(labels.get(k) != v for k, v in (spec.get("nodeSelector") or {}).items()):
            return "node(s) didn't match Pod's node affinity/selector"
        if not _affine(spec, labels):
            return "node(s) didn't match Pod's node affinity/selector"
        allocatable = node.get("status", {}).get("allocatable") or {}
        others = [p for p in self.cluster.of("pods") if p["spec"].get("nodeName") == meta(node)["name"]]
        running = [p for p in others if p.get("status", {}).get("phase") not in ("Succeeded", "Failed")]
        for resource, wanted in _requests(pod).items():
            used = sum(_requests(p).get(resource, 0) for p in running)
            if used + wanted > quantity(allocatable.get(resource, "0")):
                return f"Insufficient {resource}"
        return ""


def usage(key: str, pods: list[Object]) -> str:
    """How much of a quota pods use up."""
    group, _, resource = key.partition(".")
    if key == "pods":
        return str(len(pods))
    if group not in ("requests", "limits"):
        return "0"
    total = sum(_amounts(pods, group, resource))
    return str(total)


def _amounts(pods: list[Object], group: str, resource: str) -> Iterator[int]:
    for pod in pods:
        for container in pod["spec"]["containers"]:
            resources = container.get("resources") or {}
            amount = (resources.get(group) or {}).get(resource) or (resources.get("limits") or {}).get(
                resource
            )
            yield quantity(amount or "0")


def quantity(text: str) -> int:
    """A Kubernetes quantity, rounded up to whole units."""
    for unit, factor in UNITS.items():
        if text.endswith(unit):
            return int(float(text.removesuffix(unit)) * factor)
    return -(-int(text[:-1]) // 1000) if text.endswith("m") else int(float(text))


def _requests(pod: Object) -> dict[str, int]:
    total: dict[str, int] = {}
    for container in pod["spec"]["containers"]:
        resources = container.get("resources") or {}
        for name, amount in ((resources.get("limits") or {}) | (resources.get("requests") or {})).items():
            total[name] = total.get(name, 0) + quantity(amount)
    return total


def _borne(taint: Object, tolerations: Sequence[Object]) -> bool:
    for toleration in tolerations:
        if toleration.get("key") not in (None, taint["key"]):
            continue
        if toleration.get("effect") not in (None, "", taint["effect"]):
            continue
        if toleration.get("operator", "Equal") == "Exists" or toleration.get("value") == taint.get("value"):
            return True
    return False


def _affine(spec: Object, labels: dict[str, str]) -> bool:
    affinity = ((spec.get("affinity") or {}).get("nodeAffinity") or {}).get(
        "requiredDuringSchedulingIgnoredDuringExecution"
    )
    if not affinity:
        return True
    return any(
        all(_matches(e, labels) for e in term.get("matchExpressions") or [])
        for term in affinity["nodeSelectorTerms"]
    )


def _matches(expression: Object, labels: dict[str, str]) -> bool:
    value = labels.get(expression["key"])
    operator, values = expression["operator"], expression.get("values") or []
    if operator in ("In", "NotIn"):
        return (value in values) == (operator == "In")
    if operator in ("Exists", "DoesNotExist"):
        return (value is not None) == (operator == "Exists")
    number = int(value) if value and value.isdigit() else None
    return number is not None and (number > int(values[0]) if operator == "Gt" else number < int(values[0]))
