"""How the demo tells what it did."""

from __future__ import annotations

import dataclasses
import json
import textwrap
from collections import deque
from pathlib import Path

from portal.demo import accounts
from portal.demo.story import StepFailed, Told

WIDTH = 100
LABEL = 24
LOG_LINES = 30


def progress(message: str) -> None:
    """Say what happens now."""
    print(f"  · {message}", flush=True)


def table(told: Told, *, as_json: bool, stays: bool) -> None:
    """Print what was done and where to look around."""
    rows = [
        ("Tenant", told.tenant),
        ("Order", f"{told.model} · {told.slo_class} · {told.residency}  ->  endpoint {told.endpoint}"),
        ("Plan", told.plan),
        *[("Refused" if index == 0 else "", line) for index, line in enumerate(told.refusals)],
        ("Ready after", f"{told.seconds_to_ready:.1f} s (a tritonserver process, CPU, declared GPUs)"),
        ("Streamed answer", told.answer),
        ("First token", f"{told.first_token_ms:.0f} ms through the gateway"),
        ("Tokens", f"{told.input_tokens} in, {told.output_tokens} out, {told.requests} requests"),
        ("Cost by usage", f"{told.usage_cost} {told.currency}"),
        ("Cost by allocation", f"{told.allocation_cost} {told.currency}"),
        (
            "Draft statement",
            f"{float(told.statement_total):.2f} {told.currency}, {told.statement_lines} lines",
        ),
        ("FOCUS 1.2 export", f"{float(told.focus_cost):.2f} {told.currency} billed, {told.focus_rows} rows"),
        ("Portal", told.portal_url),
        ("Gateway", told.gateway_url),
        *[(f"Account: {who}", email) for who, email in told.accounts.items()],
        ("Password of all", accounts.PASSWORD),
    ]
    print("\n" + "─" * WIDTH)
    for label, text in rows:
        lines = textwrap.wrap(" ".join(text.split()), WIDTH - LABEL) or [""]
        print(f"{label:<{LABEL}}{lines[0]}")
        for line in lines[1:]:
            print(" " * LABEL + line)
    print("─" * WIDTH, flush=True)
    if stays:
        print("Berth stays up; Ctrl-C stops it.", flush=True)
    if as_json:
        print(json.dumps(dataclasses.asdict(told)), flush=True)


def failure(failed: StepFailed, logs: Path, *, as_json: bool) -> None:
    """Print which step failed and the end of the logs that tell more."""
    print(f"\nFailed: {failed.step}\n{failed.message}", flush=True)
    for name in failed.logs:
        path = logs / f"{name}.log"
        if path.exists():
            with path.open(errors="replace") as lines:
                tail = "".join(deque(lines, maxlen=LOG_LINES))
            print(f"\n── {path}\n{tail}", flush=True)
    if as_json:
        print(json.dumps({"failed": failed.step, "message": failed.message}), flush=True)
