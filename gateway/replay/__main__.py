"""The command: read a trace, send it, say how it went."""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import platform
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gateway.replay.arrivals import Run, replay
from gateway.replay.client import Target, TargetRefused
from gateway.replay.options import make_parser, targets_of
from gateway.replay.report import Goals, ReportError, make_report, read_report
from gateway.replay.table import table
from gateway.replay.trace import TracedRequest, TraceError, cut, digest, read_trace, shorten


def main(arguments: Sequence[str] | None = None) -> int:
    """Run; gives the exit status."""
    options = make_parser().parse_args(arguments)
    try:
        if options.compare:
            return _compare(options.compare)
        if options.trace is None:
            raise argparse.ArgumentTypeError("name a trace, or two reports with --compare.")
        report = _replayed(options, targets_of(options), arguments)
        if options.out is not None:
            _keep(report, options.out)
    except (TraceError, TargetRefused, ReportError, argparse.ArgumentTypeError) as error:
        print(f"gateway.replay: {error}", file=sys.stderr)
        return 2
    results = report["targets"]
    print(json.dumps(report, indent=1) if options.json else table(_named(results)))
    if options.strict and not all(result["kept_up"] for result in results):
        return 3
    return 1 if any(result["failed"] for result in results) else 0


def _replayed(
    options: argparse.Namespace, targets: Sequence[Target], arguments: Sequence[str] | None
) -> dict[str, Any]:
    goals = Goals(ttft_ms=options.ttft_ms, itl_ms=options.itl_ms)
    whole = read_trace(options.trace)
    part = shorten(
        cut(whole.requests, skip=options.skip, limit=options.limit),
        most_input=options.most_input_tokens,
        most_output=options.most_output_tokens,
    )
    if not part:
        raise TraceError(f"{options.trace} has no request after the first {options.skip}.")
    speeds = options.speed or [1.0]
    runs = asyncio.run(_at_speeds(part, speeds, targets, options))
    about = {
        "command": list(sys.argv[1:] if arguments is None else arguments),
        "host": {"python": platform.python_version(), "system": platform.platform(terse=True)},
        "trace": {
            "file": options.trace.name,
            "sha256": hashlib.sha256(options.trace.read_bytes()).hexdigest(),
            "notes": whole.notes,
            "digest": digest(part),
            "requests": len(part),
            "seconds": round(part[-1].at_s, 3),
            "mean_input_tokens": round(sum(each.input_tokens for each in part) / len(part), 3),
            "mean_output_tokens": round(sum(each.output_tokens for each in part) / len(part), 3),
        },
        "warm_up": options.warm_up,
        "together": options.together,
        "timeout_s": options.timeout,
    }
    return make_report(runs, goals=goals, about=about)


async def _at_speeds(
    trace: Sequence[TracedRequest],
    speeds: Sequence[float],
    targets: Sequence[Target],
    options: argparse.Namespace,
) -> list[tuple[float, Run]]:
    runs: list[tuple[float, Run]] = []
    for speed in speeds:
        made = await replay(
            cut(trace, speed=speed), targets,
            timeout_s=options.timeout, warm_up=options.warm_up, together=options.together,
        )  # fmt: skip
        runs += [(speed, run) for run in made]
    return runs


def _compare(paths: Sequence[Path]) -> int:
    reports = []
    for path in paths:
        try:
            reports.append(read_report(path.read_bytes(), str(path)))
        except OSError as error:
            raise ReportError(f"{path} cannot be read: {error.strerror}") from None
    results = [
        {**result, "target": f"{path.stem}: {result['target']}"}
        for path, report in zip(paths, reports, strict=True)
        for result in report["targets"]
    ]
    print(table(_named(results)))
    if len({report["trace"]["digest"] for report in reports}) > 1:
        print("The reports are of different traces: their figures say nothing about each other.")
    return 0


def _named(results: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Tell results of one target at several speeds apart."""
    if len({result["speed"] for result in results}) == 1:
        return list(results)
    return [{**result, "target": f"{result['target']} x{result['speed']:g}"} for result in results]


def _keep(report: dict[str, Any], path: Path) -> None:
    try:
        path.write_text(json.dumps(report, separators=(",", ":")) + "\n", encoding="utf-8")
    except OSError as error:
        raise ReportError(f"{path} cannot be written: {error.strerror}") from None


if __name__ == "__main__":
    sys.exit(main())
