"""Refusals in the shape OpenAI's clients know.

Every refusal is an :class:`ApiError`. Those below status 500 carry ``x-should-retry: false``, because the
same request would be refused again and clients retry by themselves; 429 and 503 leave the choice to them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final

import msgspec

REGION_URLS_HEADER: Final = "x-berth-region-urls"
_NONE: Final[Mapping[str, str]] = MappingProxyType({})


class ApiError(Exception):
    """An answer other than success.

    ``retry_after_s`` becomes the header ``retry-after``; ``close`` also ends the connection, for
    requests whose body was not read. ``more_headers`` go out with it, and before those it has by itself.
    """

    def __init__(
        self,
        *,
        status: int,
        message: str,
        type: str,
        code: str | None = None,
        param: str | None = None,
        retry_after_s: int | None = None,
        close: bool = False,
        more_headers: Mapping[str, str] = _NONE,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.type = type
        self.code = code
        self.param = param
        self.retry_after_s = retry_after_s
        self.close = close
        self.more_headers = more_headers

    @property
    def headers(self) -> dict[str, str]:
        """The headers that belong to this refusal."""
        headers = {}
        if self.retry_after_s is not None:
            headers["retry-after"] = str(self.retry_after_s)
        if self.status < 500 and self.status != 429:
            headers["x-should-retry"] = "false"
        if self.status == 401:
            headers["www-authenticate"] = "Bearer"
        return {**headers, **self.more_headers}

    def body(self) -> bytes:
        """The JSON document, also used as the last event of a stream that broke."""
        return msgspec.json.encode(
            {
                "error": {
                    "message": self.message,
                    "type": self.type,
                    "param": self.param,
                    "code": self.code,
                }
            }
        )


class Unserved(ApiError):
    """The endpoint could not serve the request before its first byte; another one might."""


class Down(Unserved):
    """The endpoint should serve and does not (503): an outage, which counts as a failure and not as a refusal."""


class Overloaded(Unserved):
    """The endpoint has no room for a request now (429, unless said otherwise)."""

    def __init__(
        self,
        message: str,
        *,
        retry_after_s: int,
        status: int = 429,
        type: str = "rate_limit_error",
        code: str = "overloaded",
    ) -> None:
        super().__init__(status=status, message=message, type=type, code=code, retry_after_s=retry_after_s)


def invalid(message: str, *, param: str | None = None, code: str | None = None) -> ApiError:
    """The request itself is wrong (400)."""
    return ApiError(status=400, message=message, type="invalid_request_error", param=param, code=code)


def unsupported(param: str, explanation: str) -> ApiError:
    """A field OpenAI knows and this gateway does not carry out (400)."""
    return invalid(explanation, param=param, code="unsupported_parameter")


def context_too_long(
    *, prompt_tokens: int, max_tokens: int, context_tokens: int, whose: str = "the endpoint"
) -> ApiError:
    """The prompt and the tokens asked for do not fit (400). ``whose`` cap it is, such as "endpoint docs"."""
    return invalid(
        f"The prompt has {prompt_tokens} tokens and {max_tokens} were asked for, together more than the"
        f" {context_tokens} that {whose} allows.",
        code="context_length_exceeded",
    )


def prompt_too_long(*, prompt_tokens: int, context_tokens: int, whose: str) -> ApiError:
    """The prompt alone leaves no room for an answer (400)."""
    return invalid(
        f"The prompt has {prompt_tokens} tokens, which leaves no room for an answer within the {context_tokens}"
        f" that {whose} allows.",
        code="context_length_exceeded",
    )


def engine_refused() -> ApiError:
    """The engine found fault with what only it can judge (400)."""
    return invalid(
        "The engine refused this request: look at its tools, response_format, logit_bias, input or dimensions.",
        code="engine_refused_request",
    )


def unauthenticated(message: str, *, code: str) -> ApiError:
    """No usable key (401)."""
    return ApiError(status=401, message=message, type="authentication_error", code=code)


def not_allowed(message: str, *, code: str, param: str | None = None) -> ApiError:
    """The key is known and may not do this (403)."""
    return ApiError(
        status=403,
        message=f"{message} Owners, admins and developers of your organisation can change the key in the portal.",
        type="permission_error",
        code=code,
        param=param,
    )


def model_not_found(name: str) -> ApiError:
    """No such endpoint, or none that the key may know of: both read the same (404)."""
    return ApiError(
        status=404,
        message=f"The model {name[:200]!r} does not exist or your key has no access to it.",
        type="invalid_request_error",
        param="model",
        code="model_not_found",
    )


def wrong_region(name: str, *, region: str, residency: str, urls: Sequence[str]) -> ApiError:
    """The endpoint's residency does not let its requests pass this gateway's region (421)."""
    if urls:
        remedy = f"Send it to {' or '.join(urls)}."
        headers = {
            REGION_URLS_HEADER: ", ".join(urls),
            "link": ", ".join(f'<{url}>; rel="alternate"' for url in urls),
        }
    else:
        remedy = "No gateway that may serve it has a public address: ask whoever runs this platform."
        headers = {}
    return ApiError(
        status=421,
        message=f"The model {name!r} has the residency {residency}, which does not allow region {region}, where"
        f" this gateway stands. Nothing of the request was kept or passed on. {remedy}",
        type="invalid_request_error",
        param="model",
        code="wrong_region",
        more_headers=headers,
    )


def body_too_large(limit_bytes: int) -> ApiError:
    """More than the gateway reads (413)."""
    return ApiError(
        status=413,
        message=f"The request body is larger than this gateway's limit of {limit_bytes} bytes.",
        type="invalid_request_error",
        code="request_too_large",
        close=True,
    )


def body_too_slow(limit_s: float) -> ApiError:
    """The body did not arrive in time (408)."""
    return ApiError(
        status=408,
        message=f"The request body did not arrive within {limit_s:g} s.",
        type="invalid_request_error",
        code="request_body_timeout",
        close=True,
    )


def not_ready(
    message: str,
    *,
    code: str = "endpoint_not_ready",
    retry_after_s: int,
    kind: type[Unserved] = Unserved,
) -> Unserved:
    """Nothing can serve this now; later it may (503)."""
    return kind(
        status=503, message=message, type="service_unavailable", code=code, retry_after_s=retry_after_s
    )


def engine_failed(message: str, *, status: int = 502, code: str = "engine_error") -> ApiError:
    """The engine failed after every attempt (502, 503 or 504)."""
    return Unserved(
        status=status,
        message=message,
        type="server_error",
        code=code,
        retry_after_s=1 if status == 503 else None,
    )


def not_http() -> ApiError:
    """What came cannot be read as a request: its line, a header, or the framing of its body (400)."""
    return ApiError(
        status=400,
        message="This is not a request that the gateway can read: its request line, a header or the framing of"
        " its body is malformed or too large.",
        type="invalid_request_error",
        code="malformed_request",
        close=True,
    )


def body_encoded() -> ApiError:
    """A compressed body (415)."""
    return ApiError(
        status=415,
        message="Request bodies must not be compressed: leave the header content-encoding out.",
        type="invalid_request_error",
        code="unsupported_content_encoding",
        close=True,
    )


def internal(*, close: bool = False) -> ApiError:
    """A fault of the gateway itself (500)."""
    return ApiError(
        status=500,
        message="The gateway could not carry out this request; the fault is logged under its request id.",
        type="server_error",
        code="internal_error",
        close=close,
    )
