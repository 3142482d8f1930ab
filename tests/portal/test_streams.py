"""Streams under ASGI leave as they are read."""

from __future__ import annotations

import io

import httpx
from django.http import FileResponse, HttpResponse, HttpResponseBase
from django.test import AsyncRequestFactory
from django.urls import path

from portal.middleware.streams import AT_ONCE, StreamingHandler


async def answered(with_what: HttpResponseBase) -> HttpResponseBase:
    async def view(request):
        return with_what

    handler = StreamingHandler()
    handler._middleware_chain = view
    return await handler.get_response_async(AsyncRequestFactory().get("/"))


async def test_a_file_is_read_in_pieces_and_closed():
    content = bytes(range(256)) * 16 * (AT_ONCE + 1)
    file = io.BytesIO(content)
    answer = await answered(FileResponse(file))
    assert answer.is_async  # or Django reads all of it first, and warns
    assert answer["Content-Length"] == str(len(content))
    pieces = [piece async for piece in answer]
    assert b"".join(pieces) == content
    assert len(pieces) == 2
    answer.close()
    assert file.closed


async def test_what_is_no_stream_goes_by():
    assert (await answered(HttpResponse(b"whole"))).content == b"whole"


async def test_the_server_answers_so(settings):
    from portal.asgi import application

    settings.ROOT_URLCONF = __name__
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app=application), base_url="http://here"
    ) as browser:
        answer = await browser.get("/static/file")
    assert (answer.status_code, answer.content) == (200, b"a file")


def _file(request):
    return FileResponse(io.BytesIO(b"a file"))


urlpatterns = [path("static/file", _file)]
