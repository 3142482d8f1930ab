"""The lines of a batch's input: cut from a stream, read, and checked before any is run."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from typing import Any, Final, NamedTuple

import msgspec

from gateway.batches.objects import LineError

MOST_LINES: Final = 50_000
#: Errors that are told of one batch; who wrote thousands wrote one mistake.
MOST_ERRORS: Final = 50
_LONGEST_CUSTOM_ID: Final = 512
_ENVELOPE_BYTES: Final = 64 * 1024


class BadLines(Exception):
    """A batch's input cannot be run; ``errors`` say where and why."""

    def __init__(self, *errors: LineError) -> None:
        super().__init__(errors[0].message)
        self.errors = errors


class Line(NamedTuple):
    """One line that is not blank; ``number`` counts all lines from 1."""

    number: int
    content: bytes


class Task(msgspec.Struct):
    """What one line asks for. ``body`` is passed on as it is."""

    custom_id: str
    method: str
    url: str
    body: msgspec.Raw


class Checked(NamedTuple):
    """What was found out of an input that can be run."""

    lines: int
    model: str


_decode_task = msgspec.json.Decoder(Task).decode
_decode_body = msgspec.json.Decoder(dict[str, Any]).decode


def cut(chunks: Iterable[bytes], *, longest: int) -> Iterator[Line]:
    """Cut a stream into lines.

    Raises:
        BadLines: one is longer than ``longest`` bytes besides what surrounds its body.
    """
    longest += _ENVELOPE_BYTES
    number, rest = 0, b""
    for chunk in chunks:
        pieces = (rest + chunk).split(b"\n") if b"\n" in chunk else [rest + chunk]
        rest = pieces.pop()
        for piece in pieces:
            number += 1
            if piece.strip():
                yield Line(number, _short(piece, number, longest))
        _short(rest, number + 1, longest)
    if rest.strip():
        yield Line(number + 1, rest)


def read(line: Line) -> Task:
    """Read one line.

    Raises:
        BadLines: it is not what a line must be.
    """
    try:
        return _decode_task(line.content)
    except msgspec.ValidationError as error:
        # The words name the member and the type that is wrong, and quote nothing of what was sent.
        raise _bad(line, "invalid_request", f"This line is not a request: {error}.") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _bad(line, "invalid_json_line", "This line is not valid JSON.") from error


def check(lines: Iterable[Line], *, endpoint: str) -> Checked:
    """Read an input whole, and check all that can be known before it is run.

    Raises:
        BadLines: it is empty or too long, or lines of it cannot be run at ``endpoint``.
    """
    seen: set[bytes] = set()
    errors: list[LineError] = []
    model, count = "", 0
    for line in lines:
        count += 1
        if count > MOST_LINES:
            message = f"A batch may have at most {MOST_LINES} lines; split the file."
            raise BadLines(LineError(code="too_many_lines", message=message, line=line.number))
        try:
            task = read(line)
            model = _check(line, task, endpoint=endpoint, model=model)
            # Ids are kept as digests, because 50,000 long ones would be many bytes.
            digest = hashlib.blake2b(task.custom_id.encode(), digest_size=16).digest()
            if digest in seen:
                raise _bad(
                    line, "duplicate_custom_id", "An earlier line has the same custom_id.", param="custom_id"
                )
            seen.add(digest)
        except BadLines as bad:
            errors.extend(bad.errors)
            if len(errors) >= MOST_ERRORS:
                break
    if errors:
        raise BadLines(*errors)
    if not count:
        raise BadLines(LineError(code="empty_file", message="The input file holds no line."))
    return Checked(count, model)


def _check(line: Line, task: Task, *, endpoint: str, model: str) -> str:
    if not 0 < len(task.custom_id) <= _LONGEST_CUSTOM_ID:
        message = f"custom_id must have 1 to {_LONGEST_CUSTOM_ID} characters."
        raise _bad(line, "invalid_custom_id", message, param="custom_id")
    if task.method != "POST":
        raise _bad(line, "invalid_method", "method must be POST.", param="method")
    if task.url != endpoint:
        raise _bad(line, "invalid_url", f"url must be the batch's endpoint, {endpoint}.", param="url")
    try:
        body = _decode_body(task.body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise _bad(line, "invalid_body", "body must be a JSON object.", param="body") from None
    named = body.get("model")
    if not isinstance(named, str) or not named:
        raise _bad(line, "missing_required_parameter", "body.model must name a model.", param="body.model")
    if model and named != model:
        message = "All lines of a batch must name the same model; this line names another than those before."
        raise _bad(line, "mismatched_model", message, param="body.model")
    if body.get("stream"):
        raise _bad(
            line, "unsupported_parameter", "A batch cannot stream; leave stream out.", param="body.stream"
        )
    return named


def _short(piece: bytes, number: int, longest: int) -> bytes:
    if len(piece) > longest:
        message = f"This line is longer than the {longest} bytes a line may have."
        raise BadLines(LineError(code="line_too_long", message=message, line=number))
    return piece


def _bad(line: Line, code: str, message: str, *, param: str | None = None) -> BadLines:
    return BadLines(LineError(code=code, message=message, line=line.number, param=param))
