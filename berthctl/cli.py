"""The program: its options, its commands, and how it ends."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import click
from click.shell_completion import get_completion_class

from berthctl import __version__, showing
from berthctl.commands import configuration, endpoints, gate, rollouts, signing_in, usage
from berthctl.commands.keys import keys
from berthctl.failures import Failure
from berthctl.session import Session

PROGRAM = "berthctl"
_EPILOG = """Exit status: 0 done; 1 refused or failed; 2 wrong usage; 3 not signed in; 4 not found; 5 not reachable;
6 something differs (diff --exit-code); 7 not ready (--wait-ready)."""


class Program(click.Group):
    """Writes failures as JSON, too, where that is asked for."""

    def invoke(self, context: click.Context) -> Any:
        try:
            return super().invoke(context)
        except Failure as failure:
            session = context.find_object(Session)
            if session is not None and session.as_json:
                showing.as_json({"error": failure.document, "exit_status": failure.exit_code})
                context.exit(failure.exit_code)
            raise


@click.group(cls=Program, epilog=_EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--context", "context_name", default="", help="Of which installation and tenant; see contexts.")
@click.option("--json", "as_json", is_flag=True, help="Write results, and failures, as JSON.")
@click.option("--no-input", is_flag=True, help="Ask nobody anything: fail instead.")
@click.option(
    "--timeout", "timeout_s", type=float, default=60.0, show_default=True, help="Seconds for one answer."
)
@click.version_option(__version__, prog_name=PROGRAM)
@click.pass_context
def program(
    context: click.Context, context_name: str, as_json: bool, no_input: bool, timeout_s: float
) -> None:
    """Order and look after endpoints of a Berth installation.

    Sign in once with berthctl login; or set BERTH_URL and BERTH_TOKEN.
    """
    session = context.ensure_object(Session)
    session.context_name, session.as_json = context_name, as_json
    session.no_input, session.timeout_s = no_input, timeout_s


@program.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Write what makes a shell complete commands and options.

    For bash: berthctl completion bash > ~/.local/share/bash-completion/completions/berthctl
    """
    found = get_completion_class(shell)
    assert found is not None
    click.echo(found(program, {}, PROGRAM, "_BERTHCTL_COMPLETE").source())


for _command in (
    signing_in.login, signing_in.logout, signing_in.contexts, signing_in.whoami,
    endpoints.plan, endpoints.order, endpoints.status, endpoints.scale, endpoints.pause, endpoints.resume,
    endpoints.delete, endpoints.logs, rollouts.rollouts, rollouts.promote, rollouts.rollback,
    gate.gate, keys, usage.usage,
    configuration.diff, configuration.apply, configuration.export,
):  # fmt: skip
    program.add_command(_command)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the program and end it with its exit status."""
    program.main(list(arguments) if arguments is not None else sys.argv[1:], prog_name=PROGRAM)
