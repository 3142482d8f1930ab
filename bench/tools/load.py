"""Load on an HTTP/1.1 server over raw sockets, from a process of its own.

``python -m bench.tools.load`` reads a :class:`Plan` as JSON from its input and writes a :class:`Report`. It
does as little as it can for each request, so that on a small machine it leaves the cores to what is measured.
"""

from __future__ import annotations

import asyncio
import random
import resource
import sys
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import msgspec
import uvloop

ROOT: Final = Path(__file__).resolve().parent.parent.parent
WARM_UP_S: Final = 0.3
PATIENCE_S: Final = 30.0
OPEN_FILES: Final = 8192
SEED: Final = 5


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """One POST, sent again and again for ``seconds`` after a short warm-up.

    Without ``rate`` each of ``connections`` sends its next request when the last was answered. With it
    requests leave at that many per second on average, at random moments, whatever the answers do; ``then`` are
    further rates, each with its seconds, that follow without a pause.
    An answer counts if its status is 200 and its last bytes contain ``ending``. ``record`` keeps each request.
    """

    host: str
    port: int
    path: str
    headers: dict[str, str]
    body: str
    connections: int
    seconds: float
    rate: float | None = None
    then: tuple[tuple[float, float], ...] = ()
    ending: str = ""
    record: bool = False

    def message(self) -> bytes:
        """Give the request as it goes over the wire."""
        body = self.body.encode()
        headers = {
            "Host": f"{self.host}:{self.port}",
            "Content-Type": "application/json",
            "Content-Length": str(len(body)),
            **self.headers,
        }
        lines = [f"POST {self.path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
        return "\r\n".join([*lines, "", ""]).encode() + body


class Request(msgspec.Struct, array_like=True):
    """One request: when it was sent, in seconds after the warm-up, how long it took, and its status.

    ``status`` is 200 for an answer that counts, 0 for a lost connection.
    """

    sent_s: float
    took_ms: float
    status: int


class Report(msgspec.Struct, kw_only=True):
    """What came of a plan. Times of answers are milliseconds, from sending to the last byte and to the first
    byte of the body, for requests sent after the warm-up.

    ``sent`` and ``answered`` count those; ``all_answered`` counts the warm-up's too; ``per_s`` is what was
    answered within the plan's seconds, by second.
    """

    sent: int = 0
    answered: int = 0
    all_answered: int = 0
    per_s: float = 0.0
    last_byte_ms: list[float] = []
    first_byte_ms: list[float] = []
    failures: dict[str, int] = {}
    requests: list[Request] = []


class _Connection(asyncio.Protocol):
    """Sends one request at a time and hears its answer out."""

    def __init__(self, load: _Load) -> None:
        self._load = load
        self._received = bytearray()
        self._body_at = 0
        self._total: int | None = None
        self._first_byte = 0.0
        self._sent = 0.0
        self._busy = False
        self.lost = False

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def send(self) -> None:
        self._received.clear()
        self._body_at, self._total, self._first_byte, self._busy = 0, None, 0.0, True
        self._sent = time.perf_counter()
        self._load.started(self._sent)
        self._transport.write(self._load.message)

    def data_received(self, data: bytes) -> None:
        received = self._received
        received += data
        if not self._body_at and not self._read_head():
            return
        if not self._first_byte and len(received) > self._body_at:
            self._first_byte = time.perf_counter()
        whole = received.endswith(b"\r\n0\r\n\r\n") if self._total is None else len(received) >= self._total
        if whole and self._busy:
            self._busy = False
            status = bytes(received[9:12]).decode()
            tail = bytes(received[-600:])
            failure = (
                "" if status == "200" and self._load.ending in tail else f"status {status}, {tail[-120:]!r}"
            )
            self._load.ended(self, self._sent, self._first_byte, failure, int(status))

    def _read_head(self) -> bool:
        end = self._received.find(b"\r\n\r\n")
        if end < 0:
            return False
        self._body_at = end + 4
        _, found, rest = bytes(self._received[:end]).lower().partition(b"\r\ncontent-length:")
        self._total = self._body_at + int(rest.partition(b"\r\n")[0]) if found else None
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        if self._busy:
            self._busy = False
            self._load.ended(self, self._sent, 0.0, f"connection lost {exc!r}", 0)

    def close(self) -> None:
        self._transport.close()


class _Load:
    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.message = plan.message()
        self.ending = plan.ending.encode()
        self.report = Report()
        self._failures: Counter[str] = Counter()
        self._in_time = 0
        self._in_flight = 0
        self._idle: list[_Connection] = []
        self._connecting: set[asyncio.Task[None]] = set()
        self._begin = self._end = 0.0

    async def run(self) -> Report:
        plan = self.plan
        for _ in range(plan.connections):
            self._idle.append(await self._connect())
        self._begin = time.perf_counter() + WARM_UP_S
        self._end = self._begin + plan.seconds + sum(seconds for seconds, _ in plan.then)
        if plan.rate is None:
            while self._idle:
                self._idle.pop().send()
            await asyncio.sleep(WARM_UP_S + plan.seconds)
        else:
            begin = time.perf_counter()
            for seconds, rate in ((WARM_UP_S + plan.seconds, plan.rate), *plan.then):
                await self._send_at(rate, begin, begin + seconds)
                begin += seconds
        await self._drain()
        for connection in self._idle:
            connection.close()
        self.report.per_s = self._in_time / plan.seconds
        self.report.failures = dict(self._failures.most_common(5))
        return self.report

    def started(self, now: float) -> None:
        self._in_flight += 1
        self.report.sent += now >= self._begin

    def ended(
        self, connection: _Connection, sent: float, first_byte: float, failure: str, status: int
    ) -> None:
        now = time.perf_counter()
        self._in_flight -= 1
        if self.plan.record and sent >= self._begin:
            took_ms = round((now - sent) * 1000, 3)
            self.report.requests.append(Request(round(sent - self._begin, 4), took_ms, status))
        if failure:
            self._failures[failure] += 1
        else:
            self.report.all_answered += 1
            self._in_time += self._begin <= now < self._end
            if sent >= self._begin:
                self.report.answered += 1
                self.report.last_byte_ms.append(round((now - sent) * 1000, 3))
                self.report.first_byte_ms.append(round((first_byte - sent) * 1000, 3))
        if self.plan.rate is None and now < self._end:
            if connection.lost:
                self._send_on_new()
            else:
                connection.send()
        elif not connection.lost:
            self._idle.append(connection)

    async def _send_at(self, rate: float, begin: float, end: float) -> None:
        rng = random.Random(SEED)
        due = begin
        while (due := due + rng.expovariate(rate)) < end:
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            while self._idle and self._idle[-1].lost:
                self._idle.pop()
            if self._idle:
                self._idle.pop().send()
            else:
                self._send_on_new()

    def _send_on_new(self) -> None:
        async def send() -> None:
            try:
                connection = await self._connect()
            except OSError as error:
                self.started(time.perf_counter())
                self._in_flight -= 1
                self._failures[f"no connection {error!r}"] += 1
                if self.plan.record:
                    self.report.requests.append(Request(time.perf_counter() - self._begin, 0.0, 0))
            else:
                connection.send()

        task = asyncio.create_task(send())
        self._connecting.add(task)
        task.add_done_callback(self._connecting.discard)

    async def _connect(self) -> _Connection:
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(
            lambda: _Connection(self), self.plan.host, self.plan.port
        )
        return connection

    async def _drain(self) -> None:
        deadline = time.perf_counter() + PATIENCE_S
        while self._in_flight or self._connecting:
            if time.perf_counter() > deadline:
                self._failures["no answer in time"] += self._in_flight
                return
            await asyncio.sleep(0.01)


async def run(plan: Plan) -> Report:
    """Carry a plan out in a process of its own.

    Raises:
        RuntimeError: the process failed; the message is the end of what it said.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bench.tools.load", cwd=ROOT,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        out, err = await asyncio.wait_for(
            process.communicate(msgspec.json.encode(plan)),
            plan.seconds + sum(seconds for seconds, _ in plan.then) + 2 * PATIENCE_S,
        )
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode != 0:
        raise RuntimeError(f"the load generator failed: {err.decode()[-2000:]}")
    return msgspec.json.decode(out, type=Report)


def plan_for(
    url: str, path: str, body: Any, *, headers: Mapping[str, str] | None = None, **more: Any
) -> Plan:
    """Make a plan for ``http://host:port`` with a JSON body."""
    host, _, port = url.removeprefix("http://").partition(":")
    return Plan(
        host=host,
        port=int(port),
        path=path,
        headers=dict(headers or {}),
        body=msgspec.json.encode(body).decode(),
        **more,
    )


def _main() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < OPEN_FILES:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(OPEN_FILES, hard), hard))
    plan = msgspec.json.decode(sys.stdin.buffer.read(), type=Plan)
    report = uvloop.run(_Load(plan).run())
    # A buffered file of its own: under PYTHONUNBUFFERED stdout may write only the first part of much.
    with open(sys.stdout.fileno(), "wb", closefd=False) as out:
        out.write(msgspec.json.encode(report))


if __name__ == "__main__":
    _main()
