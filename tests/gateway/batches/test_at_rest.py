"""What rests is unreadable without the key, is noticed when it was touched, and goes when its time has come."""

from __future__ import annotations

import asyncio
import io
import os
import time
from pathlib import Path

import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.batches.crypto import ChunkWriter, Damaged, KeyRing, read_chunks
from gateway.contract import Tenant
from tests.fakes.triton import Behaviour
from tests.gateway.batches.conftest import Desk, chat_line, jsonl
from tests.gateway.conftest import eventually

MARK = "Zanzibar"


def grep(folder: Path, words: bytes) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and words in path.read_bytes()]


async def test_nothing_of_prompts_answers_and_names_is_readable_on_disk(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    desk.bench.triton.behaviour = Behaviour(tokens=3, delay_s=0.02)
    lines = [chat_line(number, content=f"{MARK} {number}") for number in range(40)]
    lines += [{**chat_line(99, max_tokens=1000), "custom_id": f"{MARK}-id"}]
    file_id = await desk.upload(jsonl(lines), name=f"{MARK}.jsonl")
    batch = await desk.client().batches.create(
        input_file_id=file_id, endpoint="/v1/chat/completions", completion_window="24h", metadata={"a": MARK}
    )
    wrong = await desk.submit(f'{{"{MARK}": 1}}\n'.encode(), metadata={MARK: "b"})
    await eventually(lambda: len(desk.bench.triton.calls) >= 5)
    assert list(desk.bench.folder.rglob("journal"))
    for words in (MARK, "w0 w1"):
        assert grep(desk.bench.data_dir, words.encode()) == []  # while it runs

    done = await desk.until(batch.id, "completed")
    await desk.until(wrong.id, "failed")
    await desk.bench.settled()

    for words in (MARK, "w0 w1", "max_tokens is 1000"):
        assert grep(desk.bench.data_dir, words.encode()) == []
    assert MARK in str(await desk.lines(done.error_file_id))
    assert not list(desk.bench.folder.rglob("journal"))
    ours = [each.getMessage() for each in caplog.records if each.name.startswith("gateway")]
    assert not [message for message in ours if MARK in message]


@pytest.mark.parametrize("how", ["bit", "cut", "swap", "record", "key"])
async def test_a_file_that_was_touched_is_not_given_out(desk: Desk, how: str) -> None:
    client = desk.client()
    content = os.urandom(150_000)
    one, other = [await desk.upload(content, name=name) for name in ("one", "other")]
    folder = next(desk.bench.folder.rglob(f"{one}.data")).parent
    data, record = folder / f"{one}.data", folder / f"{one}.json"
    if how == "bit":
        touched = bytearray(data.read_bytes())
        touched[100_000] ^= 1
        data.write_bytes(touched)
    elif how == "cut":  # between two chunks
        data.write_bytes(data.read_bytes()[: 15 + 65_552])
    elif how == "swap":
        data.write_bytes((folder / f"{other}.data").read_bytes())
    elif how == "record":
        record.write_bytes(record.read_bytes().replace(b'"p1"', b'"p2"'))
    else:
        await desk.bench.stop()
        await desk.bench.ready(BERTH_GATEWAY_FILES_KEYS="9:" + "aa" * 32)
        client = desk.client()

    with pytest.raises(openai.APIError):
        await client.files.content(one)
    if how != "key":
        assert (await client.files.content(other)).content == content


async def test_an_input_that_was_touched_fails_its_batch(desk: Desk) -> None:
    file_id = await desk.upload(jsonl([chat_line(0)]))
    data = next(desk.bench.folder.rglob(f"{file_id}.data"))
    data.write_bytes(data.read_bytes()[:-1])
    batch = await desk.client().batches.create(
        input_file_id=file_id, endpoint="/v1/chat/completions", completion_window="24h"
    )
    failed = await desk.until(batch.id, "failed")

    assert failed.errors is not None
    assert failed.errors.data
    assert failed.errors.data[0].code == "input_file_damaged"
    assert desk.bench.triton.calls == []


async def test_files_and_batches_go_after_the_days_of_their_tenant(desk: Desk) -> None:
    desk.bench.world.more = {"tenants": (Tenant(tenant_id="t1", name="One", files_days=2),)}
    desk.bench.publish()
    await desk.bench.settled()
    done = await desk.until((await desk.submit(jsonl([chat_line(0)]))).id, "completed")
    file = await desk.client().files.retrieve(done.input_file_id)
    assert file.expires_at == file.created_at + 2 * 86_400

    desk.clock.ahead_s = 2 * 86_400 - 600
    await desk.restart()
    assert len((await desk.client().files.list()).data) == 2

    # At the hour they are not shown any more, and the next sweep, here that of a start, removes their bytes.
    desk.clock.ahead_s = 2 * 86_400 + 1
    assert (await desk.client().files.list()).data == []
    assert (await desk.client().batches.list()).data == []
    with pytest.raises(openai.NotFoundError):
        await desk.client().batches.retrieve(done.id)
    await desk.restart()
    await gone(desk)


async def test_what_a_tenant_left_behind_goes_too_and_fewer_days_hold_for_what_is_there(desk: Desk) -> None:
    await desk.until((await desk.submit(jsonl([chat_line(0)]))).id, "completed")
    desk.bench.world.more = {"tenants": (Tenant(tenant_id="t1", name="One", files_days=1),)}
    desk.bench.publish()
    await desk.bench.settled()
    desk.clock.ahead_s = 86_401
    await desk.restart()
    await gone(desk)

    await desk.upload(b"x")
    desk.bench.world.more, desk.bench.world.keys = {}, ()
    desk.bench.publish()
    await desk.bench.settled()
    desk.clock.ahead_s += 7 * 86_400
    await desk.restart()
    await gone(desk)


async def gone(desk: Desk) -> None:
    """Wait until no file or batch is left in the folder."""
    async with asyncio.timeout(15):
        while [path for _, _, names in os.walk(desk.bench.folder / "files") for path in names]:
            await asyncio.sleep(0.02)


async def test_an_input_that_goes_ends_the_window(desk: Desk) -> None:
    file = await desk.client().files.create(
        file=("a", jsonl([chat_line(0)])),
        purpose="batch",
        expires_after={"anchor": "created_at", "seconds": 3_600},
    )
    batch = await desk.client().batches.create(
        input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h"
    )
    assert batch.expires_at == file.expires_at


async def test_what_a_crash_left_behind_is_removed(desk: Desk) -> None:
    await desk.upload(b"x")
    folder = next(desk.bench.folder.rglob("*.data")).parent
    old, young = folder / f"file-{'1' * 24}.data", folder / f"file-{'2' * 24}.data"
    for path in (old, young):
        path.write_bytes(b"half")
    os.utime(old, (time.time() - 7_200,) * 2)
    await desk.restart()

    await eventually(lambda: not old.exists())
    assert young.exists()
    assert len((await desk.client().files.list()).data) == 1


async def test_what_nobody_can_read_goes_too_when_it_is_old(desk: Desk) -> None:
    done = await desk.until((await desk.submit(jsonl([chat_line(0)]))).id, "completed")
    file_id = await desk.upload(b"x")
    for path in (
        next(desk.bench.folder.rglob(f"{file_id}.json")),
        next(desk.bench.folder.rglob("batch.json")),
    ):
        path.write_bytes(b"{}")
        os.utime(path, (time.time() - 6 * 86_400,) * 2)
    await desk.restart()
    with pytest.raises(openai.InternalServerError, match="cannot be read"):
        await desk.client().batches.retrieve(done.id)
    assert len((await desk.client().files.list()).data) == 2

    for path in (
        next(desk.bench.folder.rglob(f"{file_id}.json")),
        next(desk.bench.folder.rglob("batch.json")),
    ):
        os.utime(path, (time.time() - 8 * 86_400,) * 2)
    await desk.restart()
    await eventually(lambda: not list(desk.bench.folder.rglob(f"{file_id}*")))
    await eventually(lambda: not list(desk.bench.folder.rglob("batch_*")))


@given(st.lists(st.binary(max_size=100_000), max_size=4), st.data())
def test_a_stream_opens_only_as_it_was_sealed(pieces: list[bytes], data: st.DataObject) -> None:
    file = io.BytesIO()
    writer = ChunkWriter(file, key=b"k" * 32, bound_to=b"me")
    for piece in pieces:
        writer.write(piece)
    writer.finish()
    sealed, plain = file.getvalue(), b"".join(pieces)

    assert b"".join(read_chunks(io.BytesIO(sealed), key=b"k" * 32, bound_to=b"me")) == plain
    at = data.draw(st.integers(0, len(sealed) - 1))
    flipped = bytearray(sealed)
    flipped[at] ^= data.draw(st.integers(1, 255))
    for wrong, bound_to in (
        (bytes(flipped), b"me"),
        (sealed[:at], b"me"),
        (sealed + b"x", b"me"),
        (sealed, b"you"),
    ):
        with pytest.raises(Damaged):
            list(read_chunks(io.BytesIO(wrong), key=b"k" * 32, bound_to=bound_to))


def test_chunks_cannot_change_places() -> None:
    file = io.BytesIO()
    writer = ChunkWriter(file, key=b"k" * 32, bound_to=b"me")
    writer.write(b"a" * 65_536 + b"b" * 65_536 + b"c")
    writer.finish()
    sealed, chunk = file.getvalue(), 65_552
    swapped = (
        sealed[:15] + sealed[15 + chunk : 15 + 2 * chunk] + sealed[15 : 15 + chunk] + sealed[15 + 2 * chunk :]
    )
    assert len(swapped) == len(sealed)
    with pytest.raises(Damaged):
        list(read_chunks(io.BytesIO(swapped), key=b"k" * 32, bound_to=b"me"))


def test_the_newest_key_seals_and_all_open() -> None:
    old = KeyRing({1: b"1" * 32})
    both = KeyRing({1: b"1" * 32, 2: b"2" * 32})
    assert both.open(old.seal(b"x", bound_to=b"me"), bound_to=b"me") == b"x"
    sealed = both.seal(b"x", bound_to=b"me")
    assert KeyRing({2: b"2" * 32}).open(sealed, bound_to=b"me") == b"x"
    with pytest.raises(Damaged, match="key 2"):
        old.open(sealed, bound_to=b"me")
    with pytest.raises(Damaged):
        both.open(sealed, bound_to=b"you")
