"""What can go wrong between Berth and a Kubernetes API, told apart by what one would do about it."""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping
from typing import Any

_LONGEST = 2000  # characters kept of a server's message


class KubeError(Exception):
    """A request that did not succeed. ``status`` is the HTTP status, 0 where there was no answer.

    ``reason`` is Kubernetes' CamelCase word; ``causes`` are (field, message) pairs where the server names them.
    """

    def __init__(
        self, status: int, reason: str, message: str, *, causes: tuple[tuple[str, str], ...] = ()
    ) -> None:
        super().__init__(message[:_LONGEST])
        self.status = status
        self.reason = reason
        self.message = message[:_LONGEST]
        self.causes = causes


class Fault(enum.StrEnum):
    """Why there was no answer."""

    REFUSED = "refused"  # nothing listens there
    DNS = "dns"  # the name has no address
    TIMEOUT = "timeout"  # nobody took the connection
    SLOW = "slow"  # connected, but the answer did not come in time
    NO_ROUTE = "no-route"
    RESET = "reset"  # the connection broke
    TLS_UNKNOWN_CA = "tls-unknown-ca"
    TLS_HOST_NAME = "tls-host-name"
    TLS_EXPIRED = "tls-expired"
    TLS = "tls"  # anything else of TLS, plain HTTP behind the port among it
    PROXY = "proxy"
    ADDRESS = "address"  # it is one that Berth does not connect to
    NOT_KUBERNETES = "not-kubernetes"  # something answers, but not in Kubernetes' words


class Unreachable(KubeError):
    """No usable answer came. ``fault`` tells why."""

    def __init__(self, fault: Fault, message: str, *, status: int = 0) -> None:
        super().__init__(status, "Unreachable", message)
        self.fault = fault


class Unauthorized(KubeError):
    """401: the credentials are not, or no longer, accepted."""


class Forbidden(KubeError):
    """403. What was missing is parsed from RBAC's wording; empty where another admission step refused."""

    def __init__(self, status: int, reason: str, message: str, **details: Any) -> None:
        super().__init__(status, reason, message, **details)
        found = _FORBIDDEN.search(message)
        words = found.groupdict() if found else {}
        self.user: str = words.get("user") or ""
        self.verb: str = words.get("verb") or ""
        self.resource: str = words.get("resource") or ""
        self.group: str = words.get("group") or ""
        self.namespace: str = words.get("namespace") or ""

    @property
    def by_rbac(self) -> bool:
        """Whether a permission was missing; otherwise an admission step refused the object."""
        return bool(self.verb)


class NotFound(KubeError):
    """404: no such object, or the API does not know the kind."""


class Conflict(KubeError):
    """409: the object changed meanwhile, or another field manager owns a field."""


class AlreadyExists(Conflict):
    """409: an object of that name is there."""


class Gone(KubeError):
    """410: the resource version or continue token is too old; list again."""


class Invalid(KubeError):
    """400, 422: the server will never accept this object; ``causes`` name the fields."""


class TooManyRequests(KubeError):
    """429: ``retry_after`` seconds are asked for."""

    retry_after: float = 1.0


class ServerTrouble(KubeError):
    """5xx: the server, or one of its webhooks, could not do it now."""


_FORBIDDEN = re.compile(
    r'User "(?P<user>[^"]*)" cannot (?P<verb>[a-z]+) (?:resource|path) "(?P<resource>[^"]+)"'
    r'(?: in API group "(?P<group>[^"]*)")?(?: in the namespace "(?P<namespace>[^"]*)")?'
)

_UNTYPED = "failed to create typed patch object"

_BY_STATUS: Mapping[int, type[KubeError]] = {
    400: Invalid,
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    410: Gone,
    422: Invalid,
    429: TooManyRequests,
}


def error_of(status: int, body: Mapping[str, Any], *, retry_after: float | None = None) -> KubeError:
    """Make the error of an HTTP status and a Kubernetes Status object.

    ``status`` 0 is replaced by the object's own code (an ERROR event of a watch).
    """
    status = status or int(body.get("code") or 500)
    reason = str(body.get("reason") or "")
    message = str(body.get("message") or f"the server answered {status}")
    details = body.get("details") or {}
    causes = tuple(
        (str(cause.get("field", "")), str(cause.get("message", ""))) for cause in details.get("causes") or ()
    )
    if reason == "Expired":
        status = 410
    elif status == 500 and _UNTYPED in message:  # how the server answers an apply with an unknown field
        status, reason = 422, reason or "Invalid"
    make = _BY_STATUS.get(status, ServerTrouble if status >= 500 else KubeError)
    if reason == "AlreadyExists":
        make = AlreadyExists
    error = make(status, reason, message, causes=causes)
    if isinstance(error, TooManyRequests):
        seconds = retry_after if retry_after is not None else details.get("retryAfterSeconds")
        error.retry_after = float(seconds) if seconds else 1.0
    return error
