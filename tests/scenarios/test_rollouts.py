"""Changes of an endpoint under load, on real engines: the good one is promoted, the slow one is taken back."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Iterator

import psutil
import pytest

from portal.demo import accounts
from tests.scenarios.stack import Session, Stack, wait
from tests.scenarios.test_faults import Caller

pytestmark = [pytest.mark.xdist_group("stack"), pytest.mark.timeout(600)]

ENDED = {"promoted", "rolled-back", "failed", "cancelled"}
PATIENCE_S = 120


@pytest.fixture(scope="module")
def brisk(stack) -> str:
    """A class whose canary is one step of as few requests as may tell."""
    operator = stack.sign_in(accounts.OPERATOR)
    name = f"brisk-{uuid.uuid4().hex[:6]}"
    spec = {
        "title": name,
        "description": "Changes go fast.",
        "availability": "0.99",
        "priority": 90,
        "rollout_steps": [50],
        "rollout_step_s": 1,
        "rollout_requests": 60,
    }
    document = {"apiVersion": "berth/v1", "kind": "SloClass", "metadata": {"name": name}, "spec": spec}
    operator.post("/platform/configuration:apply", {"documents": [document]})
    return name


@pytest.fixture
def served(stack: Stack, owner: Session, brisk: str) -> Iterator[tuple[dict, list[Caller]]]:
    """A ready endpoint of that class and those who call it all the time."""
    endpoint = owner.order(f"roll-{uuid.uuid4().hex[:6]}", slo_class=brisk)
    owner.await_state(endpoint["id"], "ready")
    callers = [Caller(stack, owner.inference_key(), endpoint["name"]) for _ in range(2)]
    for caller in callers:
        caller.start()
    wait(lambda: all(each.completed.requests for each in callers), 30, lambda: f"{callers[0].errors[-1:]}")
    for caller in callers:
        caller.errors.clear()
    yield endpoint, callers
    for caller in callers:
        caller.end()
    owner.delete(f"/endpoints/{endpoint['id']}")


def change(owner: Session, endpoint: dict, **terms: object) -> None:
    owner.post(f"/endpoints/{endpoint['id']}:change", terms, **{"Idempotency-Key": uuid.uuid4().hex})


def newest(owner: Session, endpoint: dict) -> dict:
    return owner.get(f"/endpoints/{endpoint['id']}/rollouts")["results"][0]


def ended(owner: Session, endpoint: dict) -> dict:
    wait(
        lambda: newest(owner, endpoint)["phase"] in ENDED,
        PATIENCE_S,
        lambda: f"{newest(owner, endpoint)}",
    )
    return newest(owner, endpoint)


def test_a_change_as_good_as_what_ran_is_promoted_and_no_request_is_lost(owner, served):
    endpoint, callers = served
    change(owner, endpoint, context_tokens=1024)
    done = ended(owner, endpoint)
    assert done["phase"] == "promoted", done
    owner.await_state(endpoint["id"], "ready")
    assert [error for caller in callers for error in caller.errors] == []


class Slowed(threading.Thread):
    """Lets processes run a tenth of the time."""

    def __init__(self, processes: list[psutil.Process]) -> None:
        super().__init__(daemon=True)
        self.processes = processes
        self.ending = threading.Event()

    def run(self) -> None:
        while not self.ending.is_set():
            self._each(psutil.Process.suspend)
            time.sleep(0.45)
            self._each(psutil.Process.resume)
            time.sleep(0.05)

    def end(self) -> None:
        self.ending.set()
        self.join(10)
        self._each(psutil.Process.resume)

    def _each(self, act) -> None:
        for process in self.processes:
            try:
                act(process)
            except psutil.NoSuchProcess:
                continue


def test_a_slow_change_is_taken_back_with_the_numbers(stack, owner, served):
    endpoint, callers = served
    before = {process.pid for process in stack.processes("engine")}
    change(owner, endpoint, context_tokens=1024)
    wait(
        lambda: newest(owner, endpoint)["phase"] == "canary", PATIENCE_S, lambda: f"{newest(owner, endpoint)}"
    )
    slowed = Slowed([each for each in stack.processes("engine") if each.pid not in before])
    assert slowed.processes
    slowed.start()
    try:
        done = ended(owner, endpoint)
    finally:
        slowed.end()
    assert done["phase"] == "rolled-back", done
    assert "p95" in done["reason"]
    failed = owner.await_state(endpoint["id"], "update-failed")
    assert done["reason"][:100] in failed["reason"]
    assert [error for caller in callers for error in caller.errors] == []
