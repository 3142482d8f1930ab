"""The one door by which people of the platform see rows of all tenants: who looked at what is written down.

Berth's own work goes through :func:`tenants.scope.platform`; nobody looks there.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
from collections.abc import Iterator
from typing import Final

from django.core.cache import caches
from django.db import transaction

from tenants import acting, audit, scope
from tenants.models import User

#: A person who looks at the same again within so long is not written down again: parts of pages ask every few seconds.
_AGAIN_S: Final = 3600


@contextlib.contextmanager
def across_tenants(user: User, *, what: str, reason: str) -> Iterator[None]:
    """See every tenant's rows for the length of the block, and write down that ``user`` did.

    ``what`` is the screen or operation that shows them, ``reason`` why it needs rows of all tenants.

    Raises:
        ScopeError: no reason was given, or it is not said what is shown.
    """
    if not what.strip():
        raise scope.ScopeError("Say what is shown of all tenants.")
    acting.identify(acting.operator(user))
    seen = f"across:{hashlib.blake2s(f'{user.pk} {what}'.encode()).hexdigest()}"
    with scope.platform(reason):
        if not caches["counts"].get(seen):
            audit.access(user, what, reason=reason)
            # Once it is kept: what is rolled back was not written down.
            transaction.on_commit(functools.partial(caches["counts"].set, seen, True, _AGAIN_S))
        yield
