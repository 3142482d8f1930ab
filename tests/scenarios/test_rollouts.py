"""Changes of an endpoint under load, on real engines: the good one is promoted, the slow one is taken back."""

from __future__ import annotations

import datetime as dt
import threading
import time
import uuid
from collections.abc import Callable, Iterator

import psutil
import pytest

from portal.demo import accounts
from tests.scenarios.stack import Session, Stack, wait
from tests.scenarios.test_faults import Caller

pytestmark = [pytest.mark.xdist_group("stack"), pytest.mark.timeout(600)]

ENDED = {"promoted", "rolled-back", "failed", "cancelled"}
PATIENCE_S = 120
#: Those of a change that is evaluated, in their order, until it ends.
PHASES = ["starting", "evaluating", "canary"]


@pytest.fixture(scope="module")
def make_class(stack) -> Callable[..., str]:
    """Makes a class whose canary is one step of as few requests as may tell."""
    operator = stack.sign_in(accounts.OPERATOR)

    def make(name: str = "", **policy: object) -> str:
        name = name or f"brisk-{uuid.uuid4().hex[:6]}"
        spec = {
            "title": name,
            "description": "Changes go fast.",
            "availability": "0.99",
            "priority": 90,
            "rollout_steps": [50],
            "rollout_step_s": 1,
            "rollout_requests": 60,
        }
        metadata = {"name": name}
        document = {"apiVersion": "berth/v1", "kind": "SloClass", "metadata": metadata, "spec": spec | policy}
        operator.post("/platform/configuration:apply", {"documents": [document]})
        return name

    return make


@pytest.fixture
def one_h200(stack: Stack) -> Iterator[None]:
    """Lets orders have one H200 GPU, which no other scenario does: operators keep the others back."""
    operator, at = stack.sign_in(accounts.OPERATOR), "/console/clusters/ashburn-a/pools/h200"
    operator.submit(at, nodes=1, reserve=7, higher_share=0)
    yield
    operator.submit(at, nodes=1, reserve=0, higher_share=0)


@pytest.fixture(scope="module")
def brisk(make_class) -> str:
    return make_class()


@pytest.fixture
def serve(stack: Stack, owner: Session) -> Iterator[Callable[..., tuple[dict, list[Caller]]]]:
    """Brings up an endpoint of a class and those who call it all the time."""
    started: list[tuple[dict, list[Caller]]] = []

    def serve(slo_class: str, **terms: object) -> tuple[dict, list[Caller]]:
        endpoint = owner.order(f"roll-{uuid.uuid4().hex[:6]}", slo_class=slo_class, **terms)
        owner.await_state(endpoint["id"], "ready")
        callers = [Caller(stack, owner.inference_key(), endpoint["name"]) for _ in range(2)]
        started.append((endpoint, callers))
        for caller in callers:
            caller.start()
        wait(
            lambda: all(each.completed.requests for each in callers), 30, lambda: f"{callers[0].errors[-1:]}"
        )
        for caller in callers:
            caller.errors.clear()
        return endpoint, callers

    yield serve
    for endpoint, callers in started:
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


def in_canary(owner: Session, endpoint: dict, *, other_than: str = "") -> dict:
    found: dict = {}

    def there() -> bool:
        found.update(newest(owner, endpoint))
        return found["phase"] == "canary" and found["id"] != other_than

    wait(there, PATIENCE_S, lambda: f"{found}")
    return found


def lost(callers: list[Caller]) -> list[str]:
    return [error for caller in callers for error in caller.errors]


def test_a_change_as_good_as_what_ran_is_promoted_and_no_request_is_lost(owner, serve, brisk):
    endpoint, callers = serve(brisk)
    change(owner, endpoint, context_tokens=1024)
    done = ended(owner, endpoint)
    assert done["phase"] == "promoted", done
    owner.await_state(endpoint["id"], "ready")
    assert lost(callers) == []


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


def test_a_slow_change_is_taken_back_with_the_numbers(stack, owner, serve, brisk):
    endpoint, callers = serve(brisk)
    before = {process.pid for process in stack.processes("engine")}
    change(owner, endpoint, context_tokens=1024)
    in_canary(owner, endpoint)
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
    assert lost(callers) == []


def test_the_worker_dies_in_every_phase_and_the_change_arrives(stack, owner, serve, brisk):
    endpoint, callers = serve(brisk, context_tokens=512)
    prompts = [
        {"prompt": f"Berth is {word}", "max_tokens": 8, "checks": [{"max_tokens": 8}]} for word in PHASES
    ]
    owner.post("/evaluation-sets", {"name": "is short", "endpoint_id": endpoint["id"], "prompts": prompts})
    change(owner, endpoint, context_tokens=1024)
    killed_in: list[str] = []

    def over() -> bool:
        phase = newest(owner, endpoint)["phase"]
        if phase not in killed_in and stack.kill("worker"):
            killed_in.append(phase)
        return phase in ENDED

    wait(over, 3 * PATIENCE_S, lambda: f"{newest(owner, endpoint)}")
    assert [phase for phase in killed_in if phase in PHASES] == PHASES, killed_in
    assert killed_in[-1] == "promoted", newest(owner, endpoint)
    owner.await_state(endpoint["id"], "ready")
    assert lost(callers) == []


def test_without_a_free_gpu_a_change_waits_for_its_window_and_then_replaces(
    stack, owner, serve, make_class, one_h200
):
    hour = dt.datetime.now(dt.UTC).hour
    closed = {"rollout_from_hour": (hour + 3) % 24, "rollout_until_hour": (hour + 4) % 24 or 24}
    slo_class = make_class(rollout_ways=["surge", "replace"], **closed)
    endpoint, callers = serve(slo_class, residency="global", pins={"gpu": "h200_sxm"})
    planned = owner.post(f"/endpoints/{endpoint['id']}:plan-change", {"context_tokens": 1024})
    assert planned["way"] == "replace"
    assert planned["expected_outage_s"] > 0
    change(owner, endpoint, context_tokens=1024)
    time.sleep(3)
    waits = newest(owner, endpoint)
    assert (waits["phase"], waits["way"]) == ("waiting", "replace"), waits
    assert "window" in waits["reason"]
    assert lost(callers) == [], "it serves on until then"

    make_class(slo_class, rollout_ways=["surge", "replace"], rollout_from_hour=0, rollout_until_hour=24)
    change(owner, endpoint, context_tokens=900)
    done = ended(owner, endpoint)
    assert (done["phase"], done["way"]) == ("promoted", "replace"), done
    assert owner.get(f"/endpoints/{endpoint['id']}/rollouts/{waits['id']}")["phase"] == "cancelled"
    assert owner.await_state(endpoint["id"], "ready")["context_tokens"] == 900
    answered = sum(each.completed.requests for each in callers)
    wait(
        lambda: sum(each.completed.requests for each in callers) > answered,
        30,
        lambda: f"{lost(callers)[-1:]}",
    )


def test_a_change_during_a_change_and_the_end_during_a_change(owner, serve, make_class):
    endpoint, callers = serve(make_class(rollout_requests=100_000))
    change(owner, endpoint, context_tokens=1024)
    first = in_canary(owner, endpoint)
    change(owner, endpoint, context_tokens=900)
    in_canary(owner, endpoint, other_than=first["id"])
    assert owner.get(f"/endpoints/{endpoint['id']}/rollouts/{first['id']}")["phase"] == "cancelled"
    assert lost(callers) == []
    owner.delete(f"/endpoints/{endpoint['id']}")
    owner.await_state(endpoint["id"], "deleted")
    assert newest(owner, endpoint)["phase"] == "cancelled"


def test_a_change_that_fails_its_evaluation_gets_no_traffic(owner, serve, brisk):
    endpoint, callers = serve(brisk, context_tokens=512)
    prompts = [{"prompt": "Berth is", "max_tokens": 8, "checks": [{"contains": "never said by any engine"}]}]
    owner.post("/evaluation-sets", {"name": "says it", "endpoint_id": endpoint["id"], "prompts": prompts})
    change(owner, endpoint, context_tokens=1024)
    done = ended(owner, endpoint)
    assert (done["phase"], done["weight"]) == ("failed", 0), done
    assert "says it" in done["reason"]
    owner.await_state(endpoint["id"], "update-failed")
    (run,) = owner.get("/evaluations", endpoint=endpoint["id"])["results"]
    assert (run["state"], float(run["score"])) == ("failed", 0)
    assert lost(callers) == []
