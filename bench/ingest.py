"""Usage through its HTTP door: segments in large batches and alone, beside the database's floor; resent; rolled up."""

from __future__ import annotations

import datetime as dt
import http.client
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
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
BATCHES: Final = 80
WARM_UP_BATCHES: Final = 4
SINGLES: Final = 1_500
BATCH_CONNECTIONS: Final = (1, 2, 4)
SINGLE_CONNECTIONS: Final = (1, 8, 32)
#: What 100 million segments in a year are in a day.
DAY_SEGMENTS: Final = 274_000
RESENT: Final = 40


def measure() -> Figures:
    """Send batches of 1,000 new segments and batches of one, each beside the database's floor; resend some; count.

    The floor is the same statement by psycopg alone, over as many connections, in turns with the door on the same
    database. ``…_of_floor`` is the door's rate over the floor's. ``day_roll_up_s`` is the time to count a day of
    segments into minutes, hours and days; ``SCALE`` makes that day smaller. Only the web process and PostgreSQL run.
    """
    now = dt.datetime.now(dt.UTC)
    figures: Figures = {}
    sent = 0
    with berth.web() as web:
        door = _Door(web)
        payer = _payer(web.portal)
        shipment = Shipment(payer, name="bench")
        door.send([shipment.batch(BATCH, at=now) for _ in range(WARM_UP_BATCHES)], connections=1)
        sent += WARM_UP_BATCHES * BATCH
        for size, count, widths, name in (
            (BATCH, BATCHES, BATCH_CONNECTIONS, "segments"),
            (1, SINGLES, SINGLE_CONNECTIONS, "singles"),
        ):
            for width in widths:
                floor = _floor(web, payer, connections=width, batches=count, size=size)
                bodies = [shipment.batch(size, at=now) for _ in range(count)]
                seconds, receipts = door.send(bodies, connections=width)
                _check(receipts, inserted=count * size)
                sent += 2 * count * size
                figures[f"{name}_c{width}_per_s"] = count * size / seconds
                figures[f"{name}_c{width}_floor_per_s"] = count * size / floor
                figures[f"{name}_c{width}_of_floor"] = floor / seconds
        resent = [shipment.batch(BATCH, at=now) for _ in range(RESENT)]
        _check(door.send(resent, connections=2)[1], inserted=RESENT * BATCH)
        sent += RESENT * BATCH
        seconds, receipts = door.send(resent, connections=max(BATCH_CONNECTIONS))
        figures["resent_segments"] = RESENT * BATCH
        figures["resent_inserted_again"] = sum(receipt.inserted for receipt in receipts)
        figures[f"resent_c{max(BATCH_CONNECTIONS)}_per_s"] = RESENT * BATCH / seconds
        _roll_up(web, sent * REQUESTS_EACH)
        day = max(BATCH, round(DAY_SEGMENTS * float(os.environ.get("SCALE", "1"))) // BATCH * BATCH)
        door.send(list(_day(shipment, day, now)), connections=2)
        seconds = _roll_up(web, (sent + day) * REQUESTS_EACH)
        figures["day_segments"] = day
        figures["day_roll_up_s"] = seconds
        figures["day_roll_up_segments_per_s"] = day / seconds
        figures["lost_or_twice"] = 0  # else counting to exactly what was sent had failed
    return figures


def _day(shipment: Shipment, segments: int, now: dt.datetime) -> Iterator[bytes]:
    """Give batches that are spread evenly over yesterday."""
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0) - dt.timedelta(days=1)
    batches = segments // BATCH
    for number in range(batches):
        yield shipment.batch(BATCH, at=midnight + dt.timedelta(days=(number + 0.5) / batches))


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


def _floor(web: berth.Berth, payer: Payer, *, connections: int, batches: int, size: int) -> float:
    """Give the seconds that psycopg alone takes."""
    words = [payer.tenant_id, payer.project_id, str(connections), str(batches), str(size)]
    return _run(web, "bench.tools.ingest_floor", *words)


def _check(receipts: Sequence[UsageReceipt], *, inserted: int) -> None:
    found = sum(receipt.inserted for receipt in receipts)
    refused = [refused for receipt in receipts for refused in receipt.refused]
    if found != inserted or refused:
        raise RuntimeError(f"{found} of {inserted} segments were inserted; refused: {refused[:3]}")


def _roll_up(web: berth.Berth, requests: int) -> float:
    return _run(web, "bench.tools.roll_up", str(requests))


def _run(web: berth.Berth, module: str, *words: str) -> float:
    """Run a tool on the web process's database and give the seconds that it prints."""
    done = subprocess.run(
        [sys.executable, "-m", module, *words],
        cwd=ROOT, env=web.environment(), capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    if done.returncode != 0:
        raise RuntimeError(f"{module} failed:\n{done.stderr[-2000:]}")
    return float(done.stdout)
