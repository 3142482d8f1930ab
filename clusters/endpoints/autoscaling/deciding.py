"""The decision: from how an endpoint stands at its gateways to how many replicas it should have.

Plain Python. Up at once and in proportion, down one replica after a quiet while, to zero after an idle one. What no
gateway tells of is never scaled down.

- Too much to do: requests in progress (those that wait are among them) above ``high_water`` of what the replicas
  work on at once.
- Waiting: the oldest request waits longer than half of what its class allows, or than its target for a first token.
- SLO burn: of a p95 target 5 % of requests may miss it. Twice that share is burning, once more than one request per
  replica is in progress: else another replica would not help. How loaded the replicas were then is remembered for a
  while, and nothing is given back that would load the rest like that again.
- Memory: engines say that their cache is full.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
import math
from typing import Final

#: How often an endpoint with requests is looked at.
LOOK_S: Final = 10.0
#: Share of requests that a p95 target lets miss it, and how much more than that is burning.
ALLOWED_SHARE: Final = 0.05
BURN: Final = 2.0
#: Fewer requests with a first token say nothing of a share.
LEAST_TIMED: Final = 20
#: What ended before a change still counts in signals for so long.
WINDOW_S: Final = 60.0
#: So long the load is remembered under which targets were missed, and so far below it the rest must stay.
REMEMBERED: Final = dt.timedelta(hours=1)
BELOW_BURN: Final = 0.8


class Why(enum.StrEnum):
    """What a decision rests on."""

    SETTLED = "settled"
    UNHEARD = "no-signals"
    STARTING = "starting"
    FLOOR = "floor"
    CEILING = "ceiling"
    WANTED = "wanted"
    LOAD = "load"
    WAITING = "waiting"
    SLO = "slo"
    MEMORY = "memory"
    QUIET = "quiet"
    IDLE = "idle"
    CLUSTER = "cluster"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Signals:
    """How an endpoint stands over all gateways: now, and in the last minute.

    ``heard`` says that every gateway that may have its requests told lately; else the numbers are too low.
    ``in_flight`` counts those that wait too. ``slow`` of the ``timed`` requests missed a target. ``wanted``: one asks
    for it while it has no replica.
    """

    heard: bool = True
    in_flight: int = 0
    oldest_wait_s: float = 0.0
    requests: int = 0
    timed: int = 0
    slow: int = 0
    shed: int = 0
    kv_pressure: int = 0
    wanted: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class Policy:
    """The bounds and what the class says. ``at_once`` requests are what one replica works on.

    ``idle_s`` is after how long without requests the last replicas go, None for never; it needs a floor of 0.
    """

    floor: int
    ceiling: int
    at_once: int
    queue_s: float
    ttft_ms: float | None = None
    high_water: float = 0.8
    low_water: float = 0.5
    quiet_s: float = 300.0
    idle_s: float | None = None

    @property
    def longest_wait_s(self) -> float:
        """How long a request may wait before that means too few replicas."""
        half = self.queue_s / 2
        return half if self.ttft_ms is None else min(half, self.ttft_ms / 1000)

    @property
    def least_awake(self) -> int:
        """How many replicas run while any do."""
        return max(1, self.floor)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Memory:
    """What is remembered between looks.

    ``quiet_since`` and ``idle_since`` are when each began, None where it is not so. ``burnt`` is how many requests
    per replica were in progress when targets were missed, at ``burnt_at``.
    """

    quiet_since: dt.datetime | None = None
    idle_since: dt.datetime | None = None
    burnt: float | None = None
    burnt_at: dt.datetime | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Standing:
    """What is wanted now, how many of those answer, and since when so many are wanted."""

    replicas: int
    ready: int
    since: dt.datetime


@dataclasses.dataclass(frozen=True, kw_only=True)
class Decision:
    """``replicas`` to have, why, in words with the numbers, and in how many seconds to look again (None: once told)."""

    replicas: int
    why: Why
    reason: str
    look_again_s: float | None
    memory: Memory


def decide(
    signals: Signals, now_has: Standing, policy: Policy, memory: Memory, *, now: dt.datetime
) -> Decision:
    """Say how many replicas there should be."""
    has = now_has.replicas
    memory = _remembered(memory, signals, now_has, policy, now)
    if has < policy.floor:
        return _to(policy.floor, Why.FLOOR, f"The floor is {policy.floor} now.", memory)
    if has == 0:
        return _asleep(signals, policy, memory)
    up = _more(signals, now_has, policy, now)
    if up is not None and up[0] > has and has < policy.ceiling:
        wish, why, reason = up
        return _to(min(wish, policy.ceiling), why, reason, memory)
    if not signals.heard:
        text = "Gateways that may have its requests have not been heard of: nothing is given back meanwhile."
        return Decision(replicas=has, why=Why.UNHEARD, reason=text, look_again_s=LOOK_S, memory=memory)
    if has > policy.ceiling:
        return _to(policy.ceiling, Why.CEILING, f"The ceiling is {policy.ceiling} now.", memory)
    if up is not None and up[0] > has:
        text = f"{up[2]} The ceiling of {policy.ceiling} is reached."
        return Decision(replicas=has, why=Why.CEILING, reason=text, look_again_s=LOOK_S, memory=memory)
    return _fewer(signals, now_has, policy, memory, now)


def _asleep(signals: Signals, policy: Policy, memory: Memory) -> Decision:
    if signals.wanted or signals.in_flight:
        wish = max(policy.least_awake, _for_load(signals, policy))
        return _to(min(wish, max(1, policy.ceiling)), Why.WANTED, "A request asks for it.", memory)
    text = "No request asks for it."
    return Decision(replicas=0, why=Why.SETTLED, reason=text, look_again_s=None, memory=memory)


def _more(
    signals: Signals, now_has: Standing, policy: Policy, now: dt.datetime
) -> tuple[int, Why, str] | None:
    has = now_has.replicas
    loaded, places = _for_load(signals, policy), has * policy.at_once
    if signals.in_flight > policy.high_water * places:
        text = (
            f"{signals.in_flight} requests are in progress; {_replicas(has)} work on {places} at once and should be "
            f"given no more than {policy.high_water:.0%} of that."
        )
        return loaded, Why.LOAD, text
    if now_has.ready < has:
        return None  # what is on its way is waited for
    if signals.oldest_wait_s > policy.longest_wait_s:
        # At most twice as many: what waits while little is in progress is told of by more than its age.
        over = min(2.0, signals.oldest_wait_s / policy.longest_wait_s if policy.longest_wait_s else 2.0)
        text = f"The oldest request waits {signals.oldest_wait_s:.1f} s; {policy.longest_wait_s:.1f} s are right."
        return has + max(1, math.floor(has * (over - 1))), Why.WAITING, text
    if (now - now_has.since).total_seconds() < WINDOW_S:
        return None  # the last minute's numbers are of before
    if signals.shed:
        return has + _step(has), Why.WAITING, f"{signals.shed} requests found no room in the last minute."
    if _burns(signals) and signals.in_flight > has:
        text = (
            f"{signals.slow} of the last minute's {signals.timed} requests missed a target "
            f"({signals.slow / signals.timed:.0%}; {ALLOWED_SHARE:.0%} may)."
        )
        return has + _step(has), Why.SLO, text
    if signals.kv_pressure and signals.in_flight > has:
        text = f"Engines said {signals.kv_pressure} times in the last minute that their cache is full."
        return has + _step(has), Why.MEMORY, text
    return None


def _fewer(signals: Signals, now_has: Standing, policy: Policy, memory: Memory, now: dt.datetime) -> Decision:
    has = now_has.replicas
    if memory.idle_since is not None and policy.idle_s is not None and policy.floor == 0:
        idle_s = (now - memory.idle_since).total_seconds()
        if idle_s >= policy.idle_s:
            text = f"No request for {_minutes(idle_s)}."
            return _to(0, Why.IDLE, text, Memory(burnt=memory.burnt, burnt_at=memory.burnt_at))
    if now_has.ready < has:
        text = f"{now_has.ready} of {has} replicas are ready."
        return Decision(replicas=has, why=Why.STARTING, reason=text, look_again_s=LOOK_S, memory=memory)
    if memory.quiet_since is not None and has > policy.least_awake:
        quiet_s = (now - memory.quiet_since).total_seconds()
        if quiet_s >= policy.quiet_s:
            text = (
                f"For {_minutes(quiet_s)} {_replicas(has - 1)} would have been enough: {signals.in_flight} requests "
                f"are in progress, and they work on {(has - 1) * policy.at_once} at once."
            )
            return _to(has - 1, Why.QUIET, text, dataclasses.replace(memory, quiet_since=now))
    text = f"{signals.in_flight} requests are in progress at {_replicas(has)}."
    return Decision(
        replicas=has,
        why=Why.SETTLED,
        reason=text,
        look_again_s=_next_look(signals, has, policy, memory, now),
        memory=memory,
    )


def _remembered(
    memory: Memory, signals: Signals, now_has: Standing, policy: Policy, now: dt.datetime
) -> Memory:
    has = now_has.replicas
    burnt, burnt_at = memory.burnt, memory.burnt_at
    if burnt_at is not None and now - burnt_at > REMEMBERED:
        burnt = burnt_at = None
    # As long as numbers of before a change are among them, nobody knows which load they were of.
    settled = (now - now_has.since).total_seconds() >= WINDOW_S
    if settled and has and (_burns(signals) or signals.kv_pressure) and signals.in_flight > has:
        load = signals.in_flight / has
        burnt, burnt_at = (load if burnt is None else min(burnt, load)), now
    if not signals.heard:
        return Memory(burnt=burnt, burnt_at=burnt_at)
    idle = has > 0 and not (signals.in_flight or signals.requests or signals.shed)
    quiet = has > 1 and not (signals.oldest_wait_s or signals.shed or signals.kv_pressure or _burns(signals))
    if quiet:
        rest = signals.in_flight / (has - 1)
        bound = policy.low_water * policy.at_once
        quiet = rest <= (bound if burnt is None else min(bound, BELOW_BURN * burnt))
    return Memory(
        quiet_since=(memory.quiet_since or now) if quiet else None,
        idle_since=(memory.idle_since or now) if idle else None,
        burnt=burnt,
        burnt_at=burnt_at,
    )


def _next_look(signals: Signals, has: int, policy: Policy, memory: Memory, now: dt.datetime) -> float | None:
    """Look when the quiet or the idle while ends, at the latest; never by itself where nothing can end."""
    waits = []
    if memory.quiet_since is not None and has > policy.least_awake:
        waits.append(policy.quiet_s - (now - memory.quiet_since).total_seconds())
    if memory.idle_since is not None and policy.idle_s is not None and policy.floor == 0:
        waits.append(policy.idle_s - (now - memory.idle_since).total_seconds())
    if signals.in_flight or signals.requests or has > policy.least_awake:
        waits.append(LOOK_S)
    return max(1.0, min(waits)) if waits else None


def _for_load(signals: Signals, policy: Policy) -> int:
    """How many replicas keep what is in progress below the high-water mark."""
    return math.ceil(signals.in_flight / (policy.high_water * policy.at_once))


def _burns(signals: Signals) -> bool:
    return signals.timed >= LEAST_TIMED and signals.slow / signals.timed >= BURN * ALLOWED_SHARE


def _step(has: int) -> int:
    return max(1, has // 4)


def _to(replicas: int, why: Why, reason: str, memory: Memory) -> Decision:
    return Decision(replicas=replicas, why=why, reason=reason, look_again_s=LOOK_S, memory=memory)


def _replicas(count: int) -> str:
    return "1 replica" if count == 1 else f"{count} replicas"


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.0f} minutes" if seconds >= 120 else f"{seconds:.0f} s"
