"""The cache in Redis by which processes share counts; while Redis is away, nothing is counted and nothing fails."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import Any

from django.core.cache.backends.redis import RedisCache
from redis.exceptions import ConnectionError, TimeoutError

log = logging.getLogger(__name__)


def _forgiving(name: str, otherwise: Any) -> Callable[..., Any]:
    asked = getattr(RedisCache, name)

    @functools.wraps(asked)
    def ask(self: RedisCache, *args: Any, **options: Any) -> Any:
        try:
            return asked(self, *args, **options)
        except (ConnectionError, TimeoutError) as error:
            log.warning("Redis is away, so that nothing is limited meanwhile: %s", type(error).__name__)
            if name == "get":
                return args[1] if len(args) > 1 else options.get("default")
            return otherwise

    return ask


class ForgivingRedisCache(RedisCache):
    """Limits are held as long as Redis answers; sign-in and the API go on without."""

    add = _forgiving("add", True)
    get = _forgiving("get", None)
    set = _forgiving("set", None)
    incr = _forgiving("incr", 0)
    delete = _forgiving("delete", False)
