"""The base error of all rooms. One handler turns it into RFC 9457 JSON or an HTML message."""

from __future__ import annotations

from typing import Any, Final

#: Where each kind of error is explained: the ``type`` of a problem document is this and its code.
TYPES: Final = "/docs/errors#"


def problem(status: int, code: str, title: str, detail: str, **extra: Any) -> dict[str, Any]:
    """Build a problem document (RFC 9457)."""
    return {"type": TYPES + code, "title": title, "status": status, "code": code, "detail": detail, **extra}


class BerthError(Exception):
    """An error that a person or a program can act on.

    ``code`` is stable and names the problem type; ``status`` is the HTTP status; ``message`` says
    what to do; ``extra`` holds further members of the problem document.
    """

    code = "error"
    status = 400
    title = "The request could not be carried out"

    def __init__(self, message: str, **extra: Any) -> None:
        super().__init__(message)
        self.message = message
        self.extra = extra

    def document(self) -> dict[str, Any]:
        """Give the problem document that tells of it."""
        return problem(self.status, self.code, self.title, self.message, **self.extra)


class Invalid(BerthError):
    """A value is wrong. ``errors`` maps field names to lists of messages."""

    code = "invalid"
    status = 422
    title = "Some values are not right"

    def __init__(self, message: str, *, errors: dict[str, list[str]] | None = None, **extra: Any) -> None:
        super().__init__(message, **({"errors": errors} if errors else {}), **extra)
        self.errors = errors or {}


class NotFound(BerthError):
    """No such object, or none that the caller may know of: both read the same."""

    code = "not-found"
    status = 404
    title = "Not found"

    def __init__(self, message: str = "There is no such object.", **extra: Any) -> None:
        super().__init__(message, **extra)


class Forbidden(BerthError):
    """The caller's role does not allow this."""

    code = "forbidden"
    status = 403
    title = "Your role does not allow this"


class Conflict(BerthError):
    """The object's present state does not allow this."""

    code = "conflict"
    status = 409
    title = "The present state does not allow this"


class OverQuota(BerthError):
    """A quota of the tenant would be exceeded; ``extra`` names resource, limit and use."""

    code = "over-quota"
    status = 403
    title = "A quota would be exceeded"


class Stale(BerthError):
    """The object has changed since the caller read it."""

    code = "stale"
    status = 412
    title = "The object has changed meanwhile"
