"""What an engine's failure means: for who tries again, and for the client."""

from __future__ import annotations

from typing import Final

from gateway import errors
from gateway.contract import Endpoint
from gateway.engines.base import (
    EngineAnsweredError,
    EngineError,
    EngineOverloaded,
    EngineTimedOut,
    EngineUnreachable,
)

_NOT_THERE: Final = 404  # the model, in an engine that is starting or stopping


def answered_4xx(error: EngineError) -> bool:
    """Say whether the engine finds fault with the request, so that any other would."""
    return (
        isinstance(error, EngineAnsweredError)
        and 400 <= error.status < 500
        and not isinstance(error, EngineOverloaded)
    )


def not_there(error: EngineError) -> bool:
    """Say whether the engine does not have the model, as while it starts or stops."""
    return isinstance(error, EngineAnsweredError) and error.status == _NOT_THERE


def explain(error: EngineError) -> errors.ApiError:
    """Turn an engine's failure into what a client is told."""
    if isinstance(error, EngineTimedOut):
        return errors.engine_failed(f"The engine was too slow: {error}.", status=504, code="engine_timeout")
    if isinstance(error, EngineUnreachable):
        return errors.engine_failed(
            "The engine cannot be reached; it may be restarting.", status=503, code="engine_unreachable"
        )
    if isinstance(error, EngineOverloaded):
        return errors.Overloaded(
            "The engine is overloaded.",
            status=503,
            type="server_error",
            code="engine_overloaded",
            retry_after_s=1,
        )
    return errors.engine_failed("The engine failed to answer this request.")


def left_alone(endpoint: Endpoint) -> errors.ApiError:
    """No engine is to be asked now (503)."""
    return errors.engine_failed(
        f"Every engine of endpoint {endpoint.name} failed again and again just now; they are tried one request at"
        " a time until one answers.",
        status=503,
        code="engine_unreachable",
    )
