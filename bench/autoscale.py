"""What following the load saves and costs: a simulated day under Berth's own decision, and under fixed replicas.

The same trace runs against replicas that never change, at the floor and at the ceiling, and against what
``clusters.endpoints.autoscaling.deciding`` decides every ten seconds from the signals that a gateway would tell. Time
is simulated, the decision is the real one: nothing here measures an engine. A request waits for a place in order, is
refused after its class's queue time, and then takes as long as its answer at that load. A replica takes three minutes
to load, and its GPUs count from the decision on; one that goes finishes what it has.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import heapq
import math
import random
from collections import deque
from typing import Final

from clusters.endpoints.autoscaling.deciding import LOOK_S, Memory, Policy, Signals, Standing, decide

DAY_S: Final = 86_400
LOAD_S: Final = 180.0
TTFT_S: Final = 2.0  # the target of class standard
PREFILL_S: Final = 0.15
ITL_S: Final = 0.018
AT_ONCE: Final = 16
POLICY: Final = Policy(floor=2, ceiling=12, at_once=AT_ONCE, queue_s=5.0, ttft_ms=1000 * TTFT_S)
BEGIN: Final = dt.datetime(2026, 1, 5, tzinfo=dt.UTC)


@dataclasses.dataclass
class Replica:
    ready_at: float
    busy: int = 0
    going: bool = False


def rate(t: float) -> float:
    """Requests per second: quiet at night, busy by day, with a rush of ten minutes in every third hour."""
    by_day = max(0.0, math.sin(math.pi * (t / 3600 - 6) / 14)) if 6 <= t / 3600 <= 20 else 0.0
    rush = 1.8 if 6 <= t / 3600 <= 20 and (t % 10_800) < 600 else 1.0
    return (0.6 + 12 * by_day) * rush


def trace(seed: int = 8) -> list[tuple[float, int]]:
    """Give when requests come in a day and how many tokens their answers have."""
    rng, most, found, t = random.Random(seed), 23.0, [], 0.0
    while (t := t + rng.expovariate(most)) < DAY_S:
        if rng.random() < rate(t) / most:
            found.append((t, max(1, min(2_000, int(rng.lognormvariate(5.2, 0.7))))))
    return found


class Day:
    """One day of a trace. ``policy`` None keeps the replicas that there are."""

    def __init__(self, requests: list[tuple[float, int]], policy: Policy | None, replicas: int) -> None:
        self.policy, self.requests = policy, requests
        self.replicas = [Replica(-LOAD_S) for _ in range(replicas)]
        self.waiting: deque[tuple[float, int]] = deque()
        self.ending: list[tuple[float, int, Replica]] = []
        self.first: deque[tuple[float, float]] = deque()  # when a first token came, and after how long
        self.shed: deque[float] = deque()
        self.within = self.refused = self.changes = self.number = 0
        self.gpu_s = 0.0
        self.memory, self.since = Memory(), -3600.0

    def run(self) -> dict[str, float]:
        coming = deque(self.requests)
        for step in range(int(DAY_S / LOOK_S)):
            until = (step + 1) * LOOK_S
            while True:
                arrives = coming[0][0] if coming else math.inf
                ends = self.ending[0][0] if self.ending else math.inf
                if min(arrives, ends) >= until:
                    break
                if ends <= arrives:
                    now, _, replica = heapq.heappop(self.ending)
                    replica.busy -= 1
                else:
                    now = arrives
                    self.waiting.append(coming.popleft())
                self._admit(now)
            self._admit(until)
            self.replicas = [each for each in self.replicas if not each.going or each.busy]
            self.gpu_s += LOOK_S * len(self.replicas)
            if self.policy is not None:
                self._decide(self.policy, until)
        answered = len(self.requests)
        return {
            "within": self.within / answered,
            "refused": self.refused / answered,
            "gpu_hours": self.gpu_s / 3600,
            "changes": float(self.changes),
        }

    def _admit(self, now: float) -> None:
        while self.waiting and now - self.waiting[0][0] > POLICY.queue_s:
            self.waiting.popleft()
            self.refused += 1
            self.shed.append(now)
        free = [
            each for each in self.replicas if each.ready_at <= now and not each.going and each.busy < AT_ONCE
        ]
        while self.waiting and free:
            came, tokens = self.waiting.popleft()
            replica = min(free, key=lambda each: each.busy)
            replica.busy += 1
            ttft = now - came + PREFILL_S * (1 + replica.busy / AT_ONCE)
            self.within += ttft <= TTFT_S
            self.first.append((now, ttft))
            self.number += 1
            length_s = PREFILL_S + tokens * ITL_S * (1 + replica.busy / AT_ONCE)
            heapq.heappush(self.ending, (now + length_s, self.number, replica))
            free = [each for each in free if each.busy < AT_ONCE]

    def _decide(self, policy: Policy, now: float) -> None:
        for told in (self.first, self.shed):
            while told and (told[0][0] if isinstance(told[0], tuple) else told[0]) < now - 60:
                told.popleft()
        staying = [each for each in self.replicas if not each.going]
        signals = Signals(
            in_flight=len(self.waiting) + sum(each.busy for each in self.replicas),
            oldest_wait_s=now - self.waiting[0][0] if self.waiting else 0.0,
            requests=len(self.first),
            timed=len(self.first),
            slow=sum(ttft > TTFT_S for _, ttft in self.first),
            shed=len(self.shed),
        )
        standing = Standing(
            replicas=len(staying),
            ready=sum(each.ready_at <= now for each in staying),
            since=BEGIN + dt.timedelta(seconds=self.since),
        )
        decision = decide(signals, standing, policy, self.memory, now=BEGIN + dt.timedelta(seconds=now))
        self.memory = decision.memory
        if decision.replicas != len(staying):
            self.changes, self.since = self.changes + 1, now
            self.replicas += [Replica(now + LOAD_S) for _ in range(decision.replicas - len(staying))]
            for replica in staying[decision.replicas :]:
                replica.going = True


def measure() -> dict[str, float | int]:
    """Run the three days and give their figures."""
    requests = trace()
    days = {
        "floor": Day(requests, None, POLICY.floor).run(),
        "autoscaled": Day(requests, POLICY, POLICY.floor).run(),
        "ceiling": Day(requests, None, POLICY.ceiling).run(),
    }
    figures: dict[str, float | int] = {"requests": len(requests)}
    for name, day in days.items():
        figures[f"{name}_within_ttft_percent"] = 100 * day["within"]
        figures[f"{name}_refused_percent"] = 100 * day["refused"]
        figures[f"{name}_gpu_hours"] = day["gpu_hours"]
    figures["autoscaled_changes"] = int(days["autoscaled"]["changes"])
    return figures
