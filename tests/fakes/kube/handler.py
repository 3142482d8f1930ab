"""Kubernetes over HTTP: addresses to objects, one request at a time."""

from __future__ import annotations

import asyncio
import base64
import datetime as dt
import time
from typing import Any

import msgspec
import yaml
from aiohttp import web

from clusters.kube import kinds
from clusters.kube.kinds import Kind
from tests.fakes.kube import patches, rbac, rules, selectors
from tests.fakes.kube.about import about
from tests.fakes.kube.answers import Refusal, gone
from tests.fakes.kube.entries import Change
from tests.fakes.kube.faults import Call, Fault
from tests.fakes.kube.store import Store

_VERBS = {"GET": "get", "POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}


class Handler:
    """Answers for one store; what goes wrong is in ``faults``."""

    def __init__(self, store: Store, access: rbac.Access) -> None:
        self.store = store
        self.access = access
        self.faults: list[Fault] = []
        self.calls: list[Call] = []
        self.logs: dict[tuple[str, str, str, bool], str] = {}
        self.version = (1, 36)
        self.bookmark_s = 1.0
        self.silent_watches = False
        self.gone_as_status = False
        self.cut = asyncio.Event()  # set: open watches break
        self.watches = 0

    async def answer(self, request: web.Request) -> web.StreamResponse:
        call = Call(authorization=request.headers.get("Authorization", ""))
        try:
            place = self._place(request)
            if place is None:
                return await self._about(request)
            kind, what = place
            for name in ("verb", "group", "resource", "subresource", "namespace", "name"):
                setattr(call, name, getattr(what, name))
            call.dry_run = "dryRun" in request.query
            self.calls.append(call)
            return await self._answer(request, kind, what, call)
        except Refusal as refusal:
            headers = {} if refusal.retry_after is None else {"Retry-After": str(refusal.retry_after)}
            call.status = refusal.status
            return _json(refusal.body, refusal.status, headers)

    async def _about(self, request: web.Request) -> web.StreamResponse:
        path = request.path.rstrip("/") or "/"
        fault = next((each for each in self.faults if each.takes("get", path)), None)
        if fault is not None:
            await self._fail(request, fault)
        found = about(path, self.access.user(*_identity(request)), self.store.served, self.version)
        return web.Response(text=found) if isinstance(found, str) else _json(found)

    async def _answer(
        self, request: web.Request, kind: Kind, what: rbac.Attributes, call: Call
    ) -> web.StreamResponse:
        fault = next((each for each in self.faults if each.takes(what.verb, what.resource)), None)
        if fault is not None and fault.how != "lose":
            await self._fail(request, fault)
        user = self.access.user(*_identity(request))
        call.user = user.name
        if kind not in self.store.served:
            raise web.HTTPNotFound(text="404 page not found\n")
        self.access.check(user, what)
        body = await _body(request)
        before = self.store.version
        if what.verb == "watch":
            return await self._watch(request, kind, what)
        response = self._do(request, kind, what, body, user)
        call.status, call.changed = response.status, self.store.version != before
        if fault is not None:
            await self._fail(request, Fault("reset", 0))
        return response

    async def _fail(self, request: web.Request, fault: Fault) -> None:
        if fault.how == "hang":
            await asyncio.Event().wait()
        if fault.how == "reset":
            if request.transport is not None:
                request.transport.abort()
            raise asyncio.CancelledError
        if fault.how == "busy":
            raise Refusal(
                429, "TooManyRequests", "the server is currently busy", retry_after=fault.retry_after
            )
        raise Refusal(fault.status, fault.reason, fault.message)

    def _place(self, request: web.Request) -> tuple[Kind, rbac.Attributes] | None:
        parts = request.path.strip("/").split("/")
        if parts[0] == "api" and len(parts) > 2:
            api, rest = "/".join(parts[1:2]), parts[2:]
        elif parts[0] == "apis" and len(parts) > 3:
            api, rest = "/".join(parts[1:3]), parts[3:]
        else:
            return None
        namespace = ""
        if rest[0] == "namespaces" and len(rest) > 2 and rest[2] not in ("status", "finalize"):
            namespace, rest = rest[1], rest[2:]
        plural, name, sub = [*rest, "", ""][:3]
        kind = next((each for each in kinds.KINDS if each.api_version == api and each.plural == plural), None)
        if kind is None:
            raise web.HTTPNotFound(text="404 page not found\n")
        verb = _VERBS.get(request.method, "")
        if verb == "get" and not name:
            verb = "watch" if request.query.get("watch") in ("true", "1") else "list"
        elif verb == "delete" and not name:
            verb = "deletecollection"
        where = name if kind == kinds.NAMESPACE else namespace
        return kind, rbac.Attributes(verb, kind.group, kind.plural, sub, where, name)

    def _do(
        self,
        request: web.Request,
        kind: Kind,
        what: rbac.Attributes,
        body: Any,
        user: rbac.User,
    ) -> web.Response:
        sub = what.subresource
        namespace = what.namespace if kind.namespaced else ""
        if kind.plural.startswith("selfsubject"):
            return _json(self._review(kind, body, user), 201)
        if sub == "log":
            return self._log(request, namespace, what.name)
        if sub == "token" and what.verb == "create":
            return _json(self._token(namespace, what.name, body), 201)
        known = ("", "status", "finalize") if kind.plural in rules.STATUS else ("",)
        if sub not in known:
            raise web.HTTPNotFound(text="404 page not found\n")
        if what.verb == "get":
            return _json(self.store.get(kind, namespace, what.name).obj)
        if what.verb == "list":
            return self._list(request, kind, namespace)
        dry_run = "dryRun" in request.query
        manager = request.query.get("fieldManager") or request.headers.get("User-Agent", "").split("/")[0]
        if what.verb == "create":
            return _json(self.store.create(kind, namespace, body, manager, dry_run=dry_run), 201)
        if what.verb == "update":
            return _json(
                self.store.replace(
                    kind, namespace, what.name, body, manager, subresource=sub, dry_run=dry_run
                )
            )
        if what.verb == "patch":
            return self._patch(request, kind, what, body, user, manager)
        if what.verb == "delete":
            return _json(self.store.delete(kind, namespace, what.name, body or {}))
        for (place, name), _ in self._selected(request, kind, namespace):
            self.store.delete(kind, place, name, body or {})
        return _json({"kind": "Status", "apiVersion": "v1", "status": "Success"})

    def _patch(
        self,
        request: web.Request,
        kind: Kind,
        what: rbac.Attributes,
        body: Any,
        user: rbac.User,
        manager: str,
    ) -> web.Response:
        sub = what.subresource
        namespace, name = what.namespace if kind.namespaced else "", what.name
        dry_run = "dryRun" in request.query
        content_type = request.content_type
        if content_type == "application/apply-patch+yaml":
            if not request.query.get("fieldManager"):
                raise Refusal(400, "BadRequest", "fieldManager is required for apply patch")
            if (namespace, name) not in self.store.entries[kind]:
                self.access.check(user, _creating(what))
            obj, made = self.store.apply(
                kind,
                namespace,
                name,
                body,
                manager,
                subresource=sub,
                force=request.query.get("force") in ("true", "1"),
                dry_run=dry_run,
            )
            return _json(obj, 201 if made else 200)
        before = self.store.get(kind, namespace, name).obj
        if content_type == "application/json-patch+json":
            after = patches.json_patch(before, body)
        elif content_type == "application/merge-patch+json":
            after = patches.merge_patch(before, body)
        else:
            raise Refusal(415, "UnsupportedMediaType", f"the stand-in takes no {content_type}")
        return _json(
            self.store.replace(kind, namespace, name, after, manager, subresource=sub, dry_run=dry_run)
        )

    def _selected(self, request: web.Request, kind: Kind, namespace: str) -> list[Any]:
        matches = selectors.matcher(
            request.query.get("labelSelector", ""), request.query.get("fieldSelector", "")
        )
        return [(key, entry) for key, entry in self.store.list(kind, namespace) if matches(entry.obj)]

    def _list(self, request: web.Request, kind: Kind, namespace: str) -> web.Response:
        found = self._selected(request, kind, namespace)
        version, limit = self.store.version, int(request.query.get("limit") or 0)
        if token := request.query.get("continue"):
            version, *last = msgspec.json.decode(base64.b64decode(token))
            if version < self.store.oldest:
                raise Refusal(410, "Expired", "The provided continue parameter is too old")
            found = [item for item in found if list(item[0]) > last]
        meta: dict[str, Any] = {"resourceVersion": str(version)}
        if limit and len(found) > limit:
            meta["remainingItemCount"] = len(found) - limit
            found = found[:limit]
            meta["continue"] = base64.b64encode(msgspec.json.encode([version, *found[-1][0]])).decode()
        head = {"kind": f"{kind.kind}List", "apiVersion": kind.api_version, "metadata": meta}
        content = msgspec.json.encode(head)[:-1] + b',"items":['
        content += b",".join(entry.encoded for _, entry in found) + b"]}"
        return web.Response(body=content, content_type="application/json")

    async def _watch(self, request: web.Request, kind: Kind, what: rbac.Attributes) -> web.StreamResponse:
        matches = selectors.matcher(
            request.query.get("labelSelector", ""), request.query.get("fieldSelector", "")
        )
        asked = request.query.get("resourceVersion") or "0"
        if not asked.isdecimal():
            raise Refusal(400, "BadRequest", f"invalid resource version {asked!r}")
        version = int(asked)
        if self.gone_as_status and version and version < self.store.oldest:
            raise gone(version)
        namespace = what.namespace if kind.namespaced else ""
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        self.watches += 1
        cut = self.cut
        try:
            if version == 0:
                version = self.store.version
                for _, entry in self._selected(request, kind, namespace):
                    await response.write(_event("ADDED", entry.obj))
            until = time.monotonic() + float(request.query.get("timeoutSeconds") or 1800)
            bookmarks = request.query.get("allowWatchBookmarks") in ("true", "1")
            while True:
                if self.silent_watches:
                    await cut.wait()
                moved = self.store.moved
                try:
                    for change in self.store.changes(version):
                        version = change.version
                        if event := _seen(change, kind, namespace, matches):
                            await response.write(event)
                except Refusal as refusal:
                    await response.write(_event("ERROR", refusal.body))
                    return response
                left = until - time.monotonic()
                if cut.is_set():
                    if request.transport is not None:
                        request.transport.abort()
                    raise asyncio.CancelledError
                quiet = not await _first(moved, cut, timeout=max(0.0, min(self.bookmark_s, left)))
                # What happened while the wait ended must be told before a bookmark passes it.
                if quiet and not moved.is_set() and bookmarks and not self.silent_watches:
                    version = max(version, self.store.version)
                    await response.write(_bookmark(kind, version))
                if left <= 0:
                    return response
        finally:
            self.watches -= 1

    def _review(self, kind: Kind, body: Any, user: rbac.User) -> dict[str, Any]:
        head = {"kind": kind.kind, "apiVersion": kind.api_version, "metadata": {}}
        spec = (body or {}).get("spec") or {}
        if kind == kinds.SELF_SUBJECT_REVIEW:
            return {**head, "status": {"userInfo": {"username": user.name, "groups": list(user.groups)}}}
        if kind == kinds.SELF_SUBJECT_RULES_REVIEW:
            found = self.access.rules(user, spec.get("namespace", ""))
            return {**head, "status": {"resourceRules": found, "nonResourceRules": [], "incomplete": False}}
        asked = spec.get("resourceAttributes") or {}
        names = ("verb", "group", "resource", "subresource", "namespace", "name")
        what = rbac.Attributes(*(str(asked.get(name) or "") for name in names))
        return {**head, "spec": spec, "status": {"allowed": self.access.allows(user, what)}}

    def _token(self, namespace: str, name: str, body: Any) -> dict[str, Any]:
        seconds = ((body or {}).get("spec") or {}).get("expirationSeconds") or 3600
        if seconds < 600:
            raise Refusal(
                422, "Invalid", "spec.expirationSeconds: may not specify a duration less than 10 minutes"
            )
        token, until = self.access.token_for(namespace, name, seconds)
        ends = dt.datetime.fromtimestamp(until, dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        return {
            "kind": "TokenRequest",
            "apiVersion": "authentication.k8s.io/v1",
            "metadata": {"name": name, "namespace": namespace},
            "spec": {"expirationSeconds": seconds},
            "status": {"token": token, "expirationTimestamp": ends},
        }

    def _log(self, request: web.Request, namespace: str, pod: str) -> web.Response:
        spec = self.store.get(kinds.POD, namespace, pod).obj.get("spec") or {}
        names = [each["name"] for each in [*spec.get("initContainers", ()), *spec.get("containers", ())]]
        container = request.query.get("container") or (names[0] if len(names) == 1 else "")
        if container not in names:
            raise Refusal(400, "BadRequest", f"container {container} is not valid for pod {pod}")
        previous = request.query.get("previous") == "true"
        text = self.logs.get((namespace, pod, container, previous))
        if text is None:
            state = "previous terminated" if previous else "waiting to start"
            raise Refusal(400, "BadRequest", f'container "{container}" in pod "{pod}" is {state}')
        if tail := request.query.get("tailLines"):
            text = "".join(text.splitlines(keepends=True)[-int(tail) :])
        return web.Response(text=text)


def _identity(request: web.Request) -> tuple[str, str]:
    """The Authorization header, and the name in a client's certificate."""
    header = request.headers.get("Authorization", "")
    certificate = request.get_extra_info("peercert") or {}
    names = dict(pair for part in certificate.get("subject", ()) for pair in part)
    return header, names.get("commonName", "")


def _creating(what: rbac.Attributes) -> rbac.Attributes:
    return rbac.Attributes("create", what.group, what.resource, "", what.namespace, what.name)


def _seen(change: Change, kind: Kind, namespace: str, matches: selectors.Matcher) -> bytes | None:
    if change.key[0] != kind or (namespace and change.key[1] != namespace):
        return None
    was = change.before is not None and matches(change.before)
    if change.after is not None and matches(change.after):
        return _event("MODIFIED" if was else "ADDED", change.after)
    if not was or change.before is None:
        return None
    meta = {**change.before["metadata"], "resourceVersion": str(change.version)}
    return _event("DELETED", {**change.before, "metadata": meta})


async def _first(*events: asyncio.Event, timeout: float) -> bool:
    tasks = [asyncio.ensure_future(event.wait()) for event in events]
    try:
        done, _ = await asyncio.wait(tasks, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
    return bool(done)


def _bookmark(kind: Kind, version: int) -> bytes:
    meta = {"resourceVersion": str(version), "creationTimestamp": None}
    return _event("BOOKMARK", {"kind": kind.kind, "apiVersion": kind.api_version, "metadata": meta})


def _event(happened: str, obj: dict[str, Any]) -> bytes:
    return msgspec.json.encode({"type": happened, "object": obj}) + b"\n"


async def _body(request: web.Request) -> Any:
    content = await request.read()
    if not content:
        return None
    try:
        return msgspec.json.decode(content)
    except msgspec.DecodeError:
        pass
    try:
        return yaml.safe_load(content)
    except yaml.YAMLError:
        raise Refusal(400, "BadRequest", "the body is neither JSON nor YAML") from None


def _json(body: Any, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    return web.Response(
        body=msgspec.json.encode(body), status=status, content_type="application/json", headers=headers
    )
