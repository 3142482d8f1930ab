"""How fast a batch asks."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from gateway.batches.pace import Pace


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def pace(most: int = 16) -> tuple[Pace, Clock]:
    clock = Clock()
    return Pace(most=most, clock=clock, rng=random.Random(3)), clock


def test_answers_let_it_grow_to_the_most_and_no_further() -> None:
    slow, _ = pace(most=4)
    limits = [slow.limit]
    for _ in range(40):
        slow.answered()
        limits.append(slow.limit)
    assert limits == sorted(limits)
    assert (limits[0], limits[1], limits[-1]) == (1, 2, 4)


def test_refusals_halve_it_and_close_it_longer_each_time_until_an_answer_comes() -> None:
    slow, clock = pace()
    for _ in range(100):
        slow.answered()
    pauses = []
    for _ in range(12):
        slow.refused(None)
        slow.refused(None)  # asked before the pause: part of it
        pauses.append(slow.closed_s())
        clock.now += slow.closed_s()
        assert slow.closed_s() == 0
    assert slow.limit == 1
    assert 0.1 < pauses[0] <= 0.25
    assert all(15 <= pause <= 30 for pause in pauses[-3:])
    slow.answered()
    slow.refused(None)
    assert slow.closed_s() <= 0.25


@given(st.lists(st.sampled_from(["answered", "refused", "time"])), st.floats(0, 1e6))
def test_it_is_never_stuck(events: list[str], retry_after_s: float) -> None:
    slow, clock = pace()
    for event in events:
        if event == "time":
            clock.now += 1
        elif event == "answered":
            slow.answered()
        else:
            slow.refused(retry_after_s)
    assert 1 <= slow.limit <= 16
    assert 0 <= slow.closed_s() <= 330
