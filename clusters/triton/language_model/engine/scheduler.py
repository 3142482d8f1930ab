"""Many requests, one thread: every step gives each running request one token."""

from __future__ import annotations

import collections
import threading
import time
from collections.abc import Callable
from typing import Protocol

from .generation import Delta, Generation

CANCEL_CHECK_S = 0.02
"""How often a request is asked whether its client is still there. Asking is a round trip to the server."""


class Job(Protocol):
    """A request as the scheduler sees it. Only the scheduler's thread calls these."""

    generation: Generation

    def cancelled(self) -> bool:
        """Tell whether the client has left."""

    def emit(self, delta: Delta) -> None:
        """Hand on one delta."""

    def abandon(self) -> None:
        """End a request whose client has left."""

    def fail(self, error: Exception) -> None:
        """End a request that cannot go on."""


class Scheduler:
    """Runs up to ``max_batch_size`` requests at a time, the others wait in order of arrival.

    ``token_delay_s`` is the least time a step takes, for showing what a slower model looks like.
    ``on_load`` is told how many requests run and wait whenever that changes, by the one thread.
    """

    def __init__(
        self, *, max_batch_size: int, token_delay_s: float = 0.0, on_load: Callable[[int, int], None]
    ) -> None:
        self._max_batch_size = max_batch_size
        self._token_delay_s = token_delay_s
        self._on_load = on_load
        self._load = (0, 0)
        self._waiting: collections.deque[Job] = collections.deque()
        self._running: list[Job] = []
        self._asked: dict[int, float] = {}
        self._wake = threading.Condition()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="scheduler", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def submit(self, job: Job) -> None:
        """Queue a request; it is heard of through its own methods."""
        with self._wake:
            self._waiting.append(job)
            self._wake.notify()

    def stop(self) -> None:
        """Fail what is left and end the thread."""
        with self._wake:
            self._stopping = True
            self._wake.notify()
        self._thread.join()

    def _run(self) -> None:
        while self._admit():
            began = time.monotonic()
            self._drop_departed(began)
            self._running = [job for job in self._running if self._step(job)]
            if self._token_delay_s:
                time.sleep(max(0.0, began + self._token_delay_s - time.monotonic()))
        for job in (*self._running, *self._waiting):
            job.fail(RuntimeError("the engine is shutting down"))

    def _admit(self) -> bool:
        """Fill the batch, waiting for work when there is none; False once stopping."""
        if not (self._running or self._waiting):
            self._report()
        with self._wake:
            while not (self._running or self._waiting or self._stopping):
                self._wake.wait()
            while self._waiting and len(self._running) < self._max_batch_size:
                self._running.append(self._waiting.popleft())
        self._report()
        return not self._stopping

    def _report(self) -> None:
        load = (len(self._running), len(self._waiting))
        if load != self._load:
            self._load = load
            self._on_load(*load)

    def _drop_departed(self, now: float) -> None:
        with self._wake:
            waiting = tuple(self._waiting)
        for job in (*self._running, *waiting):
            if now - self._asked.get(id(job), 0.0) < CANCEL_CHECK_S:
                continue
            self._asked[id(job)] = now
            if job.cancelled():
                self._forget(job)
                job.abandon()

    def _forget(self, job: Job) -> None:
        self._asked.pop(id(job), None)
        if job in self._running:
            self._running.remove(job)
        else:
            with self._wake:
                self._waiting.remove(job)

    def _step(self, job: Job) -> bool:
        """Give a request its next token; False when that was the last."""
        try:
            delta = job.generation.step()
            job.emit(delta)
        except Exception as error:  # noqa: BLE001 - one request's fault must not end the others
            self._asked.pop(id(job), None)
            job.fail(error)
            return False
        if delta.finish_reason:
            self._asked.pop(id(job), None)
        return delta.finish_reason is None
