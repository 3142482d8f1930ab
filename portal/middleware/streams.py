"""Files and other streams under ASGI: read piece by piece in a thread.

Django reads a stream that is not asynchronous as a whole before its first byte leaves, and warns of it. No middleware
can help: outside of one that is synchronous, as WhiteNoise is, all are.
"""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Iterable
from typing import Final

from asgiref.sync import sync_to_async
from django.core.handlers.asgi import ASGIHandler, ASGIRequest
from django.http import HttpResponseBase

#: So many pieces, of 4 KiB where they are a file's, are read at once: a change of threads for each would take longer.
AT_ONCE: Final = 64


class StreamingHandler(ASGIHandler):
    """Lets streams leave as they are read."""

    async def get_response_async(self, request: ASGIRequest) -> HttpResponseBase:
        answer = await super().get_response_async(request)
        if answer.streaming and not answer.is_async:
            answer.streaming_content = _read_later(answer.streaming_content)
        return answer


async def _read_later(pieces: Iterable[bytes]) -> AsyncIterator[bytes]:
    left = iter(pieces)
    take = sync_to_async(lambda: list(itertools.islice(left, AT_ONCE)))
    while taken := await take():
        yield b"".join(taken)
