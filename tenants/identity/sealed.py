"""Secrets of sign-in at rest: the one place of this room that seals."""

from __future__ import annotations

import base64

from django.db import models

from tenants.sealing import SealedField, seal, unseal
from tenants.sealing.places import texts_are_sealed

#: allauth does not tell whose second factor it has encrypted.
_SECOND_FACTOR = SealedField(None, "mfa_authenticator", "any", "data")
texts_are_sealed("mfa.Authenticator", "data", ("secret", "seed"), _SECOND_FACTOR)


def seal_field(plain: str, *, row: models.Model, field: str) -> bytes:
    """Seal a secret for one field of one row."""
    return seal(plain.encode(), field=SealedField.of(row, field))


def unseal_field(*, row: models.Model, field: str) -> str:
    """Give back what :func:`seal_field` sealed."""
    return unseal(getattr(row, field), field=SealedField.of(row, field)).decode()


def seal_second_factor(plain: str) -> str:
    """Seal the secret of an authenticator app or of recovery codes, as text; allauth does not tell the row."""
    return base64.b64encode(seal(plain.encode(), field=_SECOND_FACTOR)).decode()


def unseal_second_factor(sealed: str) -> str:
    """Give back what :func:`seal_second_factor` sealed."""
    return unseal(base64.b64decode(sealed), field=_SECOND_FACTOR).decode()
