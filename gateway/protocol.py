"""How HTTP itself is served: what is no HTTP, or none that is taken here, is refused in OpenAI's shape too."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Mapping
from typing import Any, Final

from aiohttp import HttpVersion11, web

from gateway import errors

REQUEST_ID: Final = "x-request-id"
_BODY_S: Final = 60.0
_log = logging.getLogger(__name__)


def new_request_id() -> str:
    """Make the id by which a request is known from here on."""
    return os.urandom(12).hex()


def refusal(error: errors.ApiError, headers: Mapping[str, str] | None = None) -> web.Response:
    """Make the answer of a refusal."""
    response = web.Response(
        body=error.body(),
        status=error.status,
        content_type="application/json",
        headers={**error.headers, **(headers or {})},
    )
    if error.close:
        response.force_close()
    return response


async def read_body(request: web.Request, *, limit_bytes: int) -> bytes:
    """Read the body of a request.

    Raises:
        ApiError: it is larger than ``limit_bytes``, too slow, compressed or broken (4xx).
    """
    if (request.content_length or 0) > limit_bytes:
        raise errors.body_too_large(limit_bytes)
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise errors.body_encoded()
    try:
        async with asyncio.timeout(_BODY_S):
            content = await request.read()
    except web.HTTPRequestEntityTooLarge as error:
        raise errors.body_too_large(limit_bytes) from error
    except TimeoutError as error:
        raise errors.body_too_slow(_BODY_S) from error
    except web.RequestPayloadError as error:
        raise errors.not_http() from error
    if len(content) > limit_bytes:
        raise errors.body_too_large(limit_bytes)
    return content


async def continue_anyway(request: web.Request) -> None:
    """Meet the one expectation that is known; others may be ignored (RFC 9110, 10.1.1)."""
    if request.version == HttpVersion11 and request.headers.get("expect", "").lower() == "100-continue":
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        # It is no part of the answer, which has not begun.
        request.writer.output_size = 0


class _Protocol(web.RequestHandler):
    __slots__ = ()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer a request that could not be read."""
        # The exception quotes what came, which may be a key or a prompt: only its name is logged.
        if isinstance(exc, ConnectionError):
            _log.debug("a client left while it was answered")
        elif status >= 500:
            _log.error("a request failed outside its door: %s", type(exc).__name__)
        else:
            _log.debug("what came cannot be read as HTTP: %s", type(exc).__name__)
        if request.writer.output_size > 0:
            raise ConnectionError("the answer has begun")
        error = errors.internal(close=True) if status >= 500 else errors.not_http()
        return refusal(error, {REQUEST_ID: new_request_id()})


class _Server(web.Server):
    def __call__(self) -> web.RequestHandler:
        return _Protocol(self, loop=self._loop, **self._kwargs)


class DoorRunner(web.AppRunner):
    """Serves an application. Bodies are taken as they come, never decompressed."""

    def __init__(self, application: web.Application, **options: Any) -> None:
        super().__init__(application, access_log=None, auto_decompress=False, **options)

    async def _make_server(self) -> web.Server:
        made = await super()._make_server()
        return _Server(
            made.request_handler,
            request_factory=made.request_factory,
            handler_cancellation=made.handler_cancellation,
            loop=made._loop,
            **made._kwargs,
        )
