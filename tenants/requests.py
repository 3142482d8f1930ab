"""What every request has: an id, told in the answer and in the logs, and somebody who acts."""

from __future__ import annotations

import logging
import re
import uuid
from collections.abc import Awaitable, Callable

from asgiref.sync import iscoroutinefunction
from django.http import HttpRequest, HttpResponseBase
from django.utils.decorators import sync_and_async_middleware

from tenants import acting
from tenants.addresses import client_address

log = logging.getLogger("berth.refused")

HEADER = "X-Request-Id"
_SANE = re.compile(r"[A-Za-z0-9._:-]{8,64}")

_Answer = Callable[[HttpRequest], HttpResponseBase]
_LaterAnswer = Callable[[HttpRequest], Awaitable[HttpResponseBase]]


@sync_and_async_middleware
def request_context(get_response: _Answer | _LaterAnswer) -> _Answer | _LaterAnswer:
    """Open the block in which a request acts. An id that the caller sends is taken where it is a sane one.

    Who asks is the person who is signed in when it is asked, unless a door says more (:func:`tenants.acting.identify`).
    """
    if iscoroutinefunction(get_response):

        async def later(request: HttpRequest) -> HttpResponseBase:
            with acting.later(_context(request)) as context:
                answer = await get_response(request)
                _note_refusal(request, answer, context)
            answer[HEADER] = context.request_id
            return answer

        return later

    def now(request: HttpRequest) -> HttpResponseBase:
        with acting.acting(_context(request)) as context:
            answer = get_response(request)
            _note_refusal(request, answer, context)
        answer[HEADER] = context.request_id
        return answer

    return now


class RequestId(logging.Filter):
    """Gives every record of a log ``request_id``, "-" outside requests."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.request_id = acting.request_id() or "-"
        return True


def _note_refusal(request: HttpRequest, answer: HttpResponseBase, context: acting.Acting) -> None:
    """Log who was refused what: for want of an identity (401) or of a right (403)."""
    if answer.status_code not in (401, 403):
        return
    # Only whom a view has asked for: an async answer may not wait for the database here.
    found = getattr(request, "_cached_user", None)
    who = context.who if isinstance(context.who, acting.Actor) else acting.Actor("unknown")
    if found is not None and found.is_authenticated:
        who = acting.person(found)
    log.info(
        "status=%d method=%s path=%r who=%s:%r address=%s",
        answer.status_code, request.method, request.path, who.kind, who.name, context.address,
    )  # fmt: skip


def _context(request: HttpRequest) -> acting.Acting:
    given = request.headers.get(HEADER, "")
    return acting.Acting(
        who=lambda: _who(request),
        request_id=given if _SANE.fullmatch(given) else uuid.uuid4().hex,
        address=client_address(request),
        user_agent=request.headers.get("User-Agent", ""),
    )


def _who(request: HttpRequest) -> acting.Actor:
    user = getattr(request, "user", None)
    if user is None or not user.is_authenticated:
        return acting.Actor("anonymous")
    return acting.person(user)
