"""Rollouts of an endpoint's changes: looking, promoting, going back."""

from __future__ import annotations

from typing import Any, Final

import click

from berthctl import showing
from berthctl.api import Api
from berthctl.failures import Exit, Failure
from berthctl.session import Session, current

_ACTIVE: Final = ("waiting", "starting", "evaluating", "canary")


@click.command()
@click.argument("name")
@current
def rollouts(session: Session, name: str) -> None:
    """List the rollouts of an endpoint, newest first."""
    api = session.api
    found = list(api.pages(f"endpoints/{api.endpoint(name)['id']}/rollouts"))
    rows = [
        [each["started_at"], each["phase"], f"{each['before']} -> {each['revision'] or '?'}", f"{each['weight']} %",
         each["way"], each["reason"] or each["what"]]
        for each in found
    ]  # fmt: skip
    session.show(
        found, lambda: showing.table(rows, ["STARTED", "PHASE", "REVISION", "REQUESTS", "WAY", "WHY"])
    )


@click.command()
@click.argument("name")
@click.option("--yes", is_flag=True, help="Promote without asking.")
@current
def promote(session: Session, name: str, yes: bool) -> None:
    """Let the new revision of an endpoint serve alone now, whatever the gate would say."""
    _decide(session, name, "promote", "Promote it, whatever its numbers say?", yes=yes)


@click.command()
@click.argument("name")
@click.option("--yes", is_flag=True, help="Go back without asking.")
@current
def rollback(session: Session, name: str, yes: bool) -> None:
    """Go back to what an endpoint ran before, and to its order as it was."""
    _decide(session, name, "rollback", "Go back to what ran before?", yes=yes)


def _decide(session: Session, name: str, verb: str, question: str, *, yes: bool) -> None:
    api = session.api
    endpoint = api.endpoint(name)
    rollout = _active(api, endpoint)
    session.confirm(f"{name}: {rollout['what']} {question}", yes=yes)
    changed = api.post(f"endpoints/{endpoint['id']}/rollouts/{rollout['id']}:{verb}")
    session.show(changed, lambda: click.echo(f"{name} is {changed['state']}. {changed['reason']}".strip()))


def _active(api: Api, endpoint: dict[str, Any]) -> dict[str, Any]:
    newest: dict[str, Any] | None = next(api.pages(f"endpoints/{endpoint['id']}/rollouts"), None)
    if newest is None or newest["phase"] not in _ACTIVE:
        raise Failure(f"No rollout of {endpoint['name']} is under way.", Exit.NOT_FOUND)
    return newest
