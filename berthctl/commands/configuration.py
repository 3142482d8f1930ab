"""Configuration files: what they would change, applying them, and writing them from what there is."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import click

from berthctl.api import Api
from berthctl.failures import Exit, Failure, of_problem
from berthctl.session import Session, current

_SUFFIXES: Final = (".yaml", ".yml")
_MEDIA_TYPE: Final = "application/yaml"
_COLOURS: Final = {"+": "green", "-": "red", "@": "cyan"}

_files = click.argument("files", nargs=-1, required=True, metavar="FILE...")
_owner = click.option("--owner", default="", help="Owner label of documents that name none themselves.")
_prune = click.option("--prune", is_flag=True, help="Take away what has the owner label and is in no file.")
_take_over = click.option("--take-over", is_flag=True, help="Also what has another owner label.")


@click.command()
@_files
@_owner
@_prune
@_take_over
@click.option("--exit-code", is_flag=True, help="Exit status 6 where something differs.")
@current
def diff(
    session: Session, files: Sequence[str], owner: str, prune: bool, take_over: bool, exit_code: bool
) -> None:
    """Tell what applying FILE... would change and cost. A FILE may be a folder, or - for the standard input."""
    found = _Files(files).send(session.api, "diff", _options(owner, prune, take_over))
    session.show(found, lambda: _show(found, with_diff=True))
    if exit_code and found["differs"]:
        raise SystemExit(Exit.DIFFERS)


@click.command()
@_files
@_owner
@_prune
@_take_over
@click.option("--yes", is_flag=True, help="Apply without asking.")
@current
def apply(
    session: Session, files: Sequence[str], owner: str, prune: bool, take_over: bool, yes: bool
) -> None:
    """Apply FILE...: all of it, or where one thing is refused, nothing. The plan is shown and agreed to first."""
    sent, options, api = _Files(files), _options(owner, prune, take_over), session.api
    if not yes:
        plan = sent.send(api, "diff", options)
        if not session.as_json:
            _show(plan, with_diff=True)
        if plan["differs"]:
            session.confirm("Apply this?", yes=False)
        options["expect"] = plan["digest"]
    done = sent.send(api, "apply", options)
    session.show(done, lambda: _show(done, with_diff=yes))


@click.command()
@click.option("--kind", "kinds", multiple=True, help="Only this kind; repeat for several.")
@current
def export(session: Session, kinds: tuple[str, ...]) -> None:
    """Write what there is as configuration files. Applying it changes nothing."""
    if session.as_json:
        found = session.api.get("configuration", kind=kinds)
        session.show(found, lambda: None)
        return
    click.echo(session.api.text("configuration", accept=_MEDIA_TYPE, kind=kinds), nl=False)


def _options(owner: str, prune: bool, take_over: bool) -> dict[str, Any]:
    if prune and not owner:
        raise click.UsageError("--prune needs --owner: say whose objects may be taken away.")
    return {"owner": owner, "prune": "true" if prune else "", "take_over": "true" if take_over else ""}


class _Files:
    """Files as they are sent, one after the other, and back from a line of that to a file's own."""

    def __init__(self, names: Sequence[str]) -> None:
        self.text = b""
        self._begins: list[tuple[int, str]] = []
        for name, text in _texts(names):
            if self.text:
                self.text += b"\n---\n"
            self._begins.append((self.text.count(b"\n") + 1, name))
            self.text += text

    def send(self, api: Api, how: str, options: dict[str, Any]) -> dict[str, Any]:
        """Send them to be compared or applied."""
        try:
            found: dict[str, Any] = api.post_text(f"configuration:{how}", self.text, _MEDIA_TYPE, **options)
        except Failure as failure:
            if "problems" not in failure.document:
                raise
            problems = [self._named(each) for each in failure.document["problems"]]
            document = {**failure.document, "problems": problems}
            raise of_problem(document, status=document["status"], portal=api.context.url) from failure
        found["results"] = [self._named(each) for each in found["results"]]
        return found

    def _named(self, told: dict[str, Any]) -> dict[str, Any]:
        if not told["line"]:
            return told
        first, name = next(each for each in reversed(self._begins) if each[0] <= told["line"])
        return {**told, "source": name, "line": told["line"] - first + 1}


def _texts(names: Sequence[str]) -> Iterator[tuple[str, bytes]]:
    for name in names:
        if name == "-":
            yield "standard input", sys.stdin.buffer.read()
            continue
        path = Path(name)
        inside = (
            sorted(each for each in path.rglob("*") if each.suffix in _SUFFIXES) if path.is_dir() else [path]
        )
        if not inside:
            raise Failure(f"The folder {name} holds no {' or '.join(_SUFFIXES)} file.", Exit.USAGE)
        for each in inside:
            try:
                yield str(each), each.read_bytes()
            except OSError as error:
                raise Failure(f"{each} cannot be read: {error.strerror}.", Exit.USAGE) from error


def _show(found: dict[str, Any], *, with_diff: bool) -> None:
    counted: dict[str, int] = {}
    for each in found["results"]:
        counted[each["result"]] = counted.get(each["result"], 0) + 1
        click.echo(
            f"{each['kind']} {each['name']}: {each['result'].replace('-', ' ')}. {each['note']}".rstrip()
        )
        if with_diff:
            for line in each["diff"].splitlines():
                click.secho(line, fg=_COLOURS.get(line[:1]))
        money = each["price_per_hour"]
        if money and not (money["before"] is None and money["after"] is None):
            click.echo(
                f"  Per hour: {money['before'] or 'nothing'} -> {money['after'] or 'nothing'} {money['currency']}"
            )
    told = ", ".join(f"{number} {result.replace('-', ' ')}" for result, number in counted.items())
    click.echo(f"{'Would be' if found['dry_run'] else 'Done'}: {told or 'nothing'}.")
