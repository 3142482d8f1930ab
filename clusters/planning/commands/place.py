"""``python -m clusters.planning place [--limit SECONDS] < problem.json > plan.json``: place a fleet.

The fields are those of ``clusters.planning.placement.fleet``. Exit status 0 for any plan, also one that leaves
everything unplaced, 2 with a message for a malformed problem.
"""

from __future__ import annotations

import argparse
import sys

from clusters.planning.placement.documents import plan_to_json, problem_from_json
from clusters.planning.placement.solve import LIMIT_S, solve
from clusters.planning.problem import ProblemError


def run(arguments: list[str]) -> int:
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m clusters.planning place", description=__doc__)
    parser.add_argument("--limit", type=_seconds, default=LIMIT_S, metavar="SECONDS")
    try:
        limit_s = parser.parse_args(arguments).limit
    except SystemExit as ended:
        return int(ended.code or 0)
    try:
        problem = problem_from_json(sys.stdin.buffer.read())
    except ProblemError as error:
        print(f"{error.field}: {error}", file=sys.stderr)
        return 2
    sys.stdout.buffer.write(plan_to_json(solve(problem, limit_s)) + b"\n")
    return 0


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 <= seconds < 1e9:
        raise argparse.ArgumentTypeError(f"{text} is not a number of seconds")
    return seconds
