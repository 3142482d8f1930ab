"""``python -m clusters.planning calibrate [ROWS.csv ...] > calibration.json``: fit the performance model to rows.

Without files the shipped rows are fitted, which gives the shipped calibration again. With files the rows are those
of the files alone; name the shipped ``data/measured_serving.csv`` among them to add to it. The columns are told in
``clusters.planning.performance.measurements``. Exit status 2 with a message for rows that cannot be used.
"""

from __future__ import annotations

import importlib.resources
import sys
from importlib.resources.abc import Traversable
from pathlib import Path

import msgspec

from clusters.planning.performance.calibration import calibrate
from clusters.planning.performance.measurements import MeasurementError, read_measurements


def run(arguments: list[str]) -> int:
    """Run the command line; return the exit status."""
    if any(argument.startswith("-") for argument in arguments):
        print(
            "usage: python -m clusters.planning calibrate [ROWS.csv ...] > calibration.json", file=sys.stderr
        )
        return 2
    shipped = importlib.resources.files("clusters.planning").joinpath("data/measured_serving.csv")
    sources: list[Traversable] = [Path(argument) for argument in arguments] or [shipped]
    rows = []
    for source in sources:
        try:
            rows += read_measurements(source.read_text("utf-8").splitlines())
        except (OSError, MeasurementError) as error:
            print(f"{source}: {error}", file=sys.stderr)
            return 2
    try:
        calibration = calibrate(rows)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    print(msgspec.json.format(msgspec.json.encode(calibration), indent=1).decode())
    return 0
