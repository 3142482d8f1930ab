"""Signing in by a management key, and choosing between installations."""

from __future__ import annotations

import dataclasses
import sys

import click

from berthctl import showing
from berthctl.contexts import TOKEN, URL, Context, normal
from berthctl.failures import Exit, Failure
from berthctl.session import Session, current


@click.command()
@click.option(
    "--url", default="", help=f"Address of the portal, for instance https://berth.example. Also {URL}."
)
@click.option("--name", default="", help="Of the context; by default the tenant's slug.")
@click.option("--key-stdin", is_flag=True, help="Read the key from the standard input.")
@click.option("--allow-http", is_flag=True, help="Send the key unencrypted to another machine.")
@current
def login(session: Session, url: str, name: str, key_stdin: bool, allow_http: bool) -> None:
    """Keep a management key, once the portal has accepted it.

    Make one in the portal under Keys, with scope management. Without a prompt it is read from BERTH_TOKEN.
    """
    url = normal(url or session.environment.get(URL, "") or _asked(session, "Address of the portal"))
    Context(url=url, token="", allow_http=allow_http).refuse_plain()  # before a key is asked for
    token = session.environment.get(TOKEN, "")
    if key_stdin:
        token = sys.stdin.readline().strip()
    elif not token:
        token = _asked(session, "Management key", hidden=True)
    context = Context(url=url, token=token, allow_http=allow_http)
    tenant = session.api_of(context).get("tenant")
    name = name or tenant["slug"]
    session.contexts.put(name, dataclasses.replace(context, tenant=tenant["slug"]))
    told = {"context": name, "url": url, "tenant": tenant["slug"]}
    session.show(told, lambda: click.echo(f"Signed in to {tenant['name']} at {url} as context {name}."))


@click.command()
@current
def logout(session: Session) -> None:
    """Forget the key of a context. The key itself stays valid: revoke it with keys revoke."""
    name = session.contexts.drop(session.context_name)
    session.show({"context": name}, lambda: click.echo(f"Forgot context {name}."))


@click.command()
@click.argument("name", default="")
@current
def contexts(session: Session, name: str) -> None:
    """List the contexts, or use NAME from now on."""
    if name:
        session.contexts.use(name)
    names, used = session.contexts.names()
    session.show(
        {"current": used, "contexts": names},
        lambda: showing.lines(f"{'*' if each == used else ' '} {each}" for each in names),
    )


@click.command()
@current
def whoami(session: Session) -> None:
    """Tell which tenant the key belongs to, and what of its quotas is used."""
    api = session.api
    tenant = api.get("tenant")

    def shown() -> None:
        showing.facts(
            {
                "tenant": tenant["name"],
                "slug": tenant["slug"],
                "at": api.context.url,
                "currency": tenant["currency"],
            }
        )
        showing.table(
            [[each["resource"], each["used"], each["limit"]] for each in tenant["quotas"]],
            ["QUOTA", "USED", "LIMIT"],
        )

    session.show(tenant, shown)


def _asked(session: Session, what: str, *, hidden: bool = False) -> str:
    if session.no_input:
        raise Failure(f"{what} is needed, and nobody can be asked: set {URL} and {TOKEN}.", Exit.USAGE)
    return str(click.prompt(what, hide_input=hidden, err=True)).strip()
