"""How the stand-in says no: a Kubernetes Status object."""

from __future__ import annotations

from typing import Any


class Refusal(Exception):
    """An answer that is not 2xx."""

    def __init__(
        self,
        status: int,
        reason: str,
        message: str,
        *,
        causes: list[dict[str, str]] | None = None,
        retry_after: int | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after = retry_after
        details: dict[str, Any] = {}
        if causes:
            details["causes"] = causes
        if retry_after is not None:
            details["retryAfterSeconds"] = retry_after
        self.body: dict[str, Any] = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": message,
            "reason": reason,
            **({"details": details} if details else {}),
            "code": status,
        }


def gone(version: int | str) -> Refusal:
    """The version asked for is no longer known."""
    return Refusal(410, "Expired", f"too old resource version: {version}")
