"""How long does a change of what serves take, and is a request lost meanwhile?

Everything runs as in the demo, with real tritonservers. While a client asks at a steady rate, an endpoint's context
cap is lowered, which makes a new revision: it starts, gets its canary steps, is judged and promoted. Then the same is
undone by hand in the middle of its canary. The class's steps are shortened; the gate is as shipped.
Run by name only: ``make bench BENCH=rollout``. ``BERTH_ROLLOUT_RATE`` sets another number of requests a second.
"""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path
from typing import Any, Final

from bench.tools import berth
from bench.tools.change import await_serving, set_class
from bench.tools.figures import Figures
from bench.tools.ledger import Client
from portal.demo import accounts
from tests.scenarios.stack import Session, Stack

ONLY_BY_NAME: Final = True
RATE: Final = 6.0
MODEL: Final = "changing"
STEPS: Final = (25, 50)
STEP_S: Final = 15
#: The fewest that the class may ask for, of either revision in a step.
REQUESTS: Final = 60
PATIENCE_S: Final = 600.0
ACTIVE: Final = ("waiting", "starting", "evaluating", "canary")


def broken(figures: Figures) -> list[str]:
    """Name the promises that these figures break."""
    wrong = [f"{figures['lost']} requests were lost"] if figures["lost"] else []
    if figures["ended_as"] != "promoted":
        wrong.append(f"the change ended as {figures['ended_as']}: {figures['why']}")
    return wrong


def measure() -> Figures:
    """Promote one change and undo another under traffic."""
    rate = float(os.environ.get("BERTH_ROLLOUT_RATE", RATE))
    begun = os.getloadavg()[0]
    with berth.whole() as stack:
        folder = stack.data_dir.path.with_name(stack.data_dir.path.name + "-ledger")
        folder.mkdir()
        try:
            return {"rate_per_s": rate, "load_at_begin": begun} | _run(stack, folder, rate)
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _run(stack: Stack, folder: Path, rate: float) -> Figures:
    set_class(
        stack.data_dir,
        "standard",
        rollout_steps=list(STEPS),
        rollout_step_s=STEP_S,
        rollout_requests=REQUESTS,
    )
    owner = stack.sign_in(accounts.TENANTS[0].owner)
    endpoint = owner.order(MODEL, replicas=1, context_tokens=1024, output_limit=64)
    owner.await_state(endpoint["id"], "ready", 240)
    key = owner.inference_key()
    await_serving(stack, MODEL, key)
    path = f"/endpoints/{endpoint['id']}"
    client = Client(gateway=stack.gateway, model=MODEL, keys=[key], rate=rate, ledger=folder / "ledger.jsonl")
    client.start()
    promoted = _follow(owner, path, context_tokens=512, until=None)
    undone = _follow(owner, path, context_tokens=256, until="canary")
    lines = client.end()
    lost = [line for line in lines if not line.acknowledged]
    return {
        "steps_percent": ", ".join(map(str, STEPS)),
        "step_s": STEP_S,
        "accepted_to_canary_s": promoted["canary_s"],
        "accepted_to_promoted_s": promoted["ended_s"],
        "ended_as": promoted["phase"],
        "why": promoted["reason"] or "nothing was worse",
        "rolled_back_by_hand_as": undone["phase"],
        "rollback_asked_to_ended_s": undone["rollback_s"],
        "requests": len(lines),
        "lost": len(lost),
        "lost_because": "; ".join(sorted({line.error or str(line.status) for line in lost}))[:300] or "none",
        "longest_without_an_answer_s": round(client.longest_silence_s, 1),
        "load_at_end": os.getloadavg()[0],
    }


def _follow(owner: Session, path: str, *, context_tokens: int, until: str | None) -> dict[str, Any]:
    """Ask for a change and watch it to its end; where it comes to ``until``, take it back by hand."""
    asked = time.monotonic()
    owner.post(f"{path}:change", {"context_tokens": context_tokens})
    seen: dict[str, Any] = {"canary_s": None, "rollback_s": None}
    rolled_back: float | None = None
    while time.monotonic() - asked < PATIENCE_S:
        rollout = owner.get(f"{path}/rollouts")["results"][0]
        now = time.monotonic()
        if rollout["phase"] == "canary" and seen["canary_s"] is None:
            seen["canary_s"] = round(now - asked, 1)
        if rollout["phase"] == until and rolled_back is None:
            rolled_back = now
            owner.post(f"{path}/rollouts/{rollout['id']}:rollback")
        if rollout["phase"] not in ACTIVE:
            seen |= {"phase": rollout["phase"], "reason": rollout["reason"], "ended_s": round(now - asked, 1)}
            if rolled_back is not None:
                seen["rollback_s"] = round(now - rolled_back, 1)
            return seen
        time.sleep(0.5)
    raise RuntimeError(f"the change did not end within {PATIENCE_S:g} s: {rollout}")
