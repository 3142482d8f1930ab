"""Requests side by side: batches, turns, clients that leave, requests that break."""

from __future__ import annotations

import threading

from clusters.triton.language_model.engine.generation import Delta
from clusters.triton.language_model.engine.scheduler import Scheduler


class Countdown:
    """A generation of so many tokens; it breaks at one of them if told to."""

    def __init__(self, tokens: int, *, breaks_at: int | None = None) -> None:
        self.left = tokens
        self.breaks_at = breaks_at

    def step(self) -> Delta:
        self.left -= 1
        if self.left == self.breaks_at:
            raise RuntimeError("broken")
        return Delta(text="x", tokens=1, finish_reason=None if self.left else "length")


class Recorder:
    """A job that writes down what becomes of it."""

    def __init__(self, tokens: int, *, log: list, breaks_at: int | None = None) -> None:
        self.generation = Countdown(tokens, breaks_at=breaks_at)
        self.log = log
        self.gone = False
        self.ended = threading.Event()
        self.outcome = ""
        self.first = threading.Event()

    def cancelled(self) -> bool:
        return self.gone

    def emit(self, delta: Delta) -> None:
        self.log.append(self)
        self.first.set()
        if delta.finish_reason:
            self._end(delta.finish_reason)

    def abandon(self) -> None:
        self._end("abandoned")

    def fail(self, error: Exception) -> None:
        self._end(f"failed: {error}")

    def _end(self, outcome: str) -> None:
        assert not self.outcome, "ended twice"
        self.outcome = outcome
        self.ended.set()


def ignored(running: int, waiting: int) -> None:
    pass


def run(scheduler: Scheduler, jobs: list[Recorder]) -> None:
    for job in jobs:
        scheduler.submit(job)
    scheduler.start()
    for job in jobs:
        assert job.ended.wait(10)
    scheduler.stop()


def test_running_requests_take_turns_and_the_others_wait_in_order():
    log: list[Recorder] = []
    a, b, c = (Recorder(3, log=log) for _ in range(3))
    run(Scheduler(max_batch_size=2, on_load=ignored), [a, b, c])
    assert log == [a, b, a, b, a, b, c, c, c]
    assert {job.outcome for job in (a, b, c)} == {"length"}


def test_a_short_request_leaves_the_batch_to_the_next():
    log: list[Recorder] = []
    a, b, c = Recorder(4, log=log), Recorder(1, log=log), Recorder(1, log=log)
    run(Scheduler(max_batch_size=2, on_load=ignored), [a, b, c])
    assert log == [a, b, a, c, a, a]


def test_a_broken_request_ends_alone():
    log: list[Recorder] = []
    a, b = Recorder(5, log=log, breaks_at=2), Recorder(5, log=log)
    run(Scheduler(max_batch_size=2, on_load=ignored), [a, b])
    assert (a.outcome, b.outcome) == ("failed: broken", "length")


def test_departed_clients_are_let_go_running_or_waiting():
    log: list[Recorder] = []
    endless = [Recorder(10**9, log=log) for _ in range(2)]
    scheduler = Scheduler(max_batch_size=1, token_delay_s=0.001, on_load=ignored)
    for job in endless:
        scheduler.submit(job)
    scheduler.start()
    assert endless[0].first.wait(10)
    endless[1].gone = True
    assert endless[1].ended.wait(10)
    endless[0].gone = True
    assert endless[0].ended.wait(10)
    scheduler.stop()
    assert endless[1] not in log
    assert [job.outcome for job in endless] == ["abandoned", "abandoned"]


def test_stopping_fails_what_is_left():
    log: list[Recorder] = []
    running, waiting = (Recorder(10**9, log=log) for _ in range(2))
    scheduler = Scheduler(max_batch_size=1, token_delay_s=0.001, on_load=ignored)
    scheduler.submit(running)
    scheduler.submit(waiting)
    scheduler.start()
    assert running.first.wait(10)
    scheduler.stop()
    assert running.outcome == waiting.outcome == "failed: the engine is shutting down"


def test_the_load_is_told_when_it_changes():
    told: list[tuple[int, int]] = []
    jobs = [Recorder(2, log=[]) for _ in range(3)]
    run(Scheduler(max_batch_size=2, on_load=lambda *load: told.append(load)), jobs)
    assert told == [(2, 1), (1, 0), (0, 0)]
