"""Every part that connects to somewhere is known, and so is what keeps it from being led elsewhere."""

from __future__ import annotations

import ast

import pytest

from tests.architecture.sources import ROOMS, ROOT, dotted, trees

pytestmark = pytest.mark.xdist_group("sources")

#: What makes connections, of the standard library and of what is installed.
CLIENTS = {
    "aiohttp.ClientSession", "create_connection", "django.core.mail", "ftplib", "grpc", "http.client", "httpx",
    "kubernetes", "open_connection", "openai", "opentelemetry.exporter", "paramiko", "redis.Redis", "redis.asyncio",
    "redis.from_url", "requests.Session", "requests.adapters", "requests.delete", "requests.get", "requests.patch",
    "requests.post", "requests.put", "requests.request", "requests.sessions", "smtplib", "tritonclient.grpc",
    "tritonclient.http", "urllib.request.urlopen", "urllib3", "websockets", "xmlrpc",
}  # fmt: skip

#: Module to who names the address, and what guards it. docs/operations.md tells operators the same.
KNOWN = {
    "tenants/outside.py": "tenants (webhooks): every address judged, pinned, no redirects",
    "tenants/webhooks/mailing.py": "the deployment (EMAIL_HOST)",
    "tenants/identity/pinned.py": "tenants (identity providers): every address judged, pinned",
    "tenants/sealing/vault_client.py": "the deployment (BERTH_VAULT_ADDR): https, no redirects, no proxies",
    "clusters/kube/transport.py": "operators (clusters): by clusters/kube/connections.py, no redirects",
    "clusters/kube/connections.py": "operators (clusters): every address judged at each connection, pinned",
    "clusters/triton/health.py": "our own engines on this machine",
    "clusters/triton/runtimes/group/agent.py": "pods of one engine, to their leader, in the cluster",
    "clusters/triton/runtimes/group/leader.py": "pods of one engine, to their leader, in the cluster",
    "clusters/endpoints/evaluations/asking.py": "operators (gateways' public addresses); no redirects, no proxies",
    "portal/demo/story.py": "the demo, to this machine",
    "gateway/server.py": "the deployment (BERTH_CONTROL_PLANE_URL); no redirects",
    "gateway/reports.py": "our own engines, as the control plane names them; no redirects",
    "gateway/engines/http.py": "our own engines, as the control plane names them; no redirects",
    "gateway/limits/shared.py": "the deployment (BERTH_GATEWAY_REDIS_URL)",
    "gateway/tracing.py": "the deployment (OTEL_EXPORTER_OTLP_ENDPOINT)",
    "gateway/replay/arrivals.py": "whoever runs the command; no redirects",
    "embedded/faults/relay.py": "the processes of this machine that a fault stands between",
    "embedded/redis.py": "the Redis that it started on this machine",
}


def names_of(tree: ast.AST) -> set[str]:
    """Give the dotted names of what a module imports, and of what it calls of it."""
    known: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            known |= {alias.asname or alias.name.partition(".")[0]: alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            known |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    calls = {dotted(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    called = set()
    for call in calls:
        root, _, rest = call.partition(".")
        if root in known and rest:
            called.add(
                f"{known[root].partition('.')[0] if known[root].startswith(root + '.') else known[root]}.{rest}"
            )
    return set(known.values()) | called | {call.rpartition(".")[2] for call in calls}


def connects(tree: ast.AST) -> bool:
    inside = tuple(f"{client}." for client in CLIENTS)
    return any(name in CLIENTS or name.startswith(inside) for name in names_of(tree))


def test_every_client_of_somewhere_else_is_known():
    assert {path for path, tree in trees().items() if connects(tree)} == set(KNOWN)


@pytest.mark.parametrize(
    "source",
    [
        "import httpx\n",
        "import requests as r\nr.get('x')\n",
        "from urllib.request import urlopen\n",
        "import aiohttp\naiohttp.ClientSession()\n",
    ],
)
def test_a_new_client_would_be_seen(source):
    assert connects(ast.parse(source))


def test_nothing_follows_redirects_or_leaves_certificates_unchecked():
    for path in [path for room in ROOMS for path in (ROOT / room).rglob("*.py")]:
        if "demo" in path.parts:
            continue
        source = path.read_text()
        for word in ("follow_redirects=True", "verify=False", "CERT_NONE", "_create_unverified_context"):
            assert word not in source, f"{path}: {word}"
