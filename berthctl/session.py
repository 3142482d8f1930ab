"""What every command has at hand: options of the whole program, the API, and asking people."""

from __future__ import annotations

import dataclasses
import os
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

import click
import httpx

from berthctl import showing
from berthctl.api import Api
from berthctl.contexts import Context, Contexts
from berthctl.failures import Exit, Failure


@dataclasses.dataclass
class Session:
    """One run of the program. Tests pass in the transport, the environment and the clock."""

    environment: Mapping[str, str] = dataclasses.field(default_factory=lambda: os.environ)
    transport: httpx.BaseTransport | None = None
    sleep: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.monotonic
    context_name: str = ""
    as_json: bool = False
    no_input: bool = False
    timeout_s: float = 60.0

    @property
    def contexts(self) -> Contexts:
        return Contexts(self.environment)

    @property
    def api(self) -> Api:
        """The API as the chosen context asks it."""
        return self.api_of(self.contexts.chosen(self.context_name))

    def api_of(self, context: Context) -> Api:
        """The API as ``context`` asks it.

        Raises:
            Failure: others could read the key on its way.
        """
        context.refuse_plain()
        return Api(
            context=context,
            timeout_s=self.timeout_s,
            transport=self.transport,
            sleep=self.sleep,
            say=self.say,
        )

    def say(self, text: str) -> None:
        """Tell people something that is no result."""
        click.echo(text, err=True)

    def show(self, value: Any, otherwise: Callable[[], None]) -> None:
        """Write a result: as JSON where that is asked for."""
        if self.as_json:
            showing.as_json(value)
        else:
            otherwise()

    def confirm(self, question: str, *, yes: bool) -> None:
        """Go on only when somebody agrees; ``yes``: they did beforehand.

        Raises:
            Failure: nobody does, or nobody can be asked.
        """
        if yes:
            return
        if self.no_input or not sys.stdin.isatty():
            raise Failure(f"{question} Nobody can be asked here: add --yes to agree.", Exit.USAGE)
        if not click.confirm(question, err=True):
            raise Failure("Nothing was done.", Exit.REFUSED)


current = click.make_pass_decorator(Session)
