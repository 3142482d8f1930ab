"""Zero to three replicas and back on real tritonservers, under load: requests are held, none is lost."""

from __future__ import annotations

import threading
import time
import uuid
from collections import Counter

import openai
import pytest

from tests.scenarios.stack import wait

pytestmark = [pytest.mark.xdist_group("stack"), pytest.mark.timeout(600)]

CLIENTS = 9  # more than two replicas of two places are to be given at once


class Load:
    """Clients that each send one request after the other until they are told to stop; every end is counted."""

    def __init__(self, client: openai.OpenAI, model: str) -> None:
        self.ends: Counter[str] = Counter()
        self.slowest_s = 0.0
        self._client, self._model = client, model
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run) for _ in range(CLIENTS)]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Let each client's last request end."""
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        while not self._stop.is_set():
            began = time.monotonic()
            try:
                answer = self._client.completions.create(
                    model=self._model, prompt="How does a gateway route?", max_tokens=40
                )
                end = "answered" if answer.choices[0].text else "empty"
            except openai.OpenAIError as error:
                end = f"{type(error).__name__}: {error}"
            self.ends[end] += 1
            self.slowest_s = max(self.slowest_s, time.monotonic() - began)


def test_from_nothing_to_three_and_back_with_requests_held_and_none_lost(stack, owner):
    made = owner.order(
        f"scales-{uuid.uuid4().hex[:6]}",
        slo_class="batch",
        replicas=1,
        pins={"max_batch_size": 2},
        autoscaling={"enabled": True, "floor": 0, "ceiling": 3, "idle_s": 60},
    )
    key = owner.inference_key()
    client = openai.OpenAI(base_url=f"{stack.gateway}/v1", api_key=key, max_retries=0, timeout=200)
    endpoint = owner.await_state(made["id"], "ready", 120)
    wait(lambda: _knows(client, endpoint["name"]), 30, lambda: "the gateway does not know the key")
    owner.await_state(made["id"], "scaled-to-zero", 200)
    wait(lambda: not owner.endpoint(made["id"])["observed_replicas"], 60, lambda: "its engine goes on")
    wait(
        lambda: "until a request comes" in owner.endpoint(made["id"])["reason"],
        30,
        lambda: owner.endpoint(made["id"])["reason"],
    )

    load = Load(client, endpoint["name"])
    try:
        wait(lambda: _ready(owner, made["id"]) == 3, 150, lambda: f"{_decisions(owner, made['id'])}")
        answered = load.ends["answered"]
        wait(lambda: load.ends["answered"] >= answered + 30, 60, lambda: f"{load.ends}")
    finally:
        load.stop()

    assert load.ends.keys() == {"answered"}, load.ends
    assert load.slowest_s > 1, "the first ones were held while an engine was started"
    owner.await_state(made["id"], "scaled-to-zero", 200)
    decisions = _decisions(owner, made["id"])
    replicas = [each["after"] for each in reversed(decisions) if each["outcome"] == "done"]
    assert replicas[0] == replicas[-1] == 0
    assert max(replicas) == 3
    assert float(decisions[0]["price_after"]) == 0 < float(decisions[0]["price_before"])
    owner.delete(f"/endpoints/{made['id']}")


def _knows(client: openai.OpenAI, name: str) -> bool:
    try:
        return name in {model.id for model in client.models.list()}
    except openai.AuthenticationError:
        return False


def _ready(owner, endpoint_id: str) -> int:
    found = owner.endpoint(endpoint_id)["observed_replicas"]
    return sum(replica["phase"] == "ready" for replica in found)


def _decisions(owner, endpoint_id: str) -> list[dict]:
    return owner.get(f"/endpoints/{endpoint_id}/scaling-decisions")["results"]
