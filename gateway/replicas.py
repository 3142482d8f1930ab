"""What this gateway has seen of replicas: what is in progress there, which fail, which are ejected or still cold."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Mapping
from typing import Final

from gateway.routing import outliers
from gateway.routing.breaker import Breaker
from gateway.routing.outliers import Window

_log = logging.getLogger(__name__)
_JUDGE_S: Final = 2.0
_WARM_S: Final = 10.0
_COLDEST: Final = 0.1
_RELAPSE_S: Final = 60.0


class Visit:
    """One request at one replica, from its place there until it is over."""

    __slots__ = ("open", "probe", "replica_id", "tokens")

    def __init__(self, replica_id: str, tokens: int, *, probe: bool) -> None:
        self.replica_id = replica_id
        self.tokens = tokens
        self.probe = probe
        self.open = True


class _Health:
    """How one replica did. ``warm_since`` is when it began to be given more and more, None if it has all.

    ``back_at`` is when its last ejection ended, and ``ejections`` how many came shortly after each other.
    """

    __slots__ = ("back_at", "breaker", "ejected_until", "ejections", "warm_since", "window")

    def __init__(self, now: float) -> None:
        self.breaker = Breaker()
        self.window = Window(now)
        self.ejected_until: float | None = None
        self.ejections = 0
        self.back_at: float | None = None
        self.warm_since: float | None = None


class ReplicaBook:
    """Everything by replica id. Belongs to one thread; ``clock`` gives seconds that never go back.

    ``outstanding`` counts requests in progress, ``tokens`` what they may take. Both outlive the replica's place in
    the snapshot, until its last request is over. ``opened`` and ``ejected`` count what happened since the start.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.outstanding: dict[str, int] = {}
        self.tokens: dict[str, int] = {}
        self.opened = 0
        self.ejected = 0
        self._known: set[str] | None = None
        self._health: dict[str, _Health] = {}
        self._judged: dict[str, float] = {}

    def begin(self, replica_id: str, tokens: int) -> Visit:
        """Count a request of ``tokens`` that goes to the replica; end the visit, however it goes."""
        self.outstanding[replica_id] = self.outstanding.get(replica_id, 0) + 1
        self.tokens[replica_id] = self.tokens.get(replica_id, 0) + tokens
        health = self._health.get(replica_id)
        return Visit(replica_id, tokens, probe=health is not None and health.breaker.begin())

    def end(self, visit: Visit) -> None:
        """Count a request that is over. May be repeated."""
        if not visit.open:
            return
        visit.open = False
        replica_id = visit.replica_id
        left = self.outstanding[replica_id] - 1
        if left:
            self.outstanding[replica_id] = left
            self.tokens[replica_id] -= visit.tokens
        else:
            del self.outstanding[replica_id]
            del self.tokens[replica_id]
        if visit.probe and (health := self._health.get(replica_id)) is not None:
            health.breaker.end(probe=True)

    def answered(self, visit: Visit, *, first_token_s: float) -> None:
        """Note that the first piece of an answer came, ``first_token_s`` after the engine was asked."""
        now = self.clock()
        health = self._of(visit.replica_id, now)
        if health is None:
            return
        health.window.answered(now, first_token_s)
        if health.breaker.answered(probe=visit.probe):
            visit.probe = False
            health.warm_since, health.window = now, Window(now)
            _log.info("replica %s answers again", visit.replica_id)

    def failed(self, visit: Visit) -> None:
        """Note that the replica failed."""
        now = self.clock()
        health = self._of(visit.replica_id, now)
        if health is None:
            return
        health.window.failed(now)
        if health.breaker.failed(now, probe=visit.probe):
            self.opened += 1
            _log.warning("replica %s failed again and again; it is left alone for a while", visit.replica_id)
        visit.probe = False

    def usable(self, replica_id: str) -> bool:
        """Say whether the replica may be given a request: its breaker lets one pass, and it is not ejected."""
        health = self._health.get(replica_id)
        if health is None or (health.breaker.closed and health.ejected_until is None):
            return True
        now = self.clock()
        if health.ejected_until is not None:
            if now < health.ejected_until:
                return False
            health.ejected_until, health.back_at = None, now
            health.warm_since, health.window = now, Window(now)
        return health.breaker.allows(now)

    def passable(self, replica_id: str) -> bool:
        """Say whether the replica may be given a request where no other is left, ejected or not."""
        health = self._health.get(replica_id)
        return health is None or health.breaker.allows(self.clock(), last=True)

    def warmth(self, replica_ids: Collection[str]) -> Mapping[str, float]:
        """Give the share, above 0 and below 1, of those among ``replica_ids`` that are not to have all yet."""
        found: dict[str, float] = {}
        for replica_id in replica_ids:
            health = self._health.get(replica_id)
            if health is None or health.warm_since is None:
                continue
            share = (self.clock() - health.warm_since) / _WARM_S
            if share >= 1.0:
                health.warm_since = None
            else:
                found[replica_id] = max(_COLDEST, share)
        return found

    def judge(self, endpoint_id: str, replica_ids: Collection[str]) -> None:
        """Eject the outliers among ``replica_ids``, the peers of one endpoint; looks every few seconds only.

        Never more than half of them are out, those with an open breaker included, so that one always stays.
        """
        now = self.clock()
        if now < self._judged.get(endpoint_id, 0.0):
            return
        self._judged[endpoint_id] = now + _JUDGE_S
        within = [replica_id for replica_id in replica_ids if self.usable(replica_id)]
        most = len(replica_ids) // 2 - (len(replica_ids) - len(within))
        if most <= 0:
            return
        health = {replica_id: found for replica_id in within if (found := self._health.get(replica_id))}
        seen = {replica_id: each.window.seen(now) for replica_id, each in health.items()}
        for replica_id in outliers.outliers(seen, most=most):
            each = health[replica_id]
            relapsed = each.back_at is not None and now - each.back_at < _RELAPSE_S
            each.ejections = each.ejections + 1 if relapsed else 1
            pause_s = min(outliers.OUT_S * each.ejections, outliers.MOST_OUT_S)
            each.ejected_until = now + pause_s
            self.ejected += 1
            _log.warning(
                "replica %s does worse than its peers (%s); it is out for %.0f s",
                replica_id, seen[replica_id], pause_s,
            )  # fmt: skip

    def keep(self, replica_ids: Collection[str]) -> None:
        """Take note of the replicas that there are: new ones begin cold, unless all are new; others are forgotten."""
        now = self.clock()
        if self._known is not None:
            for replica_id in set(replica_ids) - self._known:
                self._health[replica_id] = health = _Health(now)
                health.warm_since = now
        self._known = set(replica_ids)
        for replica_id in self._health.keys() - self._known:
            del self._health[replica_id]
        self._judged.clear()

    def _of(self, replica_id: str, now: float) -> _Health | None:
        """Give the health of a replica, None if it is gone from the snapshot."""
        health = self._health.get(replica_id)
        if health is None and (self._known is None or replica_id in self._known):
            health = self._health[replica_id] = _Health(now)
        return health
