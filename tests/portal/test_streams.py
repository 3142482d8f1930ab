"""Streams under ASGI leave as they are read."""

from __future__ import annotations

import io

from django.http import FileResponse, HttpResponse

from portal.middleware.streams import AT_ONCE, streams_in_pieces


async def test_a_file_is_read_in_pieces_and_closed():
    content = bytes(range(256)) * 16 * (AT_ONCE + 1)
    file = io.BytesIO(content)

    async def view(request):
        return FileResponse(file)

    answer = await streams_in_pieces(view)(None)
    assert answer.is_async  # or Django reads all of it first, and warns
    assert answer["Content-Length"] == str(len(content))
    pieces = [piece async for piece in answer]
    assert b"".join(pieces) == content
    assert len(pieces) == 2
    answer.close()
    assert file.closed


async def test_what_is_no_stream_goes_by():
    async def view(request):
        return HttpResponse(b"whole")

    assert (await streams_in_pieces(view)(None)).content == b"whole"


def test_without_asgi_there_is_nothing_to_do():
    def view(request):
        return HttpResponse()

    assert streams_in_pieces(view) is view
