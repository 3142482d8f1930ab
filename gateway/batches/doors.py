"""The doors of files and batches, in the shapes of OpenAI's."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, Final, NamedTuple, TypeVar

import msgspec
from aiohttp import web

from gateway import errors, keys
from gateway.batches import orders
from gateway.batches.crypto import Damaged
from gateway.batches.files import NotThere
from gateway.batches.objects import BatchRecord, FileRecord, Party, Purpose
from gateway.batches.room import ASKED, Room
from gateway.batches.runner import kept_until
from gateway.contract import BATCH_CLASS, Key, Verb
from gateway.directory import Directory
from gateway.protocol import read_body

_log = logging.getLogger(__name__)
Handler = Callable[[web.Request, dict[str, str]], Awaitable[web.StreamResponse]]
_BODY_BYTES: Final = 64 * 1024


class Caller(NamedTuple):
    """Who asks, and what is known of it."""

    directory: Directory
    key: Key

    @property
    def party(self) -> Party:
        """Whose files and batches it sees."""
        return Party(self.key.tenant_id, self.key.project_id)

    @property
    def days(self) -> float:
        """How many days its tenant keeps files and batches."""
        return self.directory.files_days(self.key.tenant_id)


class BatchDoors:
    """Answers ``/v1/files`` and ``/v1/batches``. Without a ``room`` they are off, and say so."""

    def __init__(self, room: Room | None) -> None:
        self._room = room

    def doors(
        self, authenticate: Callable[[web.Request, Verb], tuple[Directory, Key]]
    ) -> list[tuple[str, str, Handler]]:
        """Give method, path and handler of each; ``authenticate`` finds a request's caller, who may ask the verb."""

        def door(verb: Verb, handle: Callable[[Room, Caller, web.Request, dict[str, str]], Any]) -> Handler:
            async def answer(request: web.Request, headers: dict[str, str]) -> web.StreamResponse:
                caller = Caller(*authenticate(request, verb))
                if self._room is None:
                    raise off()
                try:
                    response: web.StreamResponse = await handle(self._room, caller, request, headers)
                except NotThere:
                    raise not_there(request.match_info["id"]) from None
                except Damaged as error:
                    raise damaged(request.match_info["id"], error) from error
                return response

            return answer

        return [
            ("POST", "/v1/files", door(Verb.FILES, _upload)),
            ("GET", "/v1/files", door(Verb.FILES, _list_files)),
            ("GET", "/v1/files/{id}", door(Verb.FILES, _show_file)),
            ("GET", "/v1/files/{id}/content", door(Verb.FILES, _download)),
            ("DELETE", "/v1/files/{id}", door(Verb.FILES, _delete_file)),
            ("POST", "/v1/batches", door(Verb.BATCHES, _create_batch)),
            ("GET", "/v1/batches", door(Verb.BATCHES, _list_batches)),
            ("GET", "/v1/batches/{id}", door(Verb.BATCHES, _show_batch)),
            ("POST", "/v1/batches/{id}/cancel", door(Verb.BATCHES, _cancel_batch)),
        ]


async def _upload(room: Room, caller: Caller, request: web.Request, _: dict[str, str]) -> web.Response:
    record = await room.uploads.receive(request, caller.party, days=caller.days)
    return _json(_file(room, record, caller.days))


async def _list_files(room: Room, caller: Caller, request: web.Request, _: dict[str, str]) -> web.Response:
    purpose = request.query.get("purpose")
    ascending = _choice(request, "order", ("desc", "asc")) == "asc"

    def found() -> dict[str, Any]:
        mine = [
            file
            for file in room.files.of_tenant(caller.party.tenant_id)
            if file.party == caller.party and purpose in (None, file.purpose)
            and kept_until(file, caller.days) > room.clock()
        ]  # fmt: skip
        page = _page(request, mine, most=10_000, default=10_000, ascending=ascending)
        return _list([_file(room, file, caller.days) for file in page.items], has_more=page.has_more)

    return _json(await asyncio.to_thread(found))


async def _show_file(room: Room, caller: Caller, request: web.Request, _: dict[str, str]) -> web.Response:
    record = await _get_file(room, caller, request.match_info["id"])
    return _json(_file(room, record, caller.days))


async def _download(
    room: Room, caller: Caller, request: web.Request, headers: dict[str, str]
) -> web.StreamResponse:
    record = await _get_file(room, caller, request.match_info["id"])
    chunks = room.files.chunks(record)
    chunk = await asyncio.to_thread(next, chunks, b"")
    response = web.StreamResponse(
        headers={**headers, "content-type": "application/octet-stream", "x-content-type-options": "nosniff"}
    )
    response.content_length = record.size
    await response.prepare(request)
    try:
        while chunk:
            await response.write(chunk)
            chunk = await asyncio.to_thread(next, chunks, b"")
    except Damaged as error:
        # What went out is authentic; the client sees by the length that more was to come.
        _log.error("request %s: file %s cannot be read: %s", headers["x-request-id"], record.id, error)
        if request.transport is not None:
            request.transport.abort()
        return response
    await response.write_eof()
    return response


async def _delete_file(room: Room, caller: Caller, request: web.Request, _: dict[str, str]) -> web.Response:
    record = await _get_file(room, caller, request.match_info["id"])
    await asyncio.to_thread(room.files.delete, record)
    room.uploads.deleted(record)
    return _json({"id": record.id, "object": "file", "deleted": True})


async def _create_batch(room: Room, caller: Caller, request: web.Request, _: dict[str, str]) -> web.Response:
    order = orders.read(await read_body(request, limit_bytes=_BODY_BYTES), endpoints=tuple(ASKED))
    keys.require_verb(caller.key, ASKED[order.endpoint].verb)
    if not caller.directory.has_class(BATCH_CLASS):
        raise errors.ApiError(
            status=501,
            message=f"This region has no class named {BATCH_CLASS}, in which batches run.",
            type="invalid_request_error",
            code="batch_class_missing",
        )
    try:
        source = await _get_file(room, caller, order.input_file_id)
    except NotThere:
        raise errors.invalid(
            f"There is no file {order.input_file_id[:64]!r}.", param="input_file_id", code="file_not_found"
        ) from None
    except Damaged as error:
        raise damaged(order.input_file_id, error) from error
    if source.purpose is not Purpose.BATCH:
        raise errors.invalid(
            "input_file_id must be a file uploaded with purpose batch.", param="input_file_id"
        )
    now = room.clock()
    record = orders.record(
        order, party=caller.party, key_id=caller.key.key_id, now=now, days=caller.days,
        input_until=kept_until(source, caller.days),
    )  # fmt: skip
    await asyncio.to_thread(_create, room, record)
    room.runner.wake(record.id)
    return _json(_batch(room, record))


def _create(room: Room, record: BatchRecord) -> None:
    is_open = [batch for batch in room.batches.of_tenant(record.party.tenant_id) if not batch.terminal]
    if len(is_open) >= room.open_batches:
        raise errors.ApiError(
            status=409,
            message=f"Your organisation has {len(is_open)} batches that have not ended, and may have"
            f" {room.open_batches} at once. Wait for one of them, or cancel it.",
            type="invalid_request_error",
            code="too_many_batches",
        )
    room.batches.create(record)


async def _list_batches(room: Room, caller: Caller, request: web.Request, _: dict[str, str]) -> web.Response:
    def found() -> dict[str, Any]:
        mine = [
            batch
            for batch in room.batches.of_tenant(caller.party.tenant_id)
            if batch.party == caller.party and kept_until(batch, caller.days) > room.clock()
        ]
        page = _page(request, mine, most=100, default=20)
        return _list([_batch(room, batch) for batch in page.items], has_more=page.has_more)

    return _json(await asyncio.to_thread(found))


async def _show_batch(room: Room, caller: Caller, request: web.Request, _: dict[str, str]) -> web.Response:
    record = await _get_batch(room, caller, request.match_info["id"])
    return _json(_batch(room, record))


async def _cancel_batch(room: Room, caller: Caller, request: web.Request, _: dict[str, str]) -> web.Response:
    record = await _get_batch(room, caller, request.match_info["id"])
    if record.terminal:
        raise errors.ApiError(
            status=409,
            message=f"The batch has ended already: it is {record.status.value}.",
            type="invalid_request_error",
            code="batch_ended",
        )
    await asyncio.to_thread(room.batches.cancel, record, room.clock())
    room.runner.wake(record.id)
    return _json(_batch(room, record))


async def _get_file(room: Room, caller: Caller, file_id: str) -> FileRecord:
    record = await asyncio.to_thread(room.files.get, caller.party, file_id)
    if kept_until(record, caller.days) <= room.clock():
        raise NotThere
    return record


async def _get_batch(room: Room, caller: Caller, batch_id: str) -> BatchRecord:
    record = await asyncio.to_thread(room.batches.get, caller.party, batch_id)
    if kept_until(record, caller.days) <= room.clock():
        raise NotThere
    return record


def _file(room: Room, record: FileRecord, days: float) -> dict[str, Any]:
    return {
        "id": record.id,
        "object": "file",
        "bytes": record.size,
        "created_at": int(record.created_at),
        "expires_at": int(kept_until(record, days)),
        "filename": room.files.name(record),
        "purpose": record.purpose.value,
        "status": "processed",
        "status_details": None,
    }


def _batch(room: Room, record: BatchRecord) -> dict[str, Any]:
    return record.document(cancelling_at=room.batches.cancelling_at(record))


_Record = TypeVar("_Record", FileRecord, BatchRecord)


class _Page(NamedTuple):
    items: list[Any]
    has_more: bool


def _page(
    request: web.Request, records: Iterable[_Record], *, most: int, default: int, ascending: bool = False
) -> _Page:
    """Give the part of a list that is asked for; newest first unless ``ascending``."""
    text = request.query.get("limit", str(default))
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:9]) <= most):
        raise errors.invalid(f"limit must be a whole number from 1 to {most}.", param="limit")
    ordered = sorted(records, key=lambda each: (each.created_at, each.id), reverse=not ascending)
    after, start = request.query.get("after"), 0
    if after:
        ids = [record.id for record in ordered]
        if after not in ids:
            raise errors.invalid(f"after names nothing of this list: {after[:64]!r}.", param="after")
        start = ids.index(after) + 1
    end = start + int(text)
    return _Page(ordered[start:end], len(ordered) > end)


def _choice(request: web.Request, name: str, allowed: Sequence[str]) -> str:
    value = request.query.get(name, allowed[0])
    if value not in allowed:
        raise errors.invalid(f"{name} must be one of {', '.join(allowed)}.", param=name)
    return value


def _list(items: list[dict[str, Any]], *, has_more: bool) -> dict[str, Any]:
    return {
        "object": "list",
        "data": items,
        "first_id": items[0]["id"] if items else None,
        "last_id": items[-1]["id"] if items else None,
        "has_more": has_more,
    }


def _json(document: Any) -> web.Response:
    return web.Response(body=msgspec.json.encode(document), content_type="application/json")


def off() -> errors.ApiError:
    """The operator gave no key under which files could rest (501)."""
    return errors.ApiError(
        status=501,
        message="Files and batches are off at this gateway: its operator has not set BERTH_GATEWAY_FILES_KEYS.",
        type="invalid_request_error",
        code="files_not_configured",
    )


def not_there(object_id: str) -> errors.ApiError:
    """No such file or batch, or another's: both read the same (404)."""
    return errors.ApiError(
        status=404,
        message=f"There is no {object_id[:64]!r}, or your key has no access to it.",
        type="invalid_request_error",
        param="id",
        code="not_found",
    )


def damaged(object_id: str, error: Damaged) -> errors.ApiError:
    """What rests on disk is not what was written there (500)."""
    return errors.ApiError(
        status=500,
        message=f"{object_id[:64]!r} cannot be read any more: {error}. Tell your operator, or upload it again.",
        type="server_error",
        code="file_damaged",
    )
