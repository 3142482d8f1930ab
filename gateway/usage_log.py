"""``python -m gateway.usage_log DIR``: totals of a gateway's local usage log and spool, as JSON.

``DIR`` is ``<data folder>/gateway/<name>``. Reads only, so that it may run beside the gateway. With
``--trace ENDPOINT`` it prints when requests to that endpoint came and how long they were, as far back as the log is
kept: a trace for ``python -m gateway.replay``.
"""

from __future__ import annotations

import argparse
import csv
import datetime as dt
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from gateway.contract import Outcome
from gateway.metering.log import Position, log_files, read_log
from gateway.metering.records import Totals
from gateway.metering.spool import cut_files, read_spool


def summarize(folder: Path) -> dict[str, Any]:
    """Sum up all requests ever metered in ``folder`` by outcome, and what still waits."""
    shipped, waiting = read_spool(folder)
    last = waiting[-1] if waiting else shipped
    by_outcome = {outcome: msgspec.structs.replace(sums) for outcome, sums in last.totals.items()}
    uncut = Totals()
    active = max(log_files(folder / "log"), default=None)
    for records, _ in read_log(folder / "log", last.position, active=active):
        for record in records:
            uncut.add(record)
            by_outcome.setdefault(record.outcome.value, Totals()).add(record)
    total = Totals()
    for sums in by_outcome.values():
        total.add(sums)
    return {
        "total": msgspec.to_builtins(total),
        "by_outcome": msgspec.to_builtins(by_outcome),
        "uncut": msgspec.to_builtins(uncut),
        "unacknowledged_segments": sum(len(cut.segments) for cut in waiting),
        "next_sequence": last.next_sequence,
        "refused_segments": len(cut_files(folder / "refused")),
    }


def trace(folder: Path, endpoint_id: str) -> Iterator[tuple[str, int, int, int]]:
    """Give moment and lengths of each request to an endpoint that was answered, in the order of the log."""
    active = max(log_files(folder / "log"), default=None)
    for records, _ in read_log(folder / "log", Position(), active=active):
        for record in records:
            if record.endpoint_id == endpoint_id and record.outcome in (Outcome.COMPLETED, Outcome.CANCELLED):
                came = dt.datetime.fromtimestamp(record.ended_at - record.duration_ms / 1000, dt.UTC)
                yield (
                    came.isoformat(sep=" ", timespec="milliseconds"),
                    record.input_tokens,
                    record.output_tokens,
                    record.cached_tokens,
                )


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the summary of one folder."""
    parser = argparse.ArgumentParser(prog="python -m gateway.usage_log", description=__doc__)
    parser.add_argument("folder", type=Path, metavar="DIR")
    parser.add_argument(
        "--trace", metavar="ENDPOINT", help="print a trace of the endpoint of that id instead"
    )
    options = parser.parse_args(arguments)
    folder = options.folder
    if not (folder / "log").is_dir():
        parser.error(f"{folder} holds no usage log; give <data folder>/gateway/<name>")
    if options.trace is None:
        print(json.dumps(summarize(folder), indent=2))
        return
    rows = csv.writer(sys.stdout, lineterminator="\n")
    rows.writerow(["TIMESTAMP", "ContextTokens", "GeneratedTokens", "CachedTokens"])
    rows.writerows(trace(folder, options.trace))


if __name__ == "__main__":
    main()
