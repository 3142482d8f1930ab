"""Files: taken in, listed, given back, deleted; limits; and off where no key is set."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import aiohttp
import openai
import pytest

from tests.gateway.batches.conftest import FILES_KEY, Desk, chat_line, jsonl
from tests.gateway.conftest import Bench
from tests.gateway.world import EXPIRED_KEY, KEY, OTHER_PROJECT_KEY, UNKNOWN_KEY

HEADERS = {"authorization": f"Bearer {KEY}"}


@pytest.mark.parametrize("size", [0, 1, 65_535, 65_536, 65_537, 131_072, 1_000_000])
async def test_what_is_uploaded_is_given_back(desk: Desk, size: int) -> None:
    content = bytes(index * 7 % 251 for index in range(size))
    client = desk.client()
    file = await client.files.create(file=("büro.jsonl", content), purpose="batch")

    assert (file.bytes, file.filename, file.purpose, file.status) == (
        size,
        "büro.jsonl",
        "batch",
        "processed",
    )
    assert file.expires_at == file.created_at + 7 * 86_400
    assert await client.files.retrieve(file.id) == file
    assert (await client.files.content(file.id)).content == content


async def test_files_are_listed_in_pages_by_purpose_and_order(desk: Desk) -> None:
    done = await desk.until((await desk.submit(jsonl([chat_line(0)]))).id, "completed")
    ids = [done.input_file_id, done.output_file_id, await desk.upload(b"x"), await desk.upload(b"y")]
    client = desk.client()

    assert [file.id async for file in client.files.list(limit=2)] == ids[::-1]
    assert [file.id async for file in client.files.list(limit=3, order="asc")] == ids
    outputs = await client.files.list(purpose="batch_output")
    assert [(file.id, file.filename) for file in outputs.data] == [(ids[1], f"{done.id}_output.jsonl")]


async def test_a_deleted_file_is_gone_at_once_with_its_bytes(desk: Desk) -> None:
    client = desk.client()
    file_id = await desk.upload(b"secret")
    assert (await client.files.delete(file_id)).deleted

    assert list(desk.bench.folder.rglob(f"*{file_id}*")) == []
    for asking in (
        client.files.retrieve(file_id),
        client.files.content(file_id),
        client.files.delete(file_id),
    ):
        with pytest.raises(openai.NotFoundError):
            await asking


async def test_a_client_may_have_its_file_kept_shorter_but_not_longer(desk: Desk) -> None:
    client = desk.client()
    for seconds, kept in ((3_600, 3_600), (2_592_000, 7 * 86_400)):
        file = await client.files.create(
            file=("a", b"x"), purpose="batch", expires_after={"anchor": "created_at", "seconds": seconds}
        )
        assert file.expires_at == file.created_at + kept
    with pytest.raises(openai.BadRequestError, match="3600 to 2592000"):
        await client.files.create(
            file=("a", b"x"), purpose="batch", expires_after={"anchor": "created_at", "seconds": 5}
        )


def form(**fields: Any) -> aiohttp.FormData:
    data = aiohttp.FormData(default_to_multipart=True)
    for name, value in fields.items():
        data.add_field(name, value, filename="f" if name == "file" else None)
    return data


@pytest.mark.parametrize(
    ("body", "param", "words"),
    [
        ({"json": {"purpose": "batch"}}, None, "multipart/form-data"),
        ({"data": form(purpose="batch")}, "file", "Missing field"),
        ({"data": form(file=b"x")}, "purpose", "must be batch"),
        ({"data": form(file=b"x", purpose="fine-tune")}, "purpose", "must be batch"),
        ({"data": form(file=b"x", purpose="batch", colour="red")}, "colour", "Unknown field"),
        ({"data": form(file=b"x", purpose="b" * 5_000)}, "purpose", "too long"),
        (
            {"data": b"--x\r\nnonsense", "headers": {"content-type": "multipart/form-data; boundary=x"}},
            None,
            "multipart",
        ),
        ({"data": b"x", "headers": {"content-type": "multipart/form-data"}}, None, "multipart"),
    ],
)
async def test_wrong_uploads_are_refused_and_leave_nothing(
    desk: Desk, body: dict[str, Any], param: str | None, words: str
) -> None:
    body = {**body, "headers": {**HEADERS, **body.get("headers", {})}}
    async with desk.bench.http.post(f"{desk.bench.url}/v1/files", **body) as response:
        error = (await response.json())["error"]
        assert response.status == 400
        assert response.headers["x-request-id"]
    assert (error["param"], words in error["message"]) == (param, True)
    assert not list(desk.bench.folder.rglob("*.data"))


async def test_a_file_over_the_limit_is_refused_whether_it_says_so_or_not(desk: Desk) -> None:
    await desk.restart(BERTH_GATEWAY_FILE_LIMIT_BYTES="100000")

    async def endless() -> Any:
        while True:
            yield b"x" * 65_536

    for content in (b"x" * 100_001, b"x" * 500_000, endless()):
        async with desk.bench.http.post(
            f"{desk.bench.url}/v1/files", data=form(purpose="batch", file=content), headers=HEADERS
        ) as response:
            assert response.status == 413
            assert (await response.json())["error"]["code"] == "file_too_large"
    assert await desk.upload(b"x" * 100_000)
    assert len(list(desk.bench.folder.rglob("*.data"))) == 1


async def test_a_tenant_has_so_many_bytes_for_all_its_projects(desk: Desk) -> None:
    await desk.restart(BERTH_GATEWAY_FILES_TENANT_BYTES="100000")
    first = await desk.upload(b"x" * 60_000)

    with pytest.raises(openai.APIStatusError, match="60000 bytes of the 100000") as caught:
        await desk.upload(b"x" * 40_001, key=OTHER_PROJECT_KEY)
    assert caught.value.status_code == 413
    assert caught.value.code == "files_limit_exceeded"
    await desk.client().files.delete(first)
    assert await desk.upload(b"x" * 40_001, key=OTHER_PROJECT_KEY)


async def test_an_upload_that_breaks_off_leaves_nothing(desk: Desk) -> None:
    async def breaks() -> Any:
        yield b"x" * 300_000
        raise ConnectionResetError

    with pytest.raises((aiohttp.ClientError, ConnectionResetError)):
        await desk.bench.http.post(
            f"{desk.bench.url}/v1/files", data=form(purpose="batch", file=breaks()), headers=HEADERS
        )
    async with asyncio.timeout(15):
        while list(desk.bench.folder.rglob("*.data")):
            await asyncio.sleep(0.02)
    assert (await desk.client().files.list()).data == []


@pytest.mark.parametrize("key", [None, UNKNOWN_KEY, EXPIRED_KEY])
async def test_no_door_opens_without_a_key(desk: Desk, key: str | None) -> None:
    assert desk.bench.server is not None
    headers = {"authorization": f"Bearer {key}"} if key else {}
    doors = [
        (route.method, route.path.replace("{id}", "file-" + "0" * 24))
        for route in desk.bench.server.routes()
        if route.path.startswith(("/v1/files", "/v1/batches"))
    ]
    assert len(doors) == 9
    for method, path in doors:
        async with desk.bench.http.request(method, desk.bench.url + path, headers=headers) as response:
            assert response.status == 401, path


async def test_without_keys_of_its_own_the_gateway_keeps_no_files(bench: Bench) -> None:
    client = bench.openai()
    for asking in (
        client.files.create(file=("a", b"x"), purpose="batch"),
        client.batches.list(),
    ):
        with pytest.raises(openai.InternalServerError, match="BERTH_GATEWAY_FILES_KEYS") as caught:
            await asking
        assert caught.value.status_code == 501
    assert not (bench.folder / "files").exists()


async def test_gateways_may_share_the_folder(desk: Desk, idle: Bench, tmp_path_factory: Any) -> None:
    """What one took in, another gives out, after the first has ended."""
    shared = str(tmp_path_factory.mktemp("shared"))
    await desk.restart(BERTH_GATEWAY_FILES_DIR=shared)
    done = await desk.until((await desk.submit(jsonl([chat_line(0)]))).id, "completed")
    await desk.bench.stop()
    idle.data_dir = tmp_path_factory.mktemp("other")
    # A newer key came; the older one still opens what it sealed.
    await idle.ready(BERTH_GATEWAY_FILES_DIR=shared, BERTH_GATEWAY_FILES_KEYS=f"{FILES_KEY},4:{'d5' * 32}")

    assert len(await desk.lines(done.output_file_id)) == 1
    assert (await desk.client().batches.retrieve(done.id)).status == "completed"


@pytest.mark.filterwarnings("ignore::aiohttp.BadContentDispositionParam")
@pytest.mark.filterwarnings("ignore::aiohttp.BadContentDispositionHeader")
async def test_no_body_makes_an_upload_fail_inside_the_gateway(desk: Desk) -> None:
    rng = random.Random(17)
    good = (
        b'--b\r\ncontent-disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
        b'--b\r\ncontent-disposition: form-data; name="file"; filename="f"\r\ncontent-type: text/plain\r\n\r\n'
        b"content of it\r\n--b--\r\n"
    )
    words = [
        b"\r\n",
        b"--b",
        b"--",
        b"\0",
        b": ",
        b'"',
        b"content-length: 3\r\n",
        b"\xff",
        b"multipart/mixed",
    ]
    words += [b"content-transfer-encoding: base64\r\n", b"content-encoding: gzip\r\n", b"x" * 9_000]
    statuses = set()
    for _ in range(300):
        body = bytearray(good)
        for _ in range(rng.randint(0, 4)):
            at, length = rng.randrange(len(body)), rng.choice([0, 0, 1, 5, 60])
            body[at : at + length] = rng.choice(words)
        async with desk.bench.http.post(
            f"{desk.bench.url}/v1/files",
            data=bytes(body),
            headers={**HEADERS, "content-type": "multipart/form-data; boundary=b"},
        ) as response:
            statuses.add(response.status)
            assert response.status < 500, bytes(body)
    assert statuses == {200, 400}


async def test_uploads_at_the_same_moment_do_not_pass_the_limit_together(desk: Desk) -> None:
    await desk.restart(BERTH_GATEWAY_FILES_TENANT_BYTES="100000")

    async def upload() -> int:
        async with desk.bench.http.post(
            f"{desk.bench.url}/v1/files", data=form(purpose="batch", file=b"x" * 40_000), headers=HEADERS
        ) as response:
            await response.read()
            return response.status

    statuses = await asyncio.gather(*(upload() for _ in range(8)))
    assert set(statuses) <= {200, 413}
    assert statuses.count(200) <= 2
    kept = (await desk.client().files.list()).data
    assert sum(file.bytes for file in kept) == 40_000 * statuses.count(200)
