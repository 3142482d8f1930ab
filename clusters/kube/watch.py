"""A picture of one kind of object that stays true: list, then watch, and list again when in doubt."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable

from clusters.kube.client import Event, KubeClient, Object, Watch
from clusters.kube.errors import Fault, Gone, KubeError, TooManyRequests, Unreachable
from clusters.kube.kinds import Kind

logger = logging.getLogger(__name__)

Key = tuple[str, str]  # namespace (empty for what has none), name
OnChange = Callable[[Kind, Object | None, Object | None], None]
Keep = Callable[[Object], Object]

_SHORTEST_S = 1.0  # a watch that ends sooner is begun again only after a pause
_RESUMED = {Fault.RESET, Fault.TIMEOUT, Fault.SLOW}


class Reflector:
    """Keeps a copy of what a cluster holds of one kind, in a thread of its own.

    ``on_change(kind, old, new)`` is called in that thread for every difference, ``old`` None for what is new and
    ``new`` None for what is gone; it must not block for long, and what it raises is logged. Changes may be
    seen late and several as one, never out of order. Objects are kept without metadata.managedFields, or as
    much of them as ``keep`` gives, with at least name, namespace and resourceVersion; they must not be changed.

    A watch lasts ``watch_s`` (+- 10 %); a connection that says nothing for 20 s longer is given up and the
    watch is resumed where it was. After failures it waits between the two of ``backoff_s``, doubling, with
    jitter.
    """

    def __init__(
        self,
        client: KubeClient,
        kind: Kind,
        namespace: str | None = None,
        *,
        labels: str = "",
        fields: str = "",
        on_change: OnChange | None = None,
        keep: Keep | None = None,
        watch_s: int = 240,
        backoff_s: tuple[float, float] = (0.5, 30.0),
    ) -> None:
        self.kind, self.namespace = kind, namespace
        self.failure = ""
        self._client, self._labels, self._fields = client, labels, fields
        self._on_change, self._watch_s, self._backoff_s = on_change, watch_s, backoff_s
        self._keep = keep or _lean
        self._objects: dict[Key, Object] = {}
        self._lock = threading.Lock()
        self._first = threading.Event()
        self._stopping = threading.Event()
        self._watch: Watch | None = None
        self._fresh_at = 0.0
        self._failures = 0
        name = f"watch-{kind.plural}" + (f"-{namespace}" if namespace else "")
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> Reflector:
        """Begin; gives itself."""
        self._thread.start()
        return self

    def stop(self, timeout_s: float = 5.0) -> bool:
        """End the thread; False where it is still in a request after ``timeout_s``."""
        self._stopping.set()
        with self._lock:
            watch = self._watch
        if watch is not None:
            watch.break_off()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(timeout_s)
        return not self._thread.is_alive()

    @property
    def store(self) -> dict[Key, Object]:
        """A copy of the picture, by (namespace, name)."""
        with self._lock:
            return dict(self._objects)

    def get(self, name: str, namespace: str = "") -> Object | None:
        """Give one object of the picture."""
        with self._lock:
            return self._objects.get((namespace, name))

    @property
    def synced(self) -> bool:
        """Whether the picture was whole at least once; ``failure`` and ``age_s`` tell how it is now."""
        return self._first.is_set()

    @property
    def age_s(self) -> float:
        """Seconds since the cluster last confirmed the picture, by a list, an event or a bookmark."""
        return time.monotonic() - self._fresh_at if self._fresh_at else float("inf")

    def wait(self, timeout_s: float) -> bool:
        """Wait for the first whole picture; False where it did not come in time."""
        return self._first.wait(timeout_s)

    def _run(self) -> None:
        version = ""
        while not self._stopping.is_set():
            try:
                if not version:
                    version = self._list()
                version = self._follow(version)
            except Gone as error:
                version = ""
                self._pause(error)
            except _Broke as broke:
                # Nothing is lost by going on from where it broke; everything else is answered by a new list.
                resumable = isinstance(broke.error, Unreachable) and broke.error.fault in _RESUMED
                version = broke.version if resumable else ""
                self._pause(broke.error)
            except KubeError as error:
                version = ""
                self._pause(error)
            except Exception:
                logger.exception("The watch of %s begins anew.", self.kind.plural)
                version = ""
                self._pause(KubeError(0, "Bug", "Berth could not read the cluster's answer."))

    def _list(self) -> str:
        listing = self._client.list(self.kind, self.namespace, labels=self._labels, fields=self._fields)
        there = {_key(item): self._keep(item) for item in listing.items}
        before = self.store
        with self._lock:
            self._objects = dict(there)
        self._fresh_at = time.monotonic()
        for key, old in before.items():
            if key not in there:
                self._tell(old, None)
        for key, new in there.items():
            known = before.get(key)
            if known is None or known["metadata"].get("resourceVersion") != new["metadata"].get(
                "resourceVersion"
            ):
                self._tell(known, new)
        self._first.set()
        return listing.resource_version

    def _follow(self, version: str) -> str:
        """Watch from a version until the server ends it; give the version to go on from."""
        seconds = max(1, round(self._watch_s * random.uniform(0.9, 1.1)))  # noqa: S311
        watch = self._client.watch(
            self.kind,
            self.namespace,
            labels=self._labels,
            fields=self._fields,
            resource_version=version,
            timeout_s=seconds,
        )
        with self._lock:
            self._watch = watch
        if self._stopping.is_set():
            return version
        began, quiet = time.monotonic(), True
        try:
            watch.open()
            self.failure = ""
            for event in watch:
                self._take(event)
                version = str(event.object["metadata"]["resourceVersion"])
                quiet = False
        except Gone:
            raise
        except KubeError as error:
            raise _Broke(error, version) from error
        finally:
            with self._lock:
                self._watch = None
        if quiet and time.monotonic() - began < _SHORTEST_S:
            self._stopping.wait(self._delay())
        else:
            self._confirmed()
        return version

    def _take(self, event: Event) -> None:
        if event.type == "BOOKMARK":
            self._confirmed()
            return
        key = _key(event.object)
        with self._lock:
            old = self._objects.get(key)
            new = None if event.type == "DELETED" else self._keep(event.object)
            if new is None:
                self._objects.pop(key, None)
            else:
                self._objects[key] = new
        self._confirmed()
        if old is not None or new is not None:
            self._tell(old, new)

    def _confirmed(self) -> None:
        self._fresh_at = time.monotonic()
        self._failures = 0

    def _tell(self, old: Object | None, new: Object | None) -> None:
        if self._on_change is None:
            return
        try:
            self._on_change(self.kind, old, new)
        except Exception:
            logger.exception("A change of %s was not taken up.", self.kind.plural)

    def _pause(self, error: KubeError) -> None:
        if not isinstance(error, Gone):
            self.failure = error.message
        delay = self._delay()
        if isinstance(error, TooManyRequests):
            delay = max(delay, error.retry_after)
        self._stopping.wait(delay)

    def _delay(self) -> float:
        shortest, longest = self._backoff_s
        delay = min(longest, shortest * 2 ** min(self._failures, 20))
        self._failures += 1
        return float(delay * random.uniform(0.5, 1.0))  # noqa: S311


class _Broke(Exception):
    """A watch broke after ``version``."""

    def __init__(self, error: KubeError, version: str) -> None:
        super().__init__(error.message)
        self.error = error
        self.version = version


def _key(obj: Object) -> Key:
    meta = obj["metadata"]
    return meta.get("namespace", ""), meta["name"]


def _lean(obj: Object) -> Object:
    meta = {key: value for key, value in obj["metadata"].items() if key != "managedFields"}
    return {**obj, "metadata": meta}
