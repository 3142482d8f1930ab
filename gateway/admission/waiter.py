"""One request that waits for a place at a replica."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from gateway.contract import SloClass

_LEAST_SHARE: Final = 0.001


class Waiter:
    """``seat`` takes a place and says whether there was one; ``verdict`` then becomes None, or what to
    raise instead.

    ``waiting`` is true while it stands in a queue. Waiters are told apart by identity.
    """

    __slots__ = ("arrived", "seat", "share", "slo_class", "tenant_id", "tokens", "verdict", "waiting")

    def __init__(
        self,
        *,
        slo_class: SloClass,
        tenant_id: str,
        share: float,
        tokens: int,
        arrived: float,
        seat: Callable[[], bool],
        verdict: asyncio.Future[Exception | None],
    ) -> None:
        self.slo_class = slo_class
        self.tenant_id = tenant_id
        self.share = max(share, _LEAST_SHARE)
        self.tokens = tokens
        self.arrived = arrived
        self.seat = seat
        self.verdict = verdict
        self.waiting = False
