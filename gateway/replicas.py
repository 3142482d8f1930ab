"""What this gateway has seen of replicas: requests in flight, and which ones failed lately."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from typing import Final

_FIRST_S: Final = 0.5
_MOST_S: Final = 15.0


class ReplicaBook:
    """Counts by replica id. Belongs to one thread; ``clock`` gives seconds that never go back."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.outstanding: dict[str, int] = {}
        self._failures: dict[str, tuple[int, float]] = {}

    def begin(self, replica_id: str) -> None:
        """Count a request that was sent to the replica."""
        self.outstanding[replica_id] = self.outstanding.get(replica_id, 0) + 1

    def end(self, replica_id: str) -> None:
        """Count a request that is over."""
        left = self.outstanding[replica_id] - 1
        if left:
            self.outstanding[replica_id] = left
        else:
            del self.outstanding[replica_id]

    def failed(self, replica_id: str) -> None:
        """Trip the replica: it is avoided for a while, longer after each failure in a row."""
        row = self._failures.get(replica_id, (0, 0.0))[0] + 1
        pause_s = min(_FIRST_S * 2 ** min(row - 1, 10), _MOST_S)
        self._failures[replica_id] = (row, self._clock() + pause_s)

    def answered(self, replica_id: str) -> None:
        """Forget the replica's failures."""
        if self._failures:
            self._failures.pop(replica_id, None)

    def tripped(self) -> Collection[str]:
        """Give the replicas to avoid now."""
        if not self._failures:
            return ()
        now = self._clock()
        return {replica_id for replica_id, (_, until) in self._failures.items() if until > now}

    def keep(self, replica_ids: Collection[str]) -> None:
        """Forget the failures of replicas that are not in ``replica_ids``: they are gone."""
        for replica_id in self._failures.keys() - replica_ids:
            del self._failures[replica_id]
