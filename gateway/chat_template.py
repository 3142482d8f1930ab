"""Chat templates: Jinja in a sandbox, compiled once per text."""

from __future__ import annotations

import datetime as dt
import functools
from collections.abc import Sequence
from typing import NoReturn

import jinja2
import jinja2.ext
import jinja2.sandbox

from gateway import errors
from gateway.contract import Endpoint
from gateway.requests import ChatMessage


class _Refused(Exception):
    """The template itself turned the messages away, by its function ``raise_exception``."""


def _raise_exception(message: object) -> NoReturn:
    raise _Refused(str(message)[:300])


def _strftime_now(form: str) -> str:
    return dt.datetime.now(dt.UTC).strftime(form)


# The two globals are those that published chat templates expect to find.
_environment = jinja2.sandbox.ImmutableSandboxedEnvironment(
    trim_blocks=True, lstrip_blocks=True, extensions=[jinja2.ext.loopcontrols]
)
_environment.globals["raise_exception"] = _raise_exception
_environment.globals["strftime_now"] = _strftime_now
_globals = dict(_environment.globals)


@functools.lru_cache(maxsize=1024)
def _compiled(text: str) -> jinja2.Template:
    return _environment.from_string(text)


def render(endpoint: Endpoint, messages: Sequence[ChatMessage]) -> str:
    """Make the prompt of a chat, with the opening of the assistant's turn.

    Raises:
        ApiError: the template turns the messages away (400), or is itself wrong (500).
    """
    try:
        template = _compiled(endpoint.chat_template)
        # Shared, because ``render`` copies the globals anew for each prompt, which takes longer than all the rest.
        context = template.new_context(
            {
                **_globals,
                "messages": [{"role": message.role, "content": message.content} for message in messages],
                "add_generation_prompt": True,
            },
            shared=True,
        )
        return "".join(template.root_render_func(context))
    except _Refused as error:
        raise errors.invalid(
            f"The chat template of endpoint {endpoint.name} does not take these messages: {error}",
            param="messages",
        ) from error
    except Exception as error:
        # A template is data from the catalog: what it does wrong is never the client's fault.
        raise errors.ApiError(
            status=500,
            message=f"The chat template of endpoint {endpoint.name} cannot be used; tell its operator.",
            type="server_error",
            code="chat_template_error",
        ) from error
