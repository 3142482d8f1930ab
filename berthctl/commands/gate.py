"""The gate for pipelines: whether a change keeps SLO, cost and quality."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from berthctl import showing
from berthctl.commands.endpoints import named_values
from berthctl.failures import Exit, Failure
from berthctl.session import Session, current


@click.command()
@click.argument("name")
@click.option(
    "--change", "changes", multiple=True, metavar="NAME=VALUE", help="precision=fp8, pins.gpu=h100_sxm, …"
)
@click.option(
    "--report",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="What a replay with --json printed.",
)
@click.option("--evaluation", default=None, help="Id of a run of an evaluation set.")
@click.option("--cost-factor", default=None, help="How many times what runs a million tokens may cost.")
@click.option("--latency-factor", default=None, help="How many times those of what runs the p95s may be.")
@current
def gate(session: Session, /, name: str, changes: Sequence[str], report: Path | None, **asked: Any) -> None:
    """Ask whether a change of an endpoint keeps SLO, cost and quality.

    Exit status 1 where it does not, or where nobody knows.
    """
    body = {field: value for field, value in asked.items() if value is not None}
    if changes:
        body["change"] = named_values(changes, hint="--change")
    if report is not None:
        try:
            body["report"] = _without_answers(json.loads(report.read_text()))
        except ValueError as error:
            raise Failure(f"{report} is not JSON: {error}.", Exit.USAGE) from error
    api = session.api
    found = api.post(f"endpoints/{api.endpoint(name)['id']}:gate", body)
    session.show(found, lambda: _show(found))
    if not found["kept"]:
        raise SystemExit(Exit.REFUSED)


def _without_answers(report: Any) -> Any:
    """Leave out a report's single requests, which make it long and which nothing is judged by."""
    targets = report.get("targets") if isinstance(report, dict) else None
    if not isinstance(targets, list) or not all(isinstance(target, dict) for target in targets):
        return report
    kept = [{name: each for name, each in target.items() if name != "answers"} for target in targets]
    return {**report, "targets": kept}


def _show(found: dict[str, Any]) -> None:
    rows = [[each["name"], each["standing"], each["source"], each["message"]] for each in found["criteria"]]
    showing.table(rows, ["CRITERION", "STANDING", "BY THE", "WHY"])
