"""Ships the spool to the control plane: in order, in bounded batches, again until acknowledged."""

from __future__ import annotations

import asyncio
import datetime as dt
import logging
from collections.abc import Mapping

import aiohttp
import msgspec

from gateway.backoff import Backoff
from gateway.contract import USAGE_PATH, DayTotals, UsageBatch, UsageReceipt, UsageSegment
from gateway.metering.meter import Meter
from gateway.metering.records import Totals
from gateway.metering.spool import BATCH_SEGMENTS, Cut

_log = logging.getLogger(__name__)
_receipt = msgspec.json.Decoder(UsageReceipt)
_TIMEOUT = aiohttp.ClientTimeout(total=30.0, sock_connect=5.0)


class ShippingFailed(Exception):
    """The control plane did not take a batch; the message says how it answered."""


class Shipper:
    """Sends what ``meter`` has cut. ``session`` carries the gateway's token."""

    def __init__(self, *, meter: Meter, session: aiohttp.ClientSession, control_plane_url: str) -> None:
        self._meter = meter
        self._session = session
        self._url = control_plane_url + USAGE_PATH
        self._wake = asyncio.Event()
        self._wake.set()
        self._lock = asyncio.Lock()

    def wake(self) -> None:
        """Say that the spool has grown."""
        self._wake.set()

    async def run(self) -> None:
        """Ship whenever there is something, until cancelled."""
        backoff = Backoff(first_s=0.25, most_s=15.0)
        while True:
            await self._wake.wait()
            self._wake.clear()
            try:
                await self.ship()
                backoff.reset()
            except (ShippingFailed, OSError, msgspec.DecodeError) as error:
                delay = backoff.next()
                _log.warning(
                    "%d usage segments wait; next try in %.1f s: %s",
                    self._meter.spool.segments_pending, delay, error,
                )  # fmt: skip
                await asyncio.sleep(delay)
                self._wake.set()

    async def ship(self) -> None:
        """Ship everything that waits.

        Raises:
            ShippingFailed: the control plane is away or did not take a batch; what waits is kept.
        """
        async with self._lock:
            spool = self._meter.spool
            while cuts := await asyncio.to_thread(spool.next_batch):
                await self._send(cuts)
                await asyncio.to_thread(spool.acknowledge, cuts)
                await asyncio.to_thread(self._meter.remove_shipped)

    async def _send(self, cuts: list[Cut]) -> None:
        segments = [segment for cut in cuts for segment in cut.segments]
        days = _told(cuts[-1].days)
        for start in range(0, len(segments), BATCH_SEGMENTS):
            part = tuple(segments[start : start + BATCH_SEGMENTS])
            # The totals reach to the last segment: said earlier, they would be ahead of what has come.
            is_last = start + BATCH_SEGMENTS >= len(segments)
            await self._send_batch(part, days if is_last else ())

    async def _send_batch(self, segments: tuple[UsageSegment, ...], days: tuple[DayTotals, ...]) -> None:
        batch = UsageBatch(gateway=self._meter.identity, segments=segments, days=days)
        try:
            async with self._session.post(
                self._url,
                data=msgspec.json.encode(batch),
                headers={"Content-Type": "application/json"},
                timeout=_TIMEOUT,
                allow_redirects=False,
            ) as response:
                body = await response.read()
        except (aiohttp.ClientError, TimeoutError) as error:
            raise ShippingFailed(f"the control plane cannot be reached: {error!r}") from error
        if response.status != 200:
            raise ShippingFailed(f"the control plane answered {response.status}")
        try:
            receipt = _receipt.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise ShippingFailed(f"its receipt does not follow the contract: {error}") from error
        if receipt.inserted + receipt.duplicates + len(receipt.refused) != len(segments):
            raise ShippingFailed(
                f"its receipt accounts for {receipt.inserted} + {receipt.duplicates} +"
                f" {len(receipt.refused)} of {len(segments)} segments"
            )
        by_sequence = {segment.sequence: segment for segment in segments}
        for refusal in receipt.refused:
            if (segment := by_sequence.get(refusal.sequence)) is not None:
                await asyncio.to_thread(self._meter.spool.refuse, segment, refusal)


def _told(days: Mapping[str, Totals]) -> tuple[DayTotals, ...]:
    return tuple(
        DayTotals(
            day=dt.date.fromisoformat(day),
            requests=sums.requests,
            input_tokens=sums.input_tokens,
            output_tokens=sums.output_tokens,
            cached_tokens=sums.cached_tokens,
        )
        for day, sums in days.items()
    )
