"""``python -m bench.tools.ingest_floor TENANT PROJECT CONNECTIONS BATCHES SIZE``: what the database alone can do.

Stores new segments by the door's own statement through psycopg, without Django, HTTP or checks, each batch in a
transaction of its own with row-level security in force. All that can be prepared is prepared before. Prints the
seconds.
"""

from __future__ import annotations

import datetime as dt
import sys
import time
import uuid
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import django
import msgspec
import psycopg

from bench.tools.segments import Payer, Shipment
from gateway.contract import UsageBatch

_PLATFORM = "SELECT set_config('berth.platform', 'on', true)"


def main(payer: Payer, *, connections: int, batches: int, size: int) -> float:
    """Give the seconds from the first transaction's begin to the last one's end."""
    from django.db import connection

    from billing.metering.ingest import insertion

    now = dt.datetime.now(dt.UTC)
    shipment = Shipment(payer, name=f"floor-{uuid.uuid4().hex[:8]}")
    values = [
        insertion(msgspec.json.decode(shipment.batch(size, at=now), type=UsageBatch).segments, now)
        for _ in range(batches)
    ]
    settings = {
        name: value
        for name, value in connection.get_connection_params().items()
        if name in ("dbname", "user", "password", "host", "port")
    }
    open_ones = [psycopg.connect(**settings) for _ in range(connections)]

    def store(share: Sequence[tuple[str, list[object]]], database: psycopg.Connection) -> None:
        for each in share:
            database.execute(_PLATFORM)
            database.execute(*each)
            database.commit()

    shares = [values[first::connections] for first in range(connections)]
    with ThreadPoolExecutor(connections) as pool:
        begun = time.perf_counter()
        list(pool.map(store, shares, open_ones))
        return time.perf_counter() - begun


if __name__ == "__main__":
    django.setup()
    tenant, project, *numbers = sys.argv[1:]
    wide, many, large = map(int, numbers)
    print(main(Payer(tenant, project), connections=wide, batches=many, size=large))
