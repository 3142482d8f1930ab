"""What only some clusters can use: scraping by the Prometheus operator, autoscaling."""

from __future__ import annotations

from typing import Any, Final

from clusters.kube.kinds import HPA, SCALED_OBJECT, SERVICE_MONITOR
from clusters.kube.manifests import names
from clusters.kube.manifests.facts import Autoscaler, CannotRender, ClusterFacts
from clusters.kube.manifests.workload import scaled
from clusters.specs import DeploymentSpec, EngineContainer, Scaling

METRIC: Final = "berth_gateway_endpoint_in_flight"
"""The gateways' gauge of requests in progress by endpoint. An engine's own gauges end with its last pod."""


def optional(spec: DeploymentSpec, engine: EngineContainer, facts: ClusterFacts) -> list[dict[str, Any]]:
    """Give what the cluster has the APIs for.

    Raises:
        CannotRender: KEDA is to scale and has no Prometheus to ask.
    """
    objects = []
    if facts.service_monitors and facts.prometheus_namespace and engine.metrics_port is not None:
        objects.append(_service_monitor(spec, engine, facts))
    if spec.scaling is not None and scaled(spec, facts):
        make = _scaled_object if facts.autoscaler is Autoscaler.KEDA else _autoscaler
        objects.append(make(spec, facts, spec.scaling))
    return objects


def _service_monitor(spec: DeploymentSpec, engine: EngineContainer, facts: ClusterFacts) -> dict[str, Any]:
    port = "http" if engine.metrics_port == engine.http_port else "metrics"
    return names.new(
        SERVICE_MONITOR,
        spec.name,
        labels=names.labels_of(spec, facts),
        namespace=names.namespace_of(spec, facts),
        spec={
            "selector": {"matchLabels": names.selector_of(spec)},
            "endpoints": [{"port": port, "path": engine.metrics_path, "interval": "15s"}],
            "targetLabels": [f"{names.PREFIX}/{key}" for key in ("tenant", "endpoint", "revision")],
        },
    )


def _scaled_object(spec: DeploymentSpec, facts: ClusterFacts, scaling: Scaling) -> dict[str, Any]:
    if not facts.prometheus_url:
        raise CannotRender("KEDA asks Prometheus how much is in flight; give the cluster's prometheus_url")
    return names.new(
        SCALED_OBJECT,
        spec.name,
        labels=names.labels_of(spec, facts),
        namespace=names.namespace_of(spec, facts),
        spec={
            "scaleTargetRef": _target(spec),
            "minReplicaCount": scaling.least,
            "maxReplicaCount": scaling.most,
            "pollingInterval": 15,
            # Loading an engine takes minutes: none is given back for a short pause.
            "cooldownPeriod": 600,
            "triggers": [
                {
                    "type": "prometheus",
                    "metricType": "AverageValue",
                    "metadata": {
                        "serverAddress": facts.prometheus_url,
                        "query": f'sum({METRIC}{{endpoint="{spec.labels["endpoint"]}"}})',
                        "threshold": str(scaling.in_flight_per_replica),
                        "activationThreshold": "0",
                    },
                }
            ],
        },
    )


def _autoscaler(spec: DeploymentSpec, facts: ClusterFacts, scaling: Scaling) -> dict[str, Any]:
    return names.new(
        HPA,
        spec.name,
        labels=names.labels_of(spec, facts),
        namespace=names.namespace_of(spec, facts),
        spec={
            "scaleTargetRef": _target(spec),
            "minReplicas": max(1, scaling.least),
            "maxReplicas": scaling.most,
            "metrics": [
                {
                    "type": "External",
                    "external": {
                        "metric": {
                            "name": METRIC,
                            "selector": {"matchLabels": {"endpoint": spec.labels["endpoint"]}},
                        },
                        "target": {
                            "type": "AverageValue",
                            "averageValue": str(scaling.in_flight_per_replica),
                        },
                    },
                }
            ],
            "behavior": {"scaleDown": {"stabilizationWindowSeconds": 600}},
        },
    )


def _target(spec: DeploymentSpec) -> dict[str, str]:
    many = spec.nodes_per_replica > 1
    return {
        "apiVersion": "leaderworkerset.x-k8s.io/v1" if many else "apps/v1",
        "kind": "LeaderWorkerSet" if many else "Deployment",
        "name": names.workload_name(spec),
    }
