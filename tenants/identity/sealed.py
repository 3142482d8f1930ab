"""Secrets of sign-in at rest: the one place of this room that seals."""

from __future__ import annotations

import base64

from django.db import models

from tenants.errors import Conflict
from tenants.sealing import CannotOpen, SealedField, seal, unseal
from tenants.sealing.places import texts_are_sealed

#: allauth does not tell whose second factor it has encrypted.
_SECOND_FACTOR = SealedField(None, "mfa_authenticator", "any", "data")
texts_are_sealed("mfa.Authenticator", "data", ("secret", "seed"), _SECOND_FACTOR)


class SecretLost(Conflict):
    """A secret of sign-in cannot be opened any more; the message says how to get on."""


def seal_field(plain: str, *, row: models.Model, field: str) -> bytes:
    """Seal a secret for one field of one row."""
    return seal(plain.encode(), field=SealedField.of(row, field))


def unseal_field(*, row: models.Model, field: str) -> str:
    """Give back what :func:`seal_field` sealed.

    Raises:
        SecretLost: it cannot be opened any more.
        KeysAway: it cannot be opened now.
    """
    try:
        return unseal(getattr(row, field), field=SealedField.of(row, field)).decode()
    except CannotOpen as error:
        raise SecretLost(
            f"The {field.replace('_', ' ')} of {row} cannot be opened any more; it must be entered anew. {error}"
        ) from error


def seal_second_factor(plain: str) -> str:
    """Seal the secret of an authenticator app or of recovery codes, as text; allauth does not tell the row."""
    return base64.b64encode(seal(plain.encode(), field=_SECOND_FACTOR)).decode()


def unseal_second_factor(sealed: str) -> str:
    """Give back what :func:`seal_second_factor` sealed.

    Raises:
        SecretLost: it cannot be opened any more.
        KeysAway: it cannot be opened now.
    """
    try:
        return unseal(base64.b64decode(sealed), field=_SECOND_FACTOR).decode()
    except CannotOpen as error:
        raise SecretLost(
            "The secret of your second factor cannot be opened any more, so that no code of it can be checked. Have an"
            " operator of the platform take your second factors away, then set one up anew."
        ) from error
