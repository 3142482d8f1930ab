"""The outermost layer: requests that are too large are refused before they are read, all answers get their headers.

Django keeps a whole body before it asks a view, so that a limit inside a view comes too late. This one counts what
arrives, with or without a Content-Length, and stops reading at the limit of the path.

Where pages asked for over plain http are sent to https, programs are refused: a client that follows a redirect would
go on sending its key in the open.
"""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable
from typing import Any, Final

from django.conf import settings

from portal.api.error_types import ERROR_TYPES
from portal.api.errors import MEDIA_TYPE
from portal.middleware.headers import completed
from tenants.errors import problem

MIB: Final = 1024 * 1024
LARGEST_BODY: Final = MIB
#: Bodies of other sizes by path: batches of gateways, and the tokenizer of a model.
_LARGEST_BODIES: Final = (
    (re.compile(r"/api/gateway/v1/"), 16 * MIB),
    (re.compile(r"/api/v1/models/[^/]+/tokenizer\Z"), 32 * MIB + 1),
)
LONGEST_ADDRESS: Final = 8 * 1024
MOST_HEADERS: Final = 100
LARGEST_HEADERS: Final = 32 * 1024

Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[dict[str, Any], Receive, Send], Awaitable[None]]


class _TooLarge(Exception):
    """The body went beyond the limit while it was read."""


def guarded(inner: Application) -> Application:
    """Give an ASGI application that lets to ``inner`` what is of reasonable size, and completes its answers."""

    async def application(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await inner(scope, receive, send)
            return
        most = largest_body(scope["path"])
        answer = _Answer(scope, send)
        if refusal := _refusal(scope, most):
            await answer.refuse(*refusal)
            return
        read = 0

        async def counted() -> Message:
            nonlocal read
            message = await receive()
            read += len(message.get("body", b""))
            if read > most:
                raise _TooLarge
            return message

        try:
            await inner(scope, counted, answer.send)
        except _TooLarge:
            if not answer.begun:
                await answer.refuse("body-too-large", _too_large(most))

    return application


def largest_body(path: str) -> int:
    """Give how many bytes a body sent to ``path`` may have."""
    return next((most for pattern, most in _LARGEST_BODIES if pattern.match(path)), LARGEST_BODY)


def _refusal(scope: dict[str, Any], most: int) -> tuple[str, str] | None:
    address = len(scope.get("raw_path") or scope["path"].encode()) + len(scope.get("query_string", b""))
    if address > LONGEST_ADDRESS:
        return "uri-too-long", f"Path and query have {address} bytes; at most {LONGEST_ADDRESS} are read."
    headers = scope["headers"]
    if settings.SECURE_SSL_REDIRECT and scope["path"].startswith("/api/") and not _came_over_tls(scope):
        return (
            "https-required",
            "Nothing was done. Ask over https, and revoke the key that was sent in the open.",
        )
    if len(headers) > MOST_HEADERS:
        return (
            "headers-too-large",
            f"The request has {len(headers)} headers; at most {MOST_HEADERS} are read.",
        )
    size = sum(len(name) + len(value) for name, value in headers)
    if size > LARGEST_HEADERS:
        return "headers-too-large", f"The headers have {size} bytes; at most {LARGEST_HEADERS} are read."
    told = next((value for name, value in headers if name == b"content-length"), b"0")
    if told.isdigit() and int(told) > most:
        return "body-too-large", _too_large(most)
    return None


def _came_over_tls(scope: dict[str, Any]) -> bool:
    """Say as Django does whether a request was secure: by the header of the proxy where one is trusted."""
    if trusted := settings.SECURE_PROXY_SSL_HEADER:
        name = trusted[0].removeprefix("HTTP_").replace("_", "-").lower().encode()
        for told, value in scope["headers"]:
            if told == name:
                return value.split(b",")[0].strip().decode("latin-1") == trusted[1]
    return scope.get("scheme", "http") == "https"


def _too_large(most: int) -> str:
    return f"At most {most} bytes are read here."


class _Answer:
    """The way of one answer to whoever asked."""

    def __init__(self, scope: dict[str, Any], send: Send) -> None:
        self.path: str = scope["path"]
        self.begun = False
        self._send = send

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.begun = True
            message = {**message, "headers": completed(self.path, message.get("headers", ()))}
        await self._send(message)

    async def refuse(self, code: str, detail: str) -> None:
        """Answer in place of the application. The connection ends, for the rest of the body is not read."""
        kind = ERROR_TYPES[code]
        if self.path.startswith("/api/"):
            content = json.dumps(problem(kind.status, code, kind.title, detail)).encode()
            content_type = MEDIA_TYPE
        else:
            content, content_type = f"{kind.title}. {detail}\n".encode(), "text/plain; charset=utf-8"
        headers = [
            (b"content-type", content_type.encode()),
            (b"content-length", b"%d" % len(content)),
            (b"connection", b"close"),
        ]
        await self.send({"type": "http.response.start", "status": kind.status, "headers": headers})
        await self.send({"type": "http.response.body", "body": content})
