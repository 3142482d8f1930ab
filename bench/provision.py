"""From an order to a serving engine and back, on the local driver, through REST."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable
from typing import Any, Final

import psutil

from bench.tools import berth
from bench.tools.figures import Figures, quantiles
from portal.demo import accounts
from tests.scenarios.stack import Session, Stack, wait

ENDPOINTS: Final = 5
PATIENCE_S: Final = 90.0
LOOK_EVERY_S: Final = 0.03


def measure() -> Figures:
    """Order endpoints one after another; of each kill the engine, await its return, then delete it.

    The very first, which finds all processes cold, is told apart. ``order_to_first_apply`` is by Berth's own
    clock, from the order's row to the spec written to the cluster. The rest is what a client sees that asks
    every 30 ms: the badge Ready, the badge no longer Ready after a ``kill -9`` of the engine, Ready again by
    a new engine, and gone once the GPUs are seen to be released.
    """
    times: dict[str, list[float]] = {}
    with berth.whole() as stack:
        owner = stack.sign_in(accounts.TENANTS[0].owner)
        cold = _life(stack, owner, "bench-cold")
        for number in range(ENDPOINTS):
            for step, seconds in _life(stack, owner, f"bench-{number}").items():
                times.setdefault(step, []).append(seconds)
    figures: Figures = {"endpoints": ENDPOINTS, "cold_order_to_ready_s": cold["order_to_ready"]}
    for step, seconds in times.items():
        figures |= quantiles(step, seconds, "s")
    return figures


def _life(stack: Stack, owner: Session, name: str) -> dict[str, float]:
    begun = time.monotonic()
    endpoint_id = str(owner.order(name)["id"])
    accepted = time.monotonic()
    seen = _until(owner, endpoint_id, lambda shown: shown["state"] == "ready")
    ready = time.monotonic()
    first_apply = _at(seen["revision"]["applied_at"]) - _at(seen["created_at"])
    replicas = _replicas(seen)

    _kill(stack.processes("engine"))
    killed = time.monotonic()
    _until(owner, endpoint_id, lambda shown: shown["state"] != "ready" or _replicas(shown) != replicas)
    shown_as_gone = time.monotonic()
    _until(
        owner, endpoint_id, lambda shown: shown["state"] == "ready" and _replicas(shown).isdisjoint(replicas)
    )
    back = time.monotonic()

    owner.delete(f"/endpoints/{endpoint_id}")
    asked = time.monotonic()
    wait(lambda: _is_gone(owner, endpoint_id), PATIENCE_S, lambda: "it was not deleted", LOOK_EVERY_S)
    return {
        "order_to_accepted": accepted - begun,
        "order_to_first_apply": first_apply.total_seconds(),
        "order_to_ready": ready - begun,
        "engine_killed_to_shown": shown_as_gone - killed,
        "engine_killed_to_ready_again": back - killed,
        "delete_to_released": time.monotonic() - asked,
    }


def _until(owner: Session, endpoint_id: str, there: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    seen: dict[str, Any] = {}

    def look() -> bool:
        seen.update(owner.endpoint(endpoint_id))
        return there(seen)

    wait(look, PATIENCE_S, lambda: f"it is {seen.get('state')}: {seen.get('reason')}", LOOK_EVERY_S)
    return seen


def _replicas(shown: dict[str, Any]) -> set[str]:
    return {replica["id"] for replica in shown["observed_replicas"]}


def _kill(engines: list[psutil.Process]) -> None:
    if not engines:
        raise RuntimeError("the endpoint is ready and no engine runs")
    for engine in engines:
        engine.kill()


def _is_gone(owner: Session, endpoint_id: str) -> bool:
    answer = owner.client.get(f"/api/v1/endpoints/{endpoint_id}")
    return answer.status_code == 404 or answer.json()["state"] == "deleted"


def _at(text: str) -> dt.datetime:
    return dt.datetime.fromisoformat(text)
