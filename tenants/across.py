"""The one door by which people of the platform see rows of all tenants: who looked at what is written down.

Berth's own work goes through :func:`tenants.scope.platform`; nobody looks there.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from tenants import acting, audit, scope
from tenants.models import User


@contextlib.contextmanager
def across_tenants(user: User, *, what: str, reason: str) -> Iterator[None]:
    """See every tenant's rows for the length of the block, and write down, once an hour, that ``user`` did.

    ``what`` is the screen or operation that shows them, ``reason`` why it needs rows of all tenants.

    Raises:
        ScopeError: no reason was given, or it is not said what is shown.
    """
    if not what.strip():
        raise scope.ScopeError("Say what is shown of all tenants.")
    acting.identify(acting.operator(user))
    with scope.platform(reason):
        audit.access(user, what, reason=reason)
        yield
