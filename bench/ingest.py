"""Usage through its HTTP door: segments in large batches and alone, resent, and rolled up."""

from __future__ import annotations

import datetime as dt
import http.client
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import msgspec

from bench.tools import berth
from bench.tools.figures import Figures
from bench.tools.load import ROOT
from bench.tools.segments import REQUESTS_EACH, Payer, Shipment
from gateway.contract import USAGE_PATH, UsageReceipt
from portal.demo import accounts
from tests.scenarios.stack import Session

BATCH: Final = 1_000
BATCHES: Final = 120
WARM_UP_BATCHES: Final = 4
SINGLES: Final = 1_000
CONNECTIONS: Final = (1, 2, 4)


def measure() -> Figures:
    """Send batches of 1,000 new segments and batches of one over 1, 2 and 4 connections, then resend some.

    Only the web process and PostgreSQL run. ``roll_up_s`` is the time to count all that into minutes, hours and days.
    """
    now = dt.datetime.now(dt.UTC)
    figures: Figures = {}
    segments = 0
    with berth.web() as web:
        door = _Door(web)
        shipment = Shipment(_payer(web.portal), name="bench")
        door.send([shipment.batch(BATCH, at=now) for _ in range(WARM_UP_BATCHES)], connections=1)
        segments += WARM_UP_BATCHES * BATCH
        for connections in CONNECTIONS:
            bodies = [shipment.batch(BATCH, at=now) for _ in range(BATCHES)]
            seconds, receipts = door.send(bodies, connections=connections)
            _check(receipts, inserted=BATCHES * BATCH)
            segments += BATCHES * BATCH
            figures[f"segments_c{connections}_per_s"] = BATCHES * BATCH / seconds
        for connections in CONNECTIONS:
            singles = [shipment.batch(1, at=now) for _ in range(SINGLES)]
            seconds, receipts = door.send(singles, connections=connections)
            _check(receipts, inserted=SINGLES)
            segments += SINGLES
            figures[f"batches_of_one_c{connections}_per_s"] = SINGLES / seconds
        seconds, receipts = door.send(bodies, connections=max(CONNECTIONS))
        figures["resent_segments"] = BATCHES * BATCH
        figures["resent_inserted_again"] = sum(receipt.inserted for receipt in receipts)
        figures[f"resent_c{max(CONNECTIONS)}_per_s"] = BATCHES * BATCH / seconds
        figures["rolled_up_segments"] = segments
        figures["roll_up_s"] = _roll_up(web, segments * REQUESTS_EACH)
        figures["roll_up_segments_per_s"] = segments / figures["roll_up_s"]
    return figures


class _Door:
    def __init__(self, web: berth.Berth) -> None:
        self._address = web.portal.removeprefix("http://")
        self._headers = {"Authorization": f"Bearer {web.gateway_token}", "Content-Type": "application/json"}

    def send(self, bodies: Sequence[bytes], *, connections: int) -> tuple[float, list[UsageReceipt]]:
        """Send all bodies, shared out between ``connections``; give the seconds and the receipts."""
        shares = [bodies[first::connections] for first in range(connections)]
        with ThreadPoolExecutor(connections) as pool:
            begun = time.perf_counter()
            receipts = [receipt for found in pool.map(self._send_share, shares) for receipt in found]
            return time.perf_counter() - begun, receipts

    def _send_share(self, bodies: Sequence[bytes]) -> list[UsageReceipt]:
        connection = http.client.HTTPConnection(self._address, timeout=60)
        receipts = []
        try:
            for body in bodies:
                connection.request("POST", USAGE_PATH, body, self._headers)
                answer = connection.getresponse()
                content = answer.read()
                if answer.status != 200:
                    raise RuntimeError(f"the door answered {answer.status}: {content[:500]!r}")
                receipts.append(msgspec.json.decode(content, type=UsageReceipt))
        finally:
            connection.close()
        return receipts


def _payer(portal: str) -> Payer:
    owner = Session(portal, accounts.TENANTS[0].owner)
    return Payer(owner.get("/tenant")["id"], owner.get("/projects")["results"][0]["id"])


def _check(receipts: Sequence[UsageReceipt], *, inserted: int) -> None:
    found = sum(receipt.inserted for receipt in receipts)
    refused = [refused for receipt in receipts for refused in receipt.refused]
    if found != inserted or refused:
        raise RuntimeError(f"{found} of {inserted} segments were inserted; refused: {refused[:3]}")


def _roll_up(web: berth.Berth, requests: int) -> float:
    done = subprocess.run(
        [sys.executable, "-m", "bench.tools.roll_up", str(requests)],
        cwd=ROOT, env=web.environment(), capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    if done.returncode != 0:
        raise RuntimeError(f"the roll-up failed:\n{done.stderr[-2000:]}")
    return float(done.stdout)
