"""Keys: listed, made, rotated, revoked."""

from __future__ import annotations

import contextlib
import uuid
from typing import Any

import click

from berthctl import showing
from berthctl.api import Api
from berthctl.failures import Exit, Failure
from berthctl.session import Session, current


@click.group()
def keys() -> None:
    """Keys by which applications call models and programs the API."""


@keys.command("list")
@current
def listed(session: Session) -> None:
    """List the keys that may be seen."""
    found = list(session.api.pages("keys"))
    rows = [
        [
            each["name"],
            each["scope"],
            each["project"] or each["role"],
            each["hint"],
            each["state"],
            each["expires_at"] or "never",
        ]
        for each in found
    ]
    session.show(found, lambda: showing.table(rows, ["NAME", "SCOPE", "OF", "BEGINS", "STATE", "EXPIRES"]))


@keys.command()
@click.argument("name")
@click.option(
    "--scope", type=click.Choice(["inference", "management"]), default="inference", show_default=True
)
@click.option("--project", default=None, help="Slug; of an inference key.")
@click.option("--role", default=None, help="Of a management key.")
@click.option("--expires-at", default=None, help="ISO 8601; by default in 90 days.")
@current
def make(
    session: Session, name: str, scope: str, project: str | None, role: str | None, expires_at: str | None
) -> None:
    """Make a key called NAME. Its text is written once, alone on a line, and kept nowhere."""
    asked = {"name": name, "scope": scope, "project": project, "role": role, "expires_at": expires_at}
    made = session.api.post("keys", {name: value for name, value in asked.items() if value is not None})
    session.show(made, lambda: click.echo(made["key"]))


@keys.command()
@click.argument("name")
@current
def rotate(session: Session, name: str) -> None:
    """Put another key in the place of NAME (or its id); the old one works on for a while."""
    api = session.api
    made = api.post(f"keys/{_found(api, name)['id']}:rotate")
    session.show(made, lambda: click.echo(made["key"]))


@keys.command()
@click.argument("name")
@click.option("--yes", is_flag=True, help="Revoke without asking.")
@current
def revoke(session: Session, name: str, yes: bool) -> None:
    """End the key NAME (or its id) at once and for ever."""
    api = session.api
    found = _found(api, name)
    session.confirm(
        f"Revoke {found['name']} ({found['hint']}…)? Whoever uses it is refused at once.", yes=yes
    )
    ended = api.post(f"keys/{found['id']}:revoke")
    session.show(ended, lambda: click.echo(f"{found['name']} is revoked."))


def _found(api: Api, name: str) -> dict[str, Any]:
    """Find the one active key of a name, or the key of an id."""
    with contextlib.suppress(ValueError):
        one: dict[str, Any] = api.get(f"keys/{uuid.UUID(name)}")
        return one
    found = [each for each in api.pages("keys") if each["name"] == name and each["state"] == "active"]
    if not found:
        raise Failure(f"There is no active key {name}. Run: berthctl keys list", Exit.NOT_FOUND)
    if len(found) > 1:
        ids = ", ".join(each["id"] for each in found)
        raise Failure(f"{len(found)} keys are called {name}; name one by its id: {ids}", Exit.USAGE)
    return found[0]
