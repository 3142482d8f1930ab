"""Bodies of the doors of batches whose length nobody said: bounded, and refused in OpenAI's shape."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator

from tests.gateway.batches.conftest import Desk
from tests.gateway.world import KEY

BOUNDARY = "b0undary"


async def pieces(content: bytes, count: int) -> AsyncIterator[bytes]:
    for piece in itertools.repeat(content, count):
        yield piece


async def test_an_order_is_bounded(desk: Desk) -> None:
    headers = {"authorization": f"Bearer {KEY}", "content-type": "application/json"}
    for count in (20, 2_000):
        body = pieces(b" " * 4096, count)
        async with desk.bench.http.post(
            f"{desk.bench.url}/v1/batches", data=body, headers=headers
        ) as response:
            document = await response.json()
        assert (response.status, document["error"]["code"]) == (413, "request_too_large")


async def test_an_upload_of_many_fields_is_refused(desk: Desk) -> None:
    headers = {
        "authorization": f"Bearer {KEY}",
        "content-type": f"multipart/form-data; boundary={BOUNDARY}",
    }

    async def fields() -> AsyncIterator[bytes]:
        for number in range(1_000):
            head = f'--{BOUNDARY}\r\ncontent-disposition: form-data; name="field-{number}"\r\n\r\n'
            yield head.encode() + b"x" * 900 + b"\r\n"
        yield f"--{BOUNDARY}--\r\n".encode()

    async with desk.bench.http.post(f"{desk.bench.url}/v1/files", data=fields(), headers=headers) as response:
        document = await response.json()

    assert response.status == 400
    assert document["error"]["message"] == "The body has more than 16 parts."
