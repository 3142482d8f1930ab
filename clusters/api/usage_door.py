"""The door for usage, in front of Django's middleware: what a gateway sends here most often and in the largest pieces.

Requests wait in a queue for a few threads, each with a database connection of its own. Whatever small batches wait when
a thread is free become one transaction, and each is answered after its commit with its own counts, so that many
gateways share the wait for the disk. A large batch is a transaction by itself.
"""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import logging
import queue
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, NamedTuple

import msgspec
from django import db
from django.conf import settings
from django.utils import timezone

from billing.metering.ingest import ingest_all
from clusters.api.gateway_messages import (
    PROBLEM,
    BadBatch,
    NotAGateway,
    bearer,
    check_count,
    check_name,
    problem,
)
from clusters.inventory.gateways import token_digest
from clusters.models import Gateway
from gateway import contract
from tenants.errors import BerthError

log = logging.getLogger(__name__)

MOST_SEGMENTS: Final = 5_000
#: A token is looked up again after so many seconds: so long one that was renewed or removed goes on being taken.
TOKEN_S: Final = 2.0
_MOST_TOKENS: Final = 10_000
#: While one thread waits for the database another reads and checks the next batch.
_THREADS: Final = 3
#: Batches share a transaction up to so many segments.
_TOGETHER: Final = 1_000
_JSON: Final = "application/json"
_decoder = msgspec.json.Decoder(contract.UsageBatch)

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
Application = Callable[[dict[str, Any], Receive, Send], Awaitable[None]]


class TooLarge(BerthError):
    code = "body-too-large"
    status = 413
    title = "The body is too large"


class Away(BerthError):
    code = "unavailable"
    status = 503
    title = "Usage cannot be taken now"


@dataclasses.dataclass(frozen=True)
class Answer:
    """What a request is answered."""

    status: int
    content: bytes
    content_type: str = _JSON


class _Waiting(NamedTuple):
    """One request: its token and body, and whom to tell the answer."""

    token: str
    body: bytes
    tell: Callable[[Answer], None]


def before(inner: Application) -> Application:
    """Give an ASGI application that takes usage itself and leaves everything else to ``inner``."""

    async def application(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] == contract.USAGE_PATH and _is_ours(scope):
            await _serve(scope, receive, send)
        else:
            await inner(scope, receive, send)

    return application


def _is_ours(scope: dict[str, Any]) -> bool:
    # Where plain HTTP is turned away, Django's middleware knows how.
    return scope["method"] == "POST" and (not settings.SECURE_SSL_REDIRECT or _is_secure(scope))


def _is_secure(scope: dict[str, Any]) -> bool:
    if not settings.SECURE_PROXY_SSL_HEADER:
        return scope["scheme"] == "https"
    header, wanted = settings.SECURE_PROXY_SSL_HEADER
    return _header(scope, header.removeprefix("HTTP_").replace("_", "-").lower().encode()) == wanted


async def _serve(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    try:
        body = await _body(receive)
    except TooLarge as error:
        answer = _refusal(error)
    else:
        if body is None:
            return
        answer = await _door().answer(bearer(_header(scope, b"authorization")), body)
    headers = [
        (b"content-type", answer.content_type.encode()),
        (b"content-length", b"%d" % len(answer.content)),
        (b"x-content-type-options", b"nosniff"),
    ]
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": answer.content})


async def _body(receive: Receive) -> bytes | None:
    """Read a body; None if the sender left."""
    pieces: list[bytes] = []
    size, more = 0, True
    most = settings.DATA_UPLOAD_MAX_MEMORY_SIZE
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        pieces.append(message.get("body", b""))
        size += len(pieces[-1])
        more = message.get("more_body", False)
        if size > most:
            raise TooLarge(f"A batch has at most {most} bytes.")
    return b"".join(pieces)


def _header(scope: dict[str, Any], wanted: bytes) -> str:
    return next((value.decode("latin-1") for name, value in scope["headers"] if name == wanted), "")


class _Door:
    """A queue of requests, and the threads that take them."""

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[_Waiting | None] = queue.SimpleQueue()
        self._threads = [
            threading.Thread(target=self._work, name=f"usage-{number}", daemon=True)
            for number in range(_THREADS)
        ]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Take what waits, then end the threads and their connections."""
        for _ in self._threads:
            self._queue.put(None)
        for thread in self._threads:
            thread.join()

    async def answer(self, token: str, body: bytes) -> Answer:
        loop = asyncio.get_running_loop()
        answered: asyncio.Future[Answer] = loop.create_future()

        def tell(answer: Answer) -> None:
            if not answered.done():
                answered.set_result(answer)

        self._queue.put(_Waiting(token, body, lambda answer: loop.call_soon_threadsafe(tell, answer)))
        return await answered

    def _work(self) -> None:
        while waiting := self._next():
            try:
                self._take(waiting)
            except Exception:
                log.exception("the door for usage failed")
                db.connection.close_if_unusable_or_obsolete()
                for each in waiting:
                    each.tell(_refusal(Away("Usage could not be taken; send it again.")))

        db.connection.close()

    def _next(self) -> list[_Waiting]:
        """Wait for a request and give it with what may share its transaction; nothing where the thread shall end."""
        waiting: list[_Waiting] = []
        size = 0
        # About a kilobyte is a segment.
        while size < _TOGETHER * 1024:
            try:
                found = self._queue.get(block=not waiting)
            except queue.Empty:
                break
            if found is None:
                if waiting:
                    self._queue.put(None)
                break
            waiting.append(found)
            size += len(found.body)
        return waiting

    @staticmethod
    def _take(waiting: Sequence[_Waiting]) -> None:
        batches = []
        for each in waiting:
            try:
                batches.append((each, read(_gateway_of(each.token), each.body)))
            except BerthError as error:
                each.tell(_refusal(error))
        if batches:
            _store(batches)


def read(gateway: str, body: bytes) -> contract.UsageBatch:
    """Read a batch that ``gateway`` sent.

    Raises:
        BadBatch: it cannot be read, is of another gateway, or too long.
    """
    try:
        batch = _decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadBatch(f"The body does not hold a batch of usage segments: {error}") from error
    check_name(gateway, batch.gateway)
    check_count(len(batch.segments), "segments", most=MOST_SEGMENTS)
    return batch


def _store(batches: Sequence[tuple[_Waiting, contract.UsageBatch]], *, again: bool = True) -> None:
    try:
        receipts = ingest_all(batches=[batch for _, batch in batches], now=timezone.now())
    except db.Error as error:
        log.warning("usage could not be stored: %s", error)
        # A connection that broke is given up, and a new one tried once; sending a batch again is always safe.
        db.connection.close_if_unusable_or_obsolete()
        if len(batches) > 1:  # so that one that cannot be stored does not hinder the others
            for each in batches:
                _store([each])
        elif again:
            _store(batches, again=False)
        else:
            batches[0][0].tell(_refusal(Away("The database did not take it; send it again.")))
        return
    for (each, _), receipt in zip(batches, receipts, strict=True):
        each.tell(Answer(200, msgspec.json.encode(receipt)))


_tokens: dict[str, tuple[str, float]] = {}


def _gateway_of(token: str) -> str:
    """Give the name of the gateway that ``token`` belongs to.

    Raises:
        NotAGateway: it is nobody's.
    """
    digest = token_digest(token)
    name, until = _tokens.get(digest, ("", 0.0))
    if until > time.monotonic():
        return name
    name = (
        Gateway.objects.filter(token_digest=digest).values_list("name", flat=True).first() if token else None
    )
    if name is None:
        _tokens.pop(digest, None)
        raise NotAGateway
    if len(_tokens) > _MOST_TOKENS:
        _tokens.clear()
    _tokens[digest] = (name, time.monotonic() + TOKEN_S)
    return name


def _refusal(error: BerthError) -> Answer:
    return Answer(error.status, problem(error), PROBLEM)


@functools.cache
def _door() -> _Door:
    return _Door()


def stop() -> None:
    """End the door's threads, once what waits is answered; the next request starts new ones."""
    _door().stop()
    _door.cache_clear()
    _tokens.clear()
