"""Files and other streams under ASGI: read piece by piece in a thread.

Django reads a stream that is not asynchronous as a whole before its first byte leaves, and warns of it.
"""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import Final

from asgiref.sync import iscoroutinefunction, sync_to_async
from django.http import HttpRequest, HttpResponseBase
from django.utils.decorators import sync_and_async_middleware

#: So many pieces, of 4 KiB where they are a file's, are read at once: a change of threads for each would take longer.
AT_ONCE: Final = 64

_Answer = Callable[[HttpRequest], HttpResponseBase]
_LaterAnswer = Callable[[HttpRequest], Awaitable[HttpResponseBase]]


@sync_and_async_middleware
def streams_in_pieces(get_response: _Answer | _LaterAnswer) -> _Answer | _LaterAnswer:
    """Let streams leave as they are read."""
    if not iscoroutinefunction(get_response):
        return get_response

    async def later(request: HttpRequest) -> HttpResponseBase:
        answer = await get_response(request)
        if answer.streaming and not answer.is_async:
            answer.streaming_content = _read_later(answer.streaming_content)
        return answer

    return later


async def _read_later(pieces: Iterable[bytes]) -> AsyncIterator[bytes]:
    left = iter(pieces)
    take = sync_to_async(lambda: list(itertools.islice(left, AT_ONCE)))
    while taken := await take():
        yield b"".join(taken)
