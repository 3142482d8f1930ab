"""Checks of the sealing keys: set up, and none of them gone that a secret needs."""

from __future__ import annotations

from typing import Any

from django.core.checks import CheckMessage, Error, Tags, Warning, register
from django.core.exceptions import ImproperlyConfigured
from django.db import DatabaseError, connection

from tenants.errors import BerthError
from tenants.sealing.providers import sealing_provider


@register(Tags.security)
def provider_is_set_up(**_: Any) -> list[CheckMessage]:
    """Refuse settings under which nothing could be sealed."""
    try:
        sealing_provider()
    except ImproperlyConfigured as error:
        return [Error(str(error), id="tenants.E001")]
    return []


@register(Tags.database)
def keys_are_there(databases: list[str] | None = None, **_: Any) -> list[CheckMessage]:
    """Warn of secrets whose key is gone: ``manage.py check --database default``, and each ``migrate``."""
    if not databases:
        return []
    from tenants.models import SealingRotation
    from tenants.sealing.rotation import secrets_status

    try:
        if SealingRotation._meta.db_table not in connection.introspection.table_names():
            return []  # not migrated yet
        shut = [rested for rested in secrets_status() if not rested.opens]
    except DatabaseError:
        return []  # away, or half migrated
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
