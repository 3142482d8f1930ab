"""What a server says of itself: its version, its health, the kinds that it serves."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from clusters.kube.kinds import Kind
from tests.fakes.kube import rbac
from tests.fakes.kube.answers import Refusal


def about(path: str, user: rbac.User, served: set[Kind], version: tuple[int, int]) -> dict[str, Any] | str:
    """Give the document, or the text, at a path; raises a 403 to strangers and a 404 where there is nothing."""
    if user.name == rbac.ANONYMOUS and path not in ("/version", "/readyz", "/livez", "/healthz"):
        raise Refusal(403, "Forbidden", f'forbidden: User "{user.name}" cannot get path "{path}"')
    if path == "/version":
        major, minor = version
        return {"major": str(major), "minor": str(minor), "gitVersion": f"v{major}.{minor}.0"}
    if path in ("/readyz", "/livez", "/healthz"):
        return "ok"
    kinds = sorted(served, key=lambda kind: kind.api_version)
    if path == "/api":
        return {"kind": "APIVersions", "versions": ["v1"]}
    if path == "/apis":
        groups: dict[str, set[str]] = {}
        for kind in kinds:
            if kind.group:
                groups.setdefault(kind.group, set()).add(kind.version)
        listed = [
            {
                "name": group,
                "versions": [{"groupVersion": f"{group}/{each}", "version": each} for each in versions],
            }
            for group, versions in groups.items()
        ]
        return {"kind": "APIGroupList", "apiVersion": "v1", "groups": listed}
    there = [kind for kind in kinds if kind.api_path == path]
    if not there:
        raise web.HTTPNotFound(text="404 page not found\n")
    resources = [
        {"name": kind.plural, "namespaced": kind.namespaced, "kind": kind.kind, "verbs": []} for kind in there
    ]
    return {"kind": "APIResourceList", "groupVersion": there[0].api_version, "resources": resources}
