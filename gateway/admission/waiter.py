"""One request that waits for a place at a replica."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from gateway.contract import SloClass


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
        self.share = share
        self.tokens = tokens
        self.arrived = arrived
        self.seat = seat
        self.verdict = verdict
        self.waiting = False
