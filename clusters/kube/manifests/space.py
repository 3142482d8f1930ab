"""A project's namespace: what is allowed in it, how much, and who may talk to whom."""

from __future__ import annotations

from typing import Any, Final

from clusters.kube.kinds import LIMIT_RANGE, NAMESPACE, NETWORK_POLICY, RESOURCE_QUOTA
from clusters.kube.manifests import names
from clusters.kube.manifests.facts import ClusterFacts
from clusters.specs import DeploymentSpec

LOADER: Final = {f"{names.PREFIX}/network": "load"}
"""On the pods that may reach beyond the cluster, and on no other."""
#: Where a job that fetches weights never goes, wherever it may go: other pods and services, the nodes'
#: networks, the cloud's metadata service.
_INSIDE: Final = ("10.0.0.0/8", "100.64.0.0/10", "169.254.0.0/16", "172.16.0.0/12", "192.168.0.0/16")

NODE_LOCAL_DNS: Final = "169.254.20.10/32"
"""Where NodeLocal DNSCache listens on each node; no pod has this address."""

_PEER = "namespaceSelector"


def space(spec: DeploymentSpec, facts: ClusterFacts) -> list[dict[str, Any]]:
    """Give what must be there before a project's first engine."""
    namespace = names.namespace_of(spec, facts)
    labels = names.shared_labels(spec, facts, name=names.SPACE)
    objects: list[dict[str, Any]] = []
    if facts.makes_namespaces:
        objects.append(names.new(NAMESPACE, namespace, labels={**labels, **names.POD_SECURITY_LEVELS}))
    quotas = {"berth": {"services.loadbalancers": "0", "services.nodeports": "0"}}
    if spec.gpu_quota is not None:
        # One for each resource: deployments of one project may want different ones.
        resource = spec.placement.resource
        name = "berth-" + resource.rpartition("/")[2].replace(".", "-").lower()
        quotas[name] = {f"requests.{resource}": str(spec.gpu_quota)}
    objects += [
        names.new(RESOURCE_QUOTA, name, labels=labels, namespace=namespace, spec={"hard": hard})
        for name, hard in quotas.items()
    ]
    limits = [
        {
            "type": "Container",
            "default": {"memory": "512Mi"},
            "defaultRequest": {"cpu": "100m", "memory": "512Mi"},
        }
    ]
    objects += [
        names.new(LIMIT_RANGE, "berth", labels=labels, namespace=namespace, spec={"limits": limits}),
        names.new(
            NETWORK_POLICY,
            "berth-deny",
            labels=labels,
            namespace=namespace,
            spec={"podSelector": {}, "policyTypes": ["Ingress", "Egress"]},
        ),
        names.new(NETWORK_POLICY, "berth-load", labels=labels, namespace=namespace, spec=_load_policy(facts)),
    ]
    return objects


def dns() -> dict[str, Any]:
    """Allow asking the cluster's name servers, wherever and as whatever they run.

    Policies see the pod's own port behind the service's 53: on OpenShift it is 5353.
    """
    return {
        "to": [{_PEER: {}}, {"ipBlock": {"cidr": NODE_LOCAL_DNS}}],
        "ports": [{"port": port, "protocol": protocol} for port in (53, 5353) for protocol in ("UDP", "TCP")],
    }


def https_out(facts: ClusterFacts) -> dict[str, Any]:
    """Allow HTTPS to where weights come from."""
    blocks: list[dict[str, Any]] = [{"ipBlock": {"cidr": cidr}} for cidr in facts.loader_cidrs] or [
        {"ipBlock": {"cidr": "0.0.0.0/0", "except": list(_INSIDE)}},
        {"ipBlock": {"cidr": "::/0", "except": ["fc00::/7", "fe80::/10"]}},
    ]
    return {"to": blocks, "ports": [{"port": 443, "protocol": "TCP"}]}


def _load_policy(facts: ClusterFacts) -> dict[str, Any]:
    return {
        "podSelector": {"matchLabels": LOADER},
        "policyTypes": ["Ingress", "Egress"],
        "egress": [dns(), https_out(facts)],
    }


def engine_policy(
    spec: DeploymentSpec, facts: ClusterFacts, *, http_port: int, metrics_port: int | None
) -> dict[str, Any]:
    """Give who may reach a deployment's engines: the gateways, which report their memory too, and Prometheus.

    Nothing goes out, save within a replica that spans nodes.
    """
    gateways = {
        _PEER: {"matchLabels": {"kubernetes.io/metadata.name": facts.gateway_namespace}},
        "podSelector": {"matchLabels": {names.NAME: names.GATEWAY, names.INSTALLATION: facts.installation}},
    }
    ports = [http_port, *([metrics_port] if metrics_port not in (None, http_port) else [])]
    ingress: list[dict[str, Any]] = [
        {"from": [gateways], "ports": [{"port": port, "protocol": "TCP"} for port in ports]}
    ]
    if metrics_port is not None and facts.prometheus_namespace:
        scraper = {_PEER: {"matchLabels": {"kubernetes.io/metadata.name": facts.prometheus_namespace}}}
        ingress.append({"from": [scraper], "ports": [{"port": metrics_port, "protocol": "TCP"}]})
    policy: dict[str, Any] = {
        "podSelector": {"matchLabels": names.selector_of(spec)},
        "policyTypes": ["Ingress", "Egress"],
        "ingress": ingress,
    }
    if spec.nodes_per_replica > 1:
        # MPI and NCCL choose their ports; a group finds its leader by name.
        group = {"podSelector": {"matchLabels": names.selector_of(spec)}}
        ingress.append({"from": [group]})
        policy["egress"] = [{"to": [group]}, dns()]
    return names.new(
        NETWORK_POLICY,
        spec.name,
        labels=names.labels_of(spec, facts),
        namespace=names.namespace_of(spec, facts),
        spec=policy,
    )
