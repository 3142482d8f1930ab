"""Objects for tests, as small as a server takes them."""

from __future__ import annotations

from typing import Any

DIGEST = "sha256:" + "0" * 64


def config_map(namespace: str, name: str = "words", **data: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": namespace},
        "data": data or {"a": "1"},
    }


def deployment(namespace: str, name: str = "engine", *, env: dict[str, str] | None = None) -> dict[str, Any]:
    labels = {"app": name}
    container: dict[str, Any] = {
        "name": "engine",
        "image": f"registry.example/engine@{DIGEST}",
        "env": [{"name": key, "value": value} for key, value in (env or {"MODE": "fast"}).items()],
        "ports": [{"name": "http", "containerPort": 8000}],
        "resources": {"limits": {"memory": "2048Mi", "cpu": "4000m"}},
        "readinessProbe": {"httpGet": {"path": "/ready", "port": 8000}},
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": namespace, "labels": labels},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
        },
    }


def pod(namespace: str, name: str, *, node: str = "", labels: dict[str, str] | None = None) -> dict[str, Any]:
    spec: dict[str, Any] = {"containers": [{"name": "engine", "image": f"registry.example/e@{DIGEST}"}]}
    if node:
        spec["nodeName"] = node
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "labels": labels or {}},
        "spec": spec,
    }


def role(namespace: str, *rules: tuple[str, str, list[str]], name: str = "some") -> dict[str, Any]:
    """A Role of (group, resource, verbs)."""
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "Role",
        "metadata": {"name": name, "namespace": namespace},
        "rules": [
            {"apiGroups": [group], "resources": [resource], "verbs": verbs}
            for group, resource, verbs in rules
        ],
    }


def binding(namespace: str, account: str, *, name: str = "some") -> dict[str, Any]:
    """Bind the Role of the same name to a ServiceAccount of the namespace."""
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": {"name": name, "namespace": namespace},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name},
        "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": namespace}],
    }


def account(namespace: str, name: str = "berth") -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": {"name": name, "namespace": namespace},
    }
