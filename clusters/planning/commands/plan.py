"""``python -m clusters.planning plan < problem.json``: plan one order from JSON, without a database.

The problem is an object with ``order``, ``pools`` and optionally ``quota`` and ``classes``, in the
fields of ``clusters.planning.problem``; a pool's ``gpu`` may be the name of a known GPU type. Exit
status 0 for any plan, 2 with a message for a malformed problem.
"""

from __future__ import annotations

import dataclasses
import sys
from typing import Any, BinaryIO

import msgspec

from clusters.planning.gpus import gpu_catalog
from clusters.planning.problem import Order, Pool, ProblemError, QuotaState, SloTargets
from clusters.planning.search.order import plan


@dataclasses.dataclass(frozen=True, kw_only=True)
class Problem:
    """One order and everything it is planned against."""

    order: Order
    pools: tuple[Pool, ...]
    quota: QuotaState | None = None
    classes: tuple[SloTargets, ...] = ()


def read_problem(source: BinaryIO) -> Problem:
    """Read a problem from JSON.

    Raises:
        ProblemError: it is not JSON, a field is missing, unknown or of the wrong type, or parts contradict.
    """
    try:
        document = msgspec.json.decode(source.read(), type=dict[str, Any])
        pools = document.get("pools")
        for pool in pools if isinstance(pools, list) else ():
            if isinstance(pool, dict) and isinstance(pool.get("gpu"), str):
                known = gpu_catalog().get(pool["gpu"])
                if known is None:
                    raise ProblemError("pools", f"unknown GPU type {pool['gpu']}")
                pool["gpu"] = dataclasses.asdict(known)
        return msgspec.convert(document, Problem)
    except ProblemError:
        raise
    except msgspec.MsgspecError as error:
        raise ProblemError("problem", str(error)) from error


def run(arguments: list[str]) -> int:
    """Run the command line; return the exit status."""
    if arguments:
        print("usage: python -m clusters.planning plan < problem.json > plan.json", file=sys.stderr)
        return 2
    try:
        problem = read_problem(sys.stdin.buffer)
        answer = plan(problem.order, problem.pools, quota=problem.quota, classes=problem.classes)
    except ProblemError as error:
        print(f"{error.field}: {error}", file=sys.stderr)
        return 2
    print(msgspec.json.format(msgspec.json.encode(answer), indent=2).decode())
    return 0
