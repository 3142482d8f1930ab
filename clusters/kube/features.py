"""Which optional kinds a cluster serves, asked now and then."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from clusters.kube import kinds
from clusters.kube.errors import NotFound
from clusters.kube.kinds import Kind

_FRESH_S = 300.0


class Features:
    """Remembers what was found for five minutes. ``ask`` gives the document at a path of the API."""

    def __init__(self, ask: Callable[[str], dict[str, Any]]) -> None:
        self._ask = ask
        self._found: frozenset[Kind] = frozenset()
        self._until = 0.0
        self._lock = threading.Lock()

    def get(self, *, fresh: bool) -> frozenset[Kind]:
        """Give the kinds of :data:`clusters.kube.kinds.OPTIONAL` that are served.

        Raises:
            KubeError: it was time to ask, and there was no good answer.
        """
        with self._lock:
            if not fresh and time.monotonic() < self._until:
                return self._found
        found = self._discover()
        with self._lock:
            self._found, self._until = found, time.monotonic() + _FRESH_S
        return found

    def _discover(self) -> frozenset[Kind]:
        groups = self._ask("/apis").get("groups") or ()
        there = {version.get("groupVersion") for group in groups for version in group.get("versions") or ()}
        found: set[Kind] = set()
        for api_version in {kind.api_version for kind in kinds.OPTIONAL} & there:
            try:
                resources = self._ask(f"/apis/{api_version}").get("resources") or ()
            except NotFound:  # its definition was removed between the two questions
                continue
            names = {resource.get("name") for resource in resources}
            found |= {
                kind for kind in kinds.OPTIONAL if kind.api_version == api_version and kind.plural in names
            }
        return frozenset(found)
