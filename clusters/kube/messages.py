"""What passes between Berth and a Kubernetes API: requests in RBAC's words, lists, events, versions."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any, cast

import msgspec

from clusters.kube.errors import Fault, Unreachable, error_of
from clusters.kube.kinds import Kind
from clusters.kube.transport import Stream

Object = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Request:
    """One request in RBAC's words. ``implied`` ones are no request: they are permissions that another one used."""

    verb: str
    group: str
    resource: str
    subresource: str
    namespace: str
    name: str
    implied: bool = False

    @property
    def writes(self) -> bool:
        """Whether it is a request that may change the cluster."""
        return (
            not self.implied
            and self.verb in ("create", "update", "patch", "delete")
            and not self.resource.startswith("selfsubject")
        )


@dataclasses.dataclass(frozen=True)
class Listing:
    """Objects as they were at one ``resource_version``."""

    items: list[Object]
    resource_version: str


@dataclasses.dataclass(frozen=True)
class Event:
    """One line of a watch: ADDED, MODIFIED, DELETED or BOOKMARK (which carries a version only)."""

    type: str
    object: Object


@dataclasses.dataclass(frozen=True, order=True)
class Version:
    """A server's version; ``text`` is as it says it."""

    major: int
    minor: int
    text: str = dataclasses.field(compare=False, default="")


class Watch:
    """Events as they come. One thread reads; any thread may break it off."""

    def __init__(self, begin: Callable[[], Stream], server: str) -> None:
        self._begin, self._server = begin, server
        self._lock = threading.Lock()
        self._stream: Stream | None = None
        self._over = False

    def open(self) -> None:
        """Begin it, where it is not begun; reading does so too.

        Raises:
            Gone: the version is too old; list again.
            KubeError: it could not be begun.
        """
        if self._stream is None and not self._over:
            stream = self._begin()
            with self._lock:
                self._stream = stream

    def __iter__(self) -> Iterator[Event]:
        try:
            self.open()
            stream = self._stream
            if stream is None or self._over:
                return
            for line in stream:
                event = decode(line, self._server)
                happened, obj = event.get("type"), event.get("object") or {}
                if happened == "ERROR":
                    raise error_of(0, obj)
                yield Event(str(happened), obj)
        except Unreachable:
            if not self._over:
                raise
        finally:
            self._end()

    def _end(self) -> None:
        self._over = True
        with self._lock:
            stream, self._stream = self._stream, None
        if stream is not None:
            stream.close()

    def break_off(self) -> None:
        """End it now: its reader gets no further event and no error."""
        self._over = True
        with self._lock:
            if self._stream is not None:
                self._stream.break_off()


def decode(content: bytes, server: str) -> Object:
    """Read an object from an answer.

    Raises:
        Unreachable: it is none.
    """
    try:
        value = msgspec.json.decode(content)
    except msgspec.DecodeError as error:
        raise Unreachable(Fault.NOT_KUBERNETES, f"{server} answered something that is no JSON.") from error
    if not isinstance(value, dict):
        raise Unreachable(Fault.NOT_KUBERNETES, f"{server} answered something that is no Kubernetes object.")
    return cast(Object, value)


def place(kind: Kind, obj: Mapping[str, Any]) -> dict[str, Any]:
    """Give the name and the namespace of an object."""
    meta = obj.get("metadata") or {}
    return {"name": meta["name"], "namespace": meta.get("namespace") if kind.namespaced else None}


def selectors(labels: str, fields: str) -> dict[str, str]:
    """Give selectors as parameters of a request."""
    return {key: value for key, value in (("labelSelector", labels), ("fieldSelector", fields)) if value}


def review(kind: Kind, **spec: Any) -> Object:
    """Make the question of a review."""
    return {"apiVersion": kind.api_version, "kind": kind.kind, **({"spec": spec} if spec else {})}
