"""Half an hour of kill -9: are acknowledged requests lost or billed twice, does anything stand still?

Everything runs as in the demo, with real PostgreSQL, Redis and tritonserver. A client sends requests at a steady rate
and keeps its own ledger; another orders and deletes endpoints; every few seconds a part picked at random is killed.
Run by name only: ``make bench BENCH=chaos``. ``BERTH_CHAOS_MINUTES`` sets another length, ``BERTH_CHAOS_RATE`` another
number of requests a second, ``BERTH_CHAOS_SEED`` other moments and parts.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import httpx

from bench.tools import berth, books
from bench.tools.figures import Figures
from bench.tools.ledger import Client, Line
from bench.tools.stillness import Watch
from embedded.faults import parts
from embedded.faults.errors import Refused
from portal.demo import accounts
from tests.scenarios.stack import Session, Stack, wait

ONLY_BY_NAME: Final = True
MINUTES: Final = 30.0
RATE: Final = 10.0
SEED: Final = 20
PARTS: Final = ("web", "worker", "beat", "gateway", "engine", "redis", "postgres")
#: On two cores: to start a part again takes several seconds of one.
PAUSE_S: Final = (5.0, 15.0)
KEYS: Final = 4
MODEL: Final = "steady"
SETTLE_S: Final = 120.0
STUCK_S: Final = 60.0
#: What of the figures breaks a promise when it is above its bound.
BOUNDS: Final = {
    "acknowledged_lost": 0,
    "billed_twice": 0,
    "acknowledged_with_other_counts": 0,
    "segments_unlike_log": 0,
    "endpoint_pass_s": STUCK_S,
    "endpoint_on_its_way_s": STUCK_S,
    "segment_at_gateway_s": STUCK_S,
    "usage_to_be_counted_s": STUCK_S,
    "database_away_s": STUCK_S,
    "longest_without_an_answer_s": STUCK_S,
    "not_settled_at_the_end": 0,
}
#: What of the figures breaks a promise when it is below its bound: where nothing was answered, nothing was lost.
FLOORS: Final = {"answered_share": 0.5, "endpoints_ordered_and_deleted": 1}


def broken(figures: Figures) -> list[str]:
    """Name the promises that these figures break."""
    above = [(name, f"at most {most}") for name, most in BOUNDS.items() if figures[name] > most]  # type: ignore[operator]
    below = [(name, f"at least {least}") for name, least in FLOORS.items() if figures[name] < least]  # type: ignore[operator]
    stopped = [f"orders stopped: {error}"] if (error := figures["orders_stopped"]) else []
    return [*(f"{name} is {figures[name]}, {bound}" for name, bound in (*above, *below)), *stopped]


def measure() -> Figures:
    """Carry it out; ``broken`` says which promises were not kept."""
    minutes = float(os.environ.get("BERTH_CHAOS_MINUTES", MINUTES))
    rate = float(os.environ.get("BERTH_CHAOS_RATE", RATE))
    rng = random.Random(int(os.environ.get("BERTH_CHAOS_SEED", SEED)))
    begun = os.getloadavg()[0]
    with berth.whole() as stack:
        try:
            return {"minutes": minutes, "rate_per_s": rate, "load_at_begin": begun} | _chaos(
                stack, minutes, rate, rng
            )
        finally:
            if keep := os.environ.get("BERTH_CHAOS_KEEP"):
                shutil.copytree(stack.data_dir.logs, keep, dirs_exist_ok=True)


def _chaos(stack: Stack, minutes: float, rate: float, rng: random.Random) -> Figures:
    folder = stack.data_dir.path.with_name(stack.data_dir.path.name + "-books")
    folder.mkdir()
    try:
        return _run(stack, folder, minutes, rate, rng)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _run(stack: Stack, folder: Path, minutes: float, rate: float, rng: random.Random) -> Figures:
    owner = stack.sign_in(accounts.TENANTS[0].owner)
    endpoint = owner.order(MODEL, replicas=2)
    owner.await_state(endpoint["id"], "ready", 120)
    keys = [
        owner.post("/keys", {"name": f"chaos-{number}", "scope": "inference", "project": "default"})["key"]
        for number in range(KEYS)
    ]
    wait(lambda: all(_serves(stack, key) for key in keys), 30, lambda: "the gateway does not serve it")
    watch = Watch(stack.data_dir, gateway=accounts.GATEWAY, keep=folder / "log")
    client = Client(gateway=stack.gateway, model=MODEL, keys=keys, rate=rate, ledger=folder / "ledger.jsonl")
    churn = _Churn(owner)
    for each in (watch, client, churn):
        each.start()
    kills, killed = _kill_for(minutes * 60, stack, rng, client)
    ledger = client.end()
    churn.end()
    settled = _settle(stack, folder, watch, ledger)
    watch.end()
    story = sorted([*killed, *((when, f"{what} {seconds} s") for when, what, seconds in watch.long_times)])
    (stack.data_dir.logs / "chaos.log").write_text("".join(f"{when} {what}\n" for when, what in story))
    figures = books.compare(ledger, books.records_of(folder / "log"), stack.data_dir)
    figures |= {f"killed_{part}": kills[part] for part in PARTS} | {"kills": kills.total()}
    figures |= {name: round(seconds, 1) for name, seconds in watch.longest.items()}
    figures |= {
        "longest_without_an_answer_s": round(client.longest_silence_s, 1),
        "endpoints_ordered_and_deleted": churn.rounds,
        "orders_stopped": churn.error,
        "answered_share": round(figures["acknowledged"] / max(1, figures["requests"]), 4),  # type: ignore[operator]
        "not_settled_at_the_end": int(not settled),
        "load_at_end": os.getloadavg()[0],
    }
    return figures | {"broken": "; ".join(broken(figures)) or "nothing"}


def _kill_for(
    seconds: float, stack: Stack, rng: random.Random, client: Client
) -> tuple[Counter[str], list[tuple[str, str]]]:
    """Kill and kill; give how often each part was, and when."""
    kills: Counter[str] = Counter()
    killed = []
    end = time.monotonic() + seconds
    told = time.monotonic()
    while (left := end - time.monotonic()) > 0:
        time.sleep(min(left, rng.uniform(*PAUSE_S)))
        part = rng.choice(PARTS)
        with contextlib.suppress(Refused):  # dead still from the last time
            victims = parts.find(stack.data_dir, part)
            parts.kill([rng.choice(victims)] if part == "engine" else victims)
            kills[part] += 1
            killed.append((time.strftime("%H:%M:%S"), f"killed {part}"))
        if time.monotonic() - told > 30:
            told = time.monotonic()
            print(
                f"  {end - told:.0f} s to go: {client.sent} sent, {client.acknowledged} acknowledged,"
                f" {kills.total()} kills, longest silence {client.longest_silence_s:.1f} s",
                flush=True,
            )
    return kills, killed


def _settle(stack: Stack, folder: Path, watch: Watch, ledger: list[Line]) -> bool:
    """Wait until every request is billed and every endpoint is settled; say whether it came to that."""
    deadline = time.monotonic() + SETTLE_S
    while time.monotonic() < deadline:
        time.sleep(1)
        watch.keep_logs()
        with contextlib.suppress(Exception):  # whatever is away still comes back, or the time runs out
            figures = books.compare(ledger, books.records_of(folder / "log"), stack.data_dir)
            if not figures["acknowledged_lost"] and not figures["segments_unlike_log"] and watch.at_rest:
                return True
    return False


def _serves(stack: Stack, key: str) -> bool:
    body = {"model": MODEL, "prompt": "A", "max_tokens": 1}
    with contextlib.suppress(httpx.HTTPError):
        head = {"Authorization": f"Bearer {key}"}
        return httpx.post(f"{stack.gateway}/v1/completions", json=body, headers=head).status_code == 200
    return False


class _Churn(threading.Thread):
    """Orders an endpoint, waits until it is ready, deletes it, waits until it is gone, again and again."""

    def __init__(self, owner: Session) -> None:
        super().__init__(name="churn", daemon=True)
        self._owner = owner
        self._ending = threading.Event()
        self.rounds = 0
        self.error = ""

    def end(self) -> None:
        self._ending.set()
        self.join(4 * STUCK_S)
        if self.is_alive():
            self.error = "the last one did not come to its end"

    def run(self) -> None:
        try:
            self._order_and_delete()
        except (RuntimeError, LookupError, TypeError) as error:  # told among the figures
            self.error = repr(error)

    def _order_and_delete(self) -> None:
        while not self._ending.is_set():
            name = f"churn-{uuid.uuid4().hex[:8]}"
            ordered = self._until(lambda name=name: self._order(name))  # type: ignore[misc]
            path = f"/endpoints/{ordered['id']}"
            self._until(lambda path=path: self._owner.get(path)["state"] == "ready")  # type: ignore[misc]
            self._until(lambda path=path: self._gone(path))  # type: ignore[misc]
            self.rounds += 1

    def _order(self, name: str) -> Any:
        held = self._owner.get("/endpoints", name=name)["results"]
        return held[0] if held else self._owner.order(name)

    def _gone(self, path: str) -> bool:
        state = self._owner.client.get(f"/api/v1{path}")
        if state.status_code == 404 or (state.status_code == 200 and state.json()["state"] == "deleted"):
            return True
        self._owner.delete(path)
        return False

    def _until(self, done: Callable[[], Any]) -> Any:
        """Ask until the answer is something, through every outage."""
        deadline = time.monotonic() + 3 * STUCK_S
        while time.monotonic() < deadline:
            with contextlib.suppress(AssertionError, httpx.HTTPError, ValueError):
                if found := done():
                    return found
            time.sleep(1)
        raise RuntimeError("the portal did not come to it within three minutes")
