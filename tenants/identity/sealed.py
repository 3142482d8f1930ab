"""Secrets of sign-in at rest: the one place of this room that seals."""

from __future__ import annotations

import base64

from tenants.sealing import seal, unseal


def seal_field(plain: str, *, table: str, row: object, field: str) -> bytes:
    """Seal a secret for one field of one row."""
    return seal(plain.encode(), bound_to=f"{table}/{row}/{field}")


def unseal_field(sealed: bytes | memoryview, *, table: str, row: object, field: str) -> str:
    """Give back what :func:`seal_field` sealed."""
    return unseal(bytes(sealed), bound_to=f"{table}/{row}/{field}").decode()


def seal_second_factor(plain: str) -> str:
    """Seal the secret of an authenticator app or of recovery codes, as text; allauth does not tell the row."""
    return base64.b64encode(seal(plain.encode(), bound_to="mfa_authenticator/data")).decode()


def unseal_second_factor(sealed: str) -> str:
    """Give back what :func:`seal_second_factor` sealed."""
    return unseal(base64.b64decode(sealed), bound_to="mfa_authenticator/data").decode()
