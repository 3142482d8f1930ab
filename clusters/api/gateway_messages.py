"""What all doors of gateways ask of a message, and how they refuse one."""

from __future__ import annotations

from typing import Final

import msgspec

from tenants.errors import BerthError

MOST_INSTANCE: Final = 20
PROBLEM: Final = "application/problem+json"


class NotAGateway(BerthError):
    code = "not-authenticated"
    status = 401
    title = "This is not the token of a gateway"

    def __init__(self) -> None:
        super().__init__("Send the gateway's token as: Authorization: Bearer …")


class BadBatch(BerthError):
    code = "malformed"
    status = 400
    title = "The batch cannot be read"


def bearer(header: str) -> str:
    """Give the token of an Authorization header, empty if there is none."""
    scheme, _, token = header.partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def check_name(gateway: str, told: str) -> None:
    """Check that a message says it is from ``gateway``: its name, a slash, and the instance of a data folder.

    Raises:
        BadBatch: it is of another, or its instance is too long or not printable.
    """
    name, _, instance = told.partition("/")
    if name != gateway:
        raise BadBatch(f"This token belongs to gateway {gateway}, the message says {told[:80]}.")
    if len(instance) > MOST_INSTANCE or not instance.isprintable():
        raise BadBatch(f"The instance of a gateway has at most {MOST_INSTANCE} printable characters.")


def check_count(count: int, what: str, *, most: int) -> None:
    """Check that a message has at most ``most`` of something.

    Raises:
        BadBatch: it has more.
    """
    if count > most:
        raise BadBatch(f"One message has at most {most} {what}; this one has {count}.")


def problem(error: BerthError) -> bytes:
    """Give the body that says why a message was refused."""
    return msgspec.json.encode(error.document(), enc_hook=str)
