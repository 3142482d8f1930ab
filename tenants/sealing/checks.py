"""Checks of the sealing keys: set up, and none of them gone that a secret needs."""

from __future__ import annotations

from typing import Any

from django.core.checks import CheckMessage, Tags, Warning, register
from django.core.exceptions import ImproperlyConfigured
from django.db import DatabaseError

from tenants.errors import BerthError


@register(Tags.database)
def keys_are_there(databases: list[str] | None = None, **_: Any) -> list[CheckMessage]:
    """Warn of secrets whose key is gone: ``manage.py check --database default``, and each ``migrate``."""
    if not databases:
        return []
    from tenants.sealing.rotation import secrets_status

    try:
        shut = [rested for rested in secrets_status() if not rested.opens]
    except DatabaseError:
        return []  # not migrated yet
    except (BerthError, ImproperlyConfigured) as error:
        return [Warning(f"The sealing keys cannot be had: {error}", id="tenants.W001")]
    return [
        Warning(
            f"{rested.values} secrets in {rested.column} do not open: the key "
            f"{rested.head or 'of an older version'} is gone.",
            hint="Bring the key back and run manage.py secrets_rotate, or set these secrets anew.",
            id="tenants.W002",
        )
        for rested in shut
    ]
