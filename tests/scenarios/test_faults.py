"""Processes die at random points; orders arrive all the same, and every completed request is counted once."""

from __future__ import annotations

import random
import signal
import threading
import time
import uuid

import httpx
import openai
import pytest

from gateway.usage_log import summarize
from portal.demo import accounts
from tests.scenarios.stack import Session, Stack, wait
from tests.scenarios.usage import Sum, accounted

pytestmark = [pytest.mark.xdist_group("stack"), pytest.mark.timeout(600)]

rng = random.Random(20)


class Caller(threading.Thread):
    """Calls an endpoint again and again, and keeps what was answered completely."""

    def __init__(self, stack: Stack, key: str, model: str) -> None:
        super().__init__(daemon=True)
        self.client = openai.OpenAI(base_url=f"{stack.gateway}/v1", api_key=key, max_retries=0, timeout=20)
        self.model = model
        self.completed = Sum()
        self.begun = 0
        self.errors: list[str] = []
        self.ending = threading.Event()

    def run(self) -> None:
        while not self.ending.is_set():
            self.begun += 1
            try:
                answer = self.client.completions.create(model=self.model, prompt="Berth", max_tokens=12)
                self.completed += Sum.of_answer(answer.usage)
            except openai.OpenAIError as error:
                self.errors.append(str(error))
                time.sleep(0.1)

    def end(self) -> None:
        self.ending.set()
        self.join(30)


@pytest.fixture(scope="module")
def key(owner):
    return owner.inference_key()


@pytest.fixture
def ordered(owner):
    """A new endpoint, deleted afterwards."""
    endpoint = owner.order(f"fault-{uuid.uuid4().hex[:6]}")
    yield endpoint
    owner.delete(f"/endpoints/{endpoint['id']}")


@pytest.fixture
def callers(stack, owner, key, ordered):
    """Two callers on a ready endpoint."""
    owner.await_state(ordered["id"], "ready")
    probe = openai.OpenAI(base_url=f"{stack.gateway}/v1", api_key=key, max_retries=0)
    wait(lambda: _serves(probe, ordered["name"]), 20, lambda: "the gateway does not serve it")
    running = [Caller(stack, key, ordered["name"]) for _ in range(2)]
    for caller in running:
        caller.start()
    yield running
    for caller in running:
        caller.end()


def _serves(client: openai.OpenAI, name: str) -> bool:
    try:
        return any(model.id == name for model in client.models.list())
    except openai.OpenAIError:
        return False


def settled(owner: Session, endpoint_id: str, callers: list[Caller]) -> None:
    """Stop the callers and wait until what they completed is accounted for."""
    for caller in callers:
        caller.end()
    completed = sum(caller.completed.requests for caller in callers)
    assert completed > 0
    wait(
        lambda: completed_requests(owner, endpoint_id) >= completed,
        60,
        lambda: f"completed {completed}, accounted {completed_requests(owner, endpoint_id)}",
    )


@pytest.mark.parametrize("delay", [0.2, 1.0])
def test_the_worker_dies_while_an_endpoint_is_provisioned(stack, owner, ordered, delay):
    time.sleep(delay)
    assert stack.kill("worker") >= 1
    owner.await_state(ordered["id"], "ready", 120)


def test_the_engine_dies_under_load(stack, owner, ordered, callers):
    time.sleep(1)
    before = {replica["id"] for replica in owner.endpoint(ordered["id"])["observed_replicas"]}
    for engine in stack.processes("engine"):
        if ordered["name"] in " ".join(engine.cmdline()):
            engine.kill()
    wait(
        lambda: (
            owner.endpoint(ordered["id"])["state"] == "ready"
            and before.isdisjoint(
                replica["id"] for replica in owner.endpoint(ordered["id"])["observed_replicas"]
            )
        ),
        90,
        lambda: str(owner.endpoint(ordered["id"])),
    )
    answered = sum(caller.completed.requests for caller in callers)
    wait(
        lambda: sum(caller.completed.requests for caller in callers) > answered + 5,
        30,
        lambda: f"no answers after the restart: {callers[0].errors[-3:]}",
    )
    settled(owner, ordered["id"], callers)
    completed = sum(caller.completed.requests for caller in callers)
    assert completed_requests(owner, ordered["id"]) == completed


def test_the_gateway_dies_under_load_and_no_completed_request_is_lost_or_counted_twice(
    stack, owner, stranger, ordered, callers
):
    for _ in range(3):
        time.sleep(rng.uniform(0.8, 2.5))
        assert stack.kill("gateway") == 1
        wait(lambda: _alive(f"{stack.gateway}/readyz"), 30, lambda: "the gateway did not come back")
    time.sleep(1)
    settled(owner, ordered["id"], callers)
    completed = sum((caller.completed for caller in callers), start=Sum())
    lost_in_the_air = sum(len(caller.errors) for caller in callers)
    counted = completed_requests(owner, ordered["id"])
    # A record is written before the last byte: an answer cut off by the kill may be counted, but no other.
    assert completed.requests <= counted <= completed.requests + lost_in_the_air
    # What the gateway's own log says, over all its deaths, is what is billed.
    wait(
        lambda: metered(stack) == billed(owner, stranger),
        30,
        lambda: f"metered {metered(stack)}, billed {billed(owner, stranger)}",
    )


def test_the_control_plane_stops_and_the_gateway_goes_on(stack, owner, ordered, callers):
    frozen = [*stack.processes("web"), *stack.processes("worker"), *stack.processes("beat")]
    assert len(frozen) >= 3
    for process in frozen:
        process.send_signal(signal.SIGSTOP)
    try:
        before = sum(caller.completed.requests for caller in callers)
        wait(
            lambda: sum(caller.completed.requests for caller in callers) > before + 20,
            30,
            lambda: f"it stopped serving: {callers[0].errors[-3:]}",
        )
        assert [caller.errors for caller in callers] == [[], []]
    finally:
        for process in frozen:
            process.send_signal(signal.SIGCONT)
    settled(owner, ordered["id"], callers)
    completed = sum((caller.completed for caller in callers), start=Sum())
    assert accounted(owner, ordered["id"]) == completed


def completed_requests(owner: Session, endpoint_id: str) -> int:
    """Count the requests of an endpoint that were answered to the end."""
    days = owner.get("/usage", bucket_width="1d", group_by="endpoint_id")["data"]
    return sum(
        point["completed"] for day in days for point in day["results"] if point["endpoint_id"] == endpoint_id
    )


def metered(stack: Stack) -> Sum:
    """Sum up all that the gateway ever wrote into its own log."""
    total = summarize(stack.data_dir.path / "gateway" / accounts.GATEWAY)["total"]
    return Sum(total["requests"], total["input_tokens"], total["output_tokens"])


def billed(*sessions: Session) -> Sum:
    """Sum up all that is accounted for."""
    totals = [session.get("/costs")["total"] for session in sessions]
    return sum(
        (Sum(total["requests"], total["input_tokens"], total["output_tokens"]) for total in totals),
        start=Sum(),
    )


def _alive(url: str) -> bool:
    try:
        return httpx.get(url, timeout=2).status_code == 200
    except httpx.HTTPError:
        return False
