"""Twenty clusters, of which one falls silent: what the others' passes notice, through the Celery worker."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import threading
import time
from collections.abc import Sequence
from typing import Any, Final, Self
from urllib.parse import urlsplit

import celery

from bench.tools import berth, clusters, pods
from bench.tools.api_server import ApiServer
from bench.tools.figures import Figures, quantile, quantiles
from bench.tools.hole import Way
from clusters.kube.client import KubeClient
from tests.scenarios.stack import Session, wait

CLUSTERS: Final = 20
EACH: Final = 3
ROUNDS: Final = 3
PHASE_S: Final = 8.0
MOST_PER_S: Final = 8.0
SHARE: Final = 0.2  # of the time of each of the worker's two processes
WORKERS: Final = 2
SETTLE_S: Final = 1.0
PATIENCE_S: Final = 60.0
LOOK_EVERY_S: Final = 0.1
RECONCILE: Final = "clusters.endpoints.tasks.reconcile"
PROCESSES: Final = ("web", "worker", "beat", "watch")
OWNER: Final = "owner@bench.example"


def measure(server: ApiServer) -> Figures:
    """Send passes over the other clusters' endpoints at an even pace; in turn all answer, and one is a hole.

    The pace leaves the worker idle for most of the time: by what a pass takes that is sent alone.
    As the hole opens, passes over its endpoints are sent too. ``onset`` is from then until the portal shows all
    of them as Unreachable, ``dead`` a time after.
    """
    port = urlsplit(server.admin.server).port
    if port is None:
        raise RuntimeError(f"{server.admin.server} names no port")
    with Way(port) as way, berth.running(*PROCESSES, further={"worker": "-E"}) as running:
        with contextlib.closing(KubeClient(server.admin)) as client:
            pods.add_nodes(client, [f"gpu-{number}" for number in range(-(-CLUSTERS * EACH // pods.GPUS))])
        here = [server.admin] * (CLUSTERS - 1)
        there = dataclasses.replace(server.admin, server=f"https://127.0.0.1:{way.port}")
        with clusters.steps(running) as steps:
            steps.take("prepare", gpus=2 * CLUSTERS * EACH)
            made: dict[str, list[str]] = steps.take(
                "settle", prefix="c", credentials=[*map(dataclasses.asdict, [*here, there])], endpoints=EACH
            )
        *others, dead = made.values()
        owner = Session(running.portal, OWNER)
        before = server.versions()
        with _Passes(running.environment()["CELERY_BROKER_URL"]) as passes:
            figures = _rounds(way, owner, passes, [each for ids in others for each in ids], dead)
        after = server.versions()
    return {
        "dead_cluster_of": CLUSTERS,
        **figures,
        "dead_objects_destroyed": len(before.keys() - after.keys()),
        "dead_objects_changed": sum(
            before[uid] != version for uid, version in after.items() if uid in before
        ),
    }


def _rounds(way: Way, owner: Session, passes: _Passes, ids: Sequence[str], dead: Sequence[str]) -> Figures:
    took: dict[str, list[float]] = {"healthy": [], "onset": [], "dead": []}
    until_shown, until_back = [], []
    alone = [passes.send([each], PATIENCE_S, passes.never, count=1)[0] for each in ids]
    passes.per_s = min(MOST_PER_S, WORKERS * SHARE / quantile(alone, 0.5))
    passes.send(ids, PHASE_S / 2, passes.never)  # every process of the worker has its connections
    for _ in range(ROUNDS):
        took["healthy"] += passes.send(ids, PHASE_S, passes.never)
        opened = time.monotonic()
        way.swallow()
        for each in dead:
            passes.enqueue(each)
        shown = _Until(owner, dead, "unreachable")
        took["onset"] += passes.send(ids, PATIENCE_S, shown.done)
        until_shown.append(shown.at() - opened)
        took["dead"] += passes.send(ids, PHASE_S, passes.never)
        mended = time.monotonic()
        way.mend()
        until_back.append(_Until(owner, dead, "ready").at() - mended)
        time.sleep(SETTLE_S)
    figures: Figures = {"dead_rounds": ROUNDS, "others_passes_sent_per_s": passes.per_s}
    for phase, seconds in took.items():
        figures[f"others_{phase}_passes"] = len(seconds)
        figures |= quantiles(
            f"others_{phase}", [1000 * each for each in seconds], "ms", percents=(50, 95, 100)
        )
    healthy, silent = (quantile(took[phase], 0.95) for phase in ("healthy", "dead"))
    return figures | {
        "others_p95_change_percent": 100 * (silent / healthy - 1),
        "dead_to_unreachable_max_s": max(until_shown),
        "mended_to_ready_max_s": max(until_back),
    }


class _Until:
    """Looks, beside whatever else is done, until all endpoints have a state."""

    def __init__(self, owner: Session, ids: Sequence[str], state: str) -> None:
        self.done = threading.Event()
        self._at = 0.0
        self._thread = threading.Thread(target=self._look, args=(owner, ids, state), daemon=True)
        self._thread.start()

    def at(self) -> float:
        """When they had it."""
        self._thread.join(PATIENCE_S)
        if not self.done.is_set():
            raise RuntimeError("the endpoints of the cluster did not change their state")
        return self._at

    def _look(self, owner: Session, ids: Sequence[str], state: str) -> None:
        wait(
            lambda: all(owner.endpoint(each)["state"] == state for each in ids),
            PATIENCE_S,
            lambda: f"not all are {state}",
            LOOK_EVERY_S,
        )
        self._at = time.monotonic()
        self.done.set()


class _Passes:
    """Passes by the Celery worker, timed by its own events from their sending to their end."""

    def __init__(self, broker: str) -> None:
        self.never = threading.Event()
        self.per_s = MOST_PER_S
        self._app = celery.Celery(broker=broker)
        self._sent: dict[str, float] = {}
        self._ended: dict[str, float] = {}
        self._changed = threading.Condition()
        self._receiver: Any = None
        self._thread = threading.Thread(target=self._listen, name="events", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._receiver is not None:
            self._receiver.should_stop = True
        self._thread.join(10)
        self._app.close()

    def enqueue(self, endpoint_id: str) -> str:
        """Send one pass; give the task's name."""
        now = time.time()
        task: str = self._app.send_task(RECONCILE, args=[endpoint_id]).id
        self._sent[task] = now
        return task

    def send(
        self, ids: Sequence[str], seconds: float, enough: threading.Event, *, count: int | None = None
    ) -> list[float]:
        """Send passes at an even pace for that long, or ``count`` of them, or until ``enough``.

        Gives how long each took until its end.
        """
        sent = []
        begun = time.monotonic()
        for number, each in enumerate(itertools.islice(itertools.cycle(ids), count)):
            at = begun + number / self.per_s
            if at > begun + seconds or enough.wait(max(0.0, at - time.monotonic())):
                break
            time.sleep(max(0.0, at - time.monotonic()))
            sent.append(self.enqueue(each))
        with self._changed:
            if not self._changed.wait_for(lambda: all(task in self._ended for task in sent), PATIENCE_S):
                missing = sum(task not in self._ended for task in sent)
                raise RuntimeError(f"{missing} of {len(sent)} passes came to no end")
            return [self._ended[task] - self._sent[task] for task in sent]

    def _listen(self) -> None:
        with self._app.connection_for_read() as connection:
            handlers = {"task-succeeded": self._note, "task-failed": self._note}
            self._receiver = self._app.events.Receiver(connection, handlers=handlers)
            # Without a timeout: a receiver that begins anew misses what happens in between.
            self._receiver.capture(limit=None, timeout=None, wakeup=False)

    def _note(self, event: dict[str, Any]) -> None:
        with self._changed:
            self._ended[event["uuid"]] = event["timestamp"]
            self._changed.notify_all()
