"""A Kubernetes API in a dozen calls: dicts in, dicts out, every wait bounded, every failure a KubeError."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Any

import msgspec

from clusters.kube import kinds
from clusters.kube.credentials import Credentials
from clusters.kube.errors import Fault, Gone, NotFound, TooManyRequests, Unreachable
from clusters.kube.features import Features
from clusters.kube.kinds import Kind, kind_of
from clusters.kube.messages import (
    Event,
    Listing,
    Object,
    Request,
    Version,
    Watch,
    decode,
    place,
    review,
    selectors,
)
from clusters.kube.transport import Answer, Stream, Transport

__all__ = ["Event", "KubeClient", "Listing", "Object", "Request", "Version", "Watch"]

_PAGE = 500
_TRIES = 3  # of a request that is answered 429
_BUSY_S = 10.0  # waited for 429s in one call, at most
_LOG_BYTES = 1024 * 1024


class KubeClient:
    """One cluster as one user. Thread-safe; holds no thread of its own. Close it when done.

    Times are seconds: to connect, of silence in an answer, and for a whole answer. ``on_request`` is told
    of every request before it is sent, and of permissions used beyond (an apply that created its object).

    Every call raises :class:`clusters.kube.errors.Unreachable` where no usable answer comes and another
    ``KubeError`` where the server refuses.
    """

    def __init__(
        self,
        credentials: Credentials,
        *,
        field_manager: str = "berth",
        connect_timeout_s: float = 3.0,
        read_timeout_s: float = 10.0,
        whole_timeout_s: float = 60.0,
    ) -> None:
        self.field_manager = field_manager
        self.on_request: Callable[[Request], None] | None = None
        self._connect_s, self._read_s, self._whole_s = connect_timeout_s, read_timeout_s, whole_timeout_s
        self._transport = self._connect(credentials)
        self._features = Features(lambda path: self._json("GET", path))

    def rotate(self, credentials: Credentials) -> None:
        """Use other credentials from the next request on; open watches break and may be begun anew."""
        old, self._transport = self._transport, self._connect(credentials)
        old.retire()

    def close(self) -> None:
        """Close every connection; a watch that another thread reads ends with Unreachable."""
        self._transport.close()

    def get(self, kind: Kind, name: str, namespace: str | None = None) -> Object | None:
        """Give an object, None where there is none."""
        try:
            return self._call("get", kind, "GET", namespace=namespace, name=name)
        except NotFound:
            return None

    def list(
        self, kind: Kind, namespace: str | None = None, *, labels: str = "", fields: str = ""
    ) -> Listing:
        """Give every object that the selectors match, in one namespace or in all.

        Items carry no apiVersion and kind of their own in Kubernetes; here they do.

        Raises:
            Gone: twice, the server forgot the list between two of its pages.
        """
        try:
            return self._list(kind, namespace, labels, fields)
        except Gone:
            return self._list(kind, namespace, labels, fields)

    def _list(self, kind: Kind, namespace: str | None, labels: str, fields: str) -> Listing:
        query = {"limit": str(_PAGE), **selectors(labels, fields)}
        items: list[Object] = []
        while True:
            page = self._call("list", kind, "GET", namespace=namespace, query=query)
            items.extend(
                {**item, "apiVersion": kind.api_version, "kind": kind.kind}
                for item in page.get("items") or ()
            )
            meta = page.get("metadata") or {}
            if not meta.get("continue"):
                return Listing(items, str(meta.get("resourceVersion", "")))
            query["continue"] = meta["continue"]

    def apply(self, obj: Mapping[str, Any], *, force: bool = True, dry_run: bool = False) -> Object:
        """Server-side apply: own exactly the fields that ``obj`` names; give the object as it is then.

        Raises:
            Conflict: without ``force``, another manager owns one of the fields.
            Invalid: the server refuses the object.
        """
        kind = kind_of(obj)
        query = {"fieldManager": self.field_manager, "fieldValidation": "Strict"}
        if force:
            query["force"] = "true"
        if dry_run:
            query["dryRun"] = "All"
        where = place(kind, obj)
        answer = self._raw(
            "patch",
            kind,
            "PATCH",
            **where,
            query=query,
            body=obj,
            content_type="application/apply-patch+yaml",
            repeatable=True,
        )
        if answer.status == HTTPStatus.CREATED:  # for which the server asked for the verb create besides
            self._announce("create", kind, where["name"], where["namespace"], "", implied=True)
        return decode(answer.content, self._transport.server)

    def patch(
        self,
        kind: Kind,
        name: str,
        namespace: str | None,
        operations: Sequence[Mapping[str, Any]] | Mapping[str, Any],
        *,
        subresource: str = "",
        dry_run: bool = False,
    ) -> Object:
        """Change an object: a list of operations is a JSON patch, a mapping is merged into it.

        Raises:
            NotFound: there is no such object.
            Conflict: the mapping names a resourceVersion that is not the object's own.
            Invalid: a ``test`` operation failed, or the server refuses the result.
        """
        merge = isinstance(operations, Mapping)
        query = {"fieldManager": self.field_manager}
        if dry_run:
            query["dryRun"] = "All"
        return self._call(
            "patch",
            kind,
            "PATCH",
            namespace=namespace,
            name=name,
            subresource=subresource,
            query=query,
            body=operations,
            content_type="application/merge-patch+json" if merge else "application/json-patch+json",
        )

    def create(
        self,
        kind: Kind,
        obj: Mapping[str, Any],
        namespace: str | None = None,
        *,
        name: str = "",
        subresource: str = "",
    ) -> Object:
        """Create an object, or post to a subresource of the object ``name``.

        Raises:
            AlreadyExists: an object of that name is there.
            Invalid: the server refuses the object.
        """
        return self._call(
            "create",
            kind,
            "POST",
            namespace=namespace or (obj.get("metadata") or {}).get("namespace"),
            name=name,
            subresource=subresource,
            query={"fieldManager": self.field_manager}
            if not subresource and kind.group not in _REVIEWS
            else {},
            body=obj,
        )

    def delete(
        self,
        kind: Kind,
        name: str,
        namespace: str | None = None,
        *,
        propagation: str = "Background",
        grace_s: int | None = None,
        uid: str | None = None,
    ) -> bool:
        """Ask for an object's end; False where there was none. It may take its time to go.

        Raises:
            Conflict: ``uid`` is given, and the object of that name is another one.
        """
        options: Object = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": propagation}
        if grace_s is not None:
            options["gracePeriodSeconds"] = grace_s
        if uid is not None:
            options["preconditions"] = {"uid": uid}
        try:
            self._call("delete", kind, "DELETE", namespace=namespace, name=name, body=options)
        except NotFound:
            return False
        return True

    def log(
        self,
        namespace: str,
        pod: str,
        container: str | None = None,
        *,
        lines: int = 100,
        previous: bool = False,
    ) -> str:
        """Give the last lines of a container's log, of the run before with ``previous``.

        Raises:
            NotFound: there is no such pod.
            Invalid: the container has no log yet, or there is no such container.
        """
        query = {"tailLines": str(lines), "limitBytes": str(_LOG_BYTES)}
        if container:
            query["container"] = container
        if previous:
            query["previous"] = "true"
        answer = self._raw(
            "get", kinds.POD, "GET", namespace=namespace, name=pod, subresource="log", query=query
        )
        return answer.content.decode(errors="replace")

    def watch(
        self,
        kind: Kind,
        namespace: str | None = None,
        *,
        labels: str = "",
        fields: str = "",
        resource_version: str,
        timeout_s: int = 270,
    ) -> Watch:
        """Give what happens after ``resource_version``, until the server ends it after ``timeout_s``.

        Bookmarks come too: they carry a newer version to begin from. A server that is silent for 20 s longer
        than ``timeout_s`` is taken for gone.

        Raises:
            Gone: the version is too old; list again.
            Unreachable: the watch could not be begun, or broke.
        """
        query = {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": resource_version,
            "timeoutSeconds": str(timeout_s),
            **selectors(labels, fields),
        }

        def begin() -> Stream:
            self._announce("watch", kind, "", namespace, "")
            return self._transport.stream(kind.path(namespace), query=query, silence_s=timeout_s + 20.0)

        return Watch(begin, self._transport.server)

    def whoami(self) -> str:
        """Give the user name that the cluster knows these credentials by."""
        answer = self.create(kinds.SELF_SUBJECT_REVIEW, review(kinds.SELF_SUBJECT_REVIEW))
        return str(((answer.get("status") or {}).get("userInfo") or {}).get("username", ""))

    def can(
        self,
        verb: str,
        kind: Kind,
        namespace: str | None = None,
        subresource: str = "",
        *,
        name: str = "",
    ) -> bool:
        """Ask whether these credentials may do something (in all namespaces where none is named)."""
        attributes = {"verb": verb, "group": kind.group, "resource": kind.plural, "version": kind.version}
        attributes |= {"namespace": namespace or "", "subresource": subresource, "name": name}
        question = review(kinds.SELF_SUBJECT_ACCESS_REVIEW, resourceAttributes=attributes)
        answer = self.create(kinds.SELF_SUBJECT_ACCESS_REVIEW, question)
        return bool((answer.get("status") or {}).get("allowed"))

    def version(self) -> Version:
        """Give the server's version."""
        try:
            answer = self._json("GET", "/version")
            major, minor = (int(re.sub(r"\D.*", "", str(answer[key]))) for key in ("major", "minor"))
        except (KeyError, ValueError, NotFound):
            raise Unreachable(
                Fault.NOT_KUBERNETES, f"{self._transport.server} answers, but is no Kubernetes API."
            ) from None
        return Version(major, minor, str(answer.get("gitVersion", "")))

    def serves(self, kind: Kind) -> bool:
        """Whether the cluster has a kind of :data:`clusters.kube.kinds.OPTIONAL`; others are taken for granted."""
        return kind not in kinds.OPTIONAL or kind in self.features()

    def features(self, *, fresh: bool = False) -> frozenset[Kind]:
        """Give the optional kinds that the cluster serves; kept for five minutes unless asked ``fresh``."""
        return self._features.get(fresh=fresh)

    def _connect(self, credentials: Credentials) -> Transport:
        return Transport(
            credentials,
            connect_timeout_s=self._connect_s,
            read_timeout_s=self._read_s,
            whole_s=self._whole_s,
            user_agent=f"{self.field_manager}/kube",
        )

    def _announce(
        self,
        verb: str,
        kind: Kind,
        name: str,
        namespace: str | None,
        subresource: str,
        *,
        implied: bool = False,
    ) -> None:
        if self.on_request is not None:
            # RBAC and admission read a Namespace's own requests as made in that namespace.
            seen = name if kind == kinds.NAMESPACE else (namespace or "") if kind.namespaced else ""
            self.on_request(Request(verb, kind.group, kind.plural, subresource, seen, name, implied))

    def _call(self, verb: str, kind: Kind, method: str, **how: Any) -> Object:
        return decode(self._raw(verb, kind, method, **how).content, self._transport.server)

    def _raw(
        self,
        verb: str,
        kind: Kind,
        method: str,
        *,
        namespace: str | None = None,
        name: str = "",
        subresource: str = "",
        query: Mapping[str, str] | None = None,
        body: Any = None,
        content_type: str = "application/json",
        repeatable: bool | None = None,
    ) -> Answer:
        path = kind.path(namespace, name, subresource)
        content = msgspec.json.encode(body) if body is not None else None
        waited = 0.0
        for attempt in range(1, _TRIES + 1):
            self._announce(verb, kind, name, namespace, subresource)
            try:
                return self._transport.request(
                    method,
                    path,
                    query=query or {},
                    body=content,
                    content_type=content_type,
                    repeatable=method == "GET" if repeatable is None else repeatable,
                )
            except TooManyRequests as error:
                waited += error.retry_after
                if attempt == _TRIES or waited > _BUSY_S:
                    raise
                time.sleep(error.retry_after)
        raise AssertionError("unreachable")

    def _json(self, method: str, path: str) -> Object:
        answer = self._transport.request(method, path, query={}, repeatable=True)
        return decode(answer.content, self._transport.server)


_REVIEWS = ("authentication.k8s.io", "authorization.k8s.io")
