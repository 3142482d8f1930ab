"""Django's cache in PostgreSQL: what is counted there, all processes see, and none can change into code.

It holds little: attempts to sign in and one-time codes that were used. Values are JSON, never pickles.
"""

from __future__ import annotations

import datetime as dt
import json
import time
from typing import Any

from django.core.cache.backends.base import DEFAULT_TIMEOUT, BaseCache
from django.db import connection
from django.utils import timezone

from tenants.models import CacheEntry


class TableCache(BaseCache):
    """Keeps values in :class:`CacheEntry`."""

    def __init__(self, location: str, params: dict[str, Any]) -> None:
        super().__init__(params)

    def add(self, key, value, timeout=DEFAULT_TIMEOUT, version=None) -> bool:
        """Set a value unless there is one; of two who do so at once, one is told that they did."""
        with connection.cursor() as cursor:
            cursor.execute(
                "INSERT INTO tenants_cacheentry (key, value, expires_at) VALUES (%s, %s::jsonb, %s) "
                "ON CONFLICT (key) DO UPDATE SET value = EXCLUDED.value, expires_at = EXCLUDED.expires_at "
                "WHERE tenants_cacheentry.expires_at <= now()",
                [self._key(key, version), json.dumps(value), self._ends(timeout)],
            )
            return cursor.rowcount == 1

    def get(self, key, default=None, version=None) -> Any:
        entry = CacheEntry.objects.filter(key=self._key(key, version)).first()
        if entry is None or (entry.expires_at is not None and entry.expires_at <= timezone.now()):
            return default
        return entry.value

    def set(self, key, value, timeout=DEFAULT_TIMEOUT, version=None) -> None:
        CacheEntry.objects.bulk_create(
            [CacheEntry(key=self._key(key, version), value=value, expires_at=self._ends(timeout))],
            update_conflicts=True,
            unique_fields=["key"],
            update_fields=["value", "expires_at"],
        )

    def touch(self, key, timeout=DEFAULT_TIMEOUT, version=None) -> bool:
        found = CacheEntry.objects.filter(key=self._key(key, version))
        return found.update(expires_at=self._ends(timeout)) == 1

    def delete(self, key, version=None) -> bool:
        count, _ = CacheEntry.objects.filter(key=self._key(key, version)).delete()
        return count == 1

    def clear(self) -> None:
        CacheEntry.objects.all().delete()

    def _key(self, key: str, version: int | None) -> str:
        return self.make_and_validate_key(key, version=version)

    def _ends(self, timeout: Any) -> dt.datetime | None:
        ends = self.get_backend_timeout(timeout)
        return None if ends is None else timezone.now() + dt.timedelta(seconds=ends - time.time())
