"""What can keep a sealed value shut."""

from __future__ import annotations

from tenants.errors import BerthError


class CannotOpen(Exception):
    """A sealed value opens no more: it was changed, or sealed for another tenant, row or field."""


class KeyGone(CannotOpen):
    """The key that a value rests under is no longer among the sealing keys; the message names it."""


class KeysAway(BerthError):
    """The sealing keys cannot be had now; what rests under them opens once they can."""

    code = "secrets-unavailable"
    status = 503
    title = "Secrets cannot be sealed or opened now"
