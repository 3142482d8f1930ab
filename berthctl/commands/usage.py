"""What was used, and what it cost."""

from __future__ import annotations

import datetime as dt
import re
from typing import Any, Final

import click

from berthctl import showing
from berthctl.session import Session, current

_UNITS: Final = {"h": "hours", "d": "days", "w": "weeks"}
_GROUPS: Final = ("project", "endpoint", "api_key", "model", "slo_class", "route", "region")
_IDS: Final = {"project", "endpoint", "api_key", "route"}


@click.command()
@click.option("--since", default="7d", show_default=True, help="How far back: 24h, 7d, 4w.")
@click.option(
    "--by", "groups", multiple=True, type=click.Choice(_GROUPS), help="Apart by; repeat for several."
)
@current
def usage(session: Session, since: str, groups: tuple[str, ...]) -> None:
    """Tell requests, tokens and what they cost."""
    found = re.fullmatch(r"([1-9][0-9]{0,3})([hdw])", since)
    if found is None:
        raise click.BadParameter("write 24h, 7d or 4w", param_hint="--since")
    end = dt.datetime.now(dt.UTC).replace(minute=0, second=0, microsecond=0) + dt.timedelta(hours=1)
    start = end - dt.timedelta(**{_UNITS[found[2]]: int(found[1])})
    by = ",".join(f"{each}_id" if each in _IDS else each for each in groups)
    costs = session.api.get("costs", start=_iso(start), end=_iso(end), group_by=by)
    session.show(costs, lambda: _show(costs))


def _show(costs: dict[str, Any]) -> None:
    currency = costs["currency"]
    head = [
        "WHAT",
        "REQUESTS",
        "INPUT",
        "OUTPUT",
        "GPU HOURS",
        f"GPU TIME {currency}",
        f"TOKENS {currency}",
        f"CHARGED {currency}",
    ]
    rows = [
        _row(each["label"] or "all", each["cost"]) for bucket in costs["data"] for each in bucket["results"]
    ]
    if len(rows) != 1:
        rows.append(_row("total", costs["total"]))
    showing.table(rows, head)
    for each in costs["unpriced"]:
        click.echo(f"Without a price, and counted as 0: {each}", err=True)


def _row(label: str, cost: dict[str, Any]) -> list[Any]:
    return [
        label, cost["requests"], cost["input_tokens"], cost["output_tokens"], cost["gpu_hours"],
        cost["allocation"], cost["usage"], cost["charged"],
    ]  # fmt: skip


def _iso(moment: dt.datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
