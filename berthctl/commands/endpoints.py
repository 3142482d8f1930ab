"""Endpoints: planning, ordering, looking, scaling, pausing, deleting, logs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Final

import click

from berthctl import showing
from berthctl.failures import Exit, Failure
from berthctl.session import Session, current

#: States in which waiting for an endpoint to be ready ends.
_READY: Final = ("ready", "degraded")
_OVER: Final = ("failed", "deleted", "deleting", "paused")
_LOOK_S: Final = 2.0

_ORDER_OPTIONS: Final = (
    click.option("--model", required=True, help="Name in the catalog."),
    click.option("--class", "slo_class", required=True, help="SLO class: interactive, standard, batch, …"),
    click.option("--residency", default=None, help="global, zone:EU or region:eu-de-1."),
    click.option(
        "--certification", "certifications", multiple=True, help="That the place must hold; repeat."
    ),
    click.option("--near", default=None, help="Region or zone that is preferred."),
    click.option("--profile", default=None, help="Named shape of load: chat, …"),
    click.option("--rps", "requests_per_second", type=float, default=None, help="Mean requests per second."),
    click.option("--input-tokens", type=int, default=None, help="Mean length of requests."),
    click.option("--output-tokens", type=int, default=None, help="Mean length of answers."),
    click.option("--context-tokens", type=int, default=None, help="Longest request with its answer."),
    click.option("--replicas", type=int, default=None, help="Without it the load decides."),
    click.option(
        "--pin", "pins", multiple=True, metavar="NAME=VALUE", help="gpu, cluster, precision, tp, pp, …"
    ),
)


def _order_options(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in reversed(_ORDER_OPTIONS):
        command = option(command)
    return command


def _body(asked: dict[str, Any]) -> dict[str, Any]:
    pins = named_values(asked.pop("pins"), hint="--pin")
    body = {name: value for name, value in asked.items() if value not in (None, ())}
    if "certifications" in body:
        body["certifications"] = list(body["certifications"])
    return body | ({"pins": pins} if pins else {})


def named_values(texts: Iterable[str], *, hint: str) -> dict[str, Any]:
    """Read NAME=VALUE, and OUTER.NAME=VALUE as what stands inside."""
    found: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise click.BadParameter(f"{text}: write NAME=VALUE", param_hint=hint)
        outer, dot, inner = name.partition(".")
        place = found.setdefault(outer, {}) if dot else found
        place[inner or name] = int(value) if value.isdigit() else value
    return found


@click.command()
@_order_options
@click.option("--project", default=None, help="Slug; its budgets count.")
@current
def plan(session: Session, /, **asked: Any) -> None:
    """Ask where an order would run, how fast and for how much. Nothing is ordered.

    Exit status 1 where it cannot be placed at all.
    """
    found = session.api.post("endpoints:plan", _body(asked))
    session.show(found, lambda: _show_plan(found))
    if found["status"] in ("impossible", "over_quota"):
        raise SystemExit(Exit.REFUSED)


@click.command()
@click.argument("name")
@_order_options
@click.option("--project", required=True, help="Slug.")
@click.option("--yes", is_flag=True, help="Order without asking.")
@click.option("--wait-ready", is_flag=True, help="Wait until it serves.")
@click.option("--wait-s", type=float, default=1800, show_default=True, help="How long to wait at most.")
@current
def order(session: Session, /, name: str, yes: bool, wait_ready: bool, wait_s: float, **asked: Any) -> None:
    """Order an endpoint called NAME, after its plan was shown and agreed to."""
    body = _body(asked)
    api = session.api
    if not yes:
        found = api.post("endpoints:plan", body)
        if not session.as_json:
            _show_plan(found)
        session.confirm(f"Order {name}?", yes=False)
    made = api.post("endpoints", {**body, "name": name})
    if wait_ready:
        made = _wait(session, made, wait_s)
    session.show(made, lambda: _show_one(made))


@click.command()
@click.argument("name", default="")
@click.option("--watch", is_flag=True, help="Go on looking until interrupted; tell what changes.")
@click.option("--wait-ready", is_flag=True, help="Wait until it serves; exit status 7 when it does not.")
@click.option("--wait-s", type=float, default=1800, show_default=True, help="How long to wait at most.")
@current
def status(session: Session, name: str, watch: bool, wait_ready: bool, wait_s: float) -> None:
    """Tell how an endpoint stands, or without NAME how all do."""
    if not name:
        if watch or wait_ready:
            raise click.UsageError("Say of which endpoint.")
        found = list(session.api.pages("endpoints"))
        session.show(found, lambda: _show_all(found))
        return
    one = session.api.endpoint(name)
    if wait_ready:
        one = _wait(session, one, wait_s)
    session.show(one, lambda: _show_one(one))
    if watch:
        _watch(session, one)


@click.command()
@click.argument("name")
@click.argument("replicas", type=int)
@current
def scale(session: Session, name: str, replicas: int) -> None:
    """Give an endpoint so many replicas."""
    api = session.api
    changed = api.patch(f"endpoints/{api.endpoint(name)['id']}", {"replicas": replicas})
    session.show(changed, lambda: _show_one(changed))


@click.command()
@click.argument("name")
@current
def pause(session: Session, name: str) -> None:
    """Release an endpoint's GPUs and keep its order."""
    _do(session, name, "pause")


@click.command()
@click.argument("name")
@current
def resume(session: Session, name: str) -> None:
    """Serve again after a pause."""
    _do(session, name, "resume")


@click.command()
@click.argument("name")
@click.option("--yes", is_flag=True, help="Delete without asking.")
@current
def delete(session: Session, name: str, yes: bool) -> None:
    """Ask for an endpoint's end."""
    api = session.api
    found = api.endpoint(name)
    session.confirm(f"Delete {name}? Its address stops answering.", yes=yes)
    api.delete(f"endpoints/{found['id']}")
    session.show({"deleted": name}, lambda: click.echo(f"The end of {name} is asked for."))


@click.command()
@click.argument("name")
@click.option("--replica", default="", help="Its id; by default the newest.")
@click.option("--lines", type=int, default=100, show_default=True)
@current
def logs(session: Session, name: str, replica: str, lines: int) -> None:
    """Show the last lines of an engine's own log."""
    api = session.api
    found = api.get(f"endpoints/{api.endpoint(name)['id']}/logs", replica=replica, lines=lines)
    session.show(found, lambda: showing.lines(found["lines"]))


def _do(session: Session, name: str, verb: str) -> None:
    api = session.api
    changed = api.post(f"endpoints/{api.endpoint(name)['id']}:{verb}")
    session.show(changed, lambda: _show_one(changed))


def _wait(session: Session, endpoint: dict[str, Any], wait_s: float) -> dict[str, Any]:
    until, api, said = session.clock() + wait_s, session.api, ""
    while endpoint["state"] not in _READY:
        if endpoint["state"] in _OVER or session.clock() >= until:
            raise Failure(
                f"{endpoint['name']} is {endpoint['state']}: {endpoint['reason']} {endpoint['next_action']}".strip(),
                Exit.NOT_READY,
                endpoint,
            )
        if endpoint["state"] != said:
            said = endpoint["state"]
            session.say(f"{endpoint['name']} is {said}…")
        session.sleep(_LOOK_S)
        endpoint = api.get(f"endpoints/{endpoint['id']}")
    return endpoint


def _watch(session: Session, endpoint: dict[str, Any]) -> None:
    api, seen = session.api, _brief(endpoint)
    while endpoint["state"] != "deleted":
        session.sleep(_LOOK_S)
        endpoint = api.get(f"endpoints/{endpoint['id']}")
        if _brief(endpoint) != seen:
            seen = _brief(endpoint)
            moment = time.strftime("%H:%M:%S")
            line = f"{moment}  {endpoint['state']}  {len(endpoint['observed_replicas'])} replicas  {endpoint['reason']}"
            session.show(endpoint, partial(click.echo, line.rstrip()))


def _brief(endpoint: dict[str, Any]) -> tuple[Any, ...]:
    return endpoint["state"], endpoint["reason"], len(endpoint["observed_replicas"])


def _show_all(endpoints: list[dict[str, Any]]) -> None:
    rows = [
        [each["name"], each["project"], each["model"], each["slo_class"], each["state"], each["reason"]]
        for each in endpoints
    ]
    showing.table(rows, ["NAME", "PROJECT", "MODEL", "CLASS", "STATE", "REASON"])


def _show_one(endpoint: dict[str, Any]) -> None:
    approval = endpoint.get("approval") or {}
    showing.facts(
        {
            "endpoint": endpoint["name"],
            "state": endpoint["state"],
            "reason": endpoint["reason"],
            "what next": endpoint["next_action"],
            "project": endpoint["project"],
            "model": endpoint["model"],
            "class": endpoint["slo_class"],
            "residency": endpoint["residency"],
            "replicas": f"{len(endpoint['observed_replicas'])} seen",
            "approval": approval.get("state") if approval.get("state") == "pending" else "",
            "call it at": ", ".join(each["base_url"] for each in endpoint["urls"]),
        }
    )


def _show_plan(found: dict[str, Any]) -> None:
    chosen = found.get("configuration") or {}
    currency = found["currency"]
    showing.facts(
        {
            "plan": found["status"].replace("_", " "),
            "": found["message"],
            "where": " ".join(str(chosen.get(name, "")) for name in ("cluster", "region")).strip(),
            "what": f"{chosen['replicas']} x {chosen['gpu']} in {chosen['precision']}" if chosen else "",
            "first token p95": f"{chosen['ttft_p95_ms']:g} ms"
            if chosen.get("ttft_p95_ms") is not None
            else "",
            "per hour": f"{chosen['price_per_hour']} {currency}" if chosen else "",
            "per million tokens": f"{chosen['price_per_million_tokens']} {currency}" if chosen else "",
            "needs approval": "; ".join(each["reason"] for each in found["approvals"]),
        }
    )
    if found["refusals"] and not chosen:
        showing.table(
            [[each["gpu"], ", ".join(each["clusters"]), each["message"]] for each in found["refusals"]],
            ["REFUSED", "CLUSTERS", "WHY"],
        )
