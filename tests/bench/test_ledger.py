"""The books of a client that measures: what goes wrong to the end stands in them, too."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from bench import chaos
from bench.tools.ledger import Client
from embedded import processes

GOOD = dict.fromkeys(chaos.BOUNDS, 0) | {
    "answered_share": 0.9,
    "endpoints_ordered_and_deleted": 3,
    "orders_stopped": "",
}


class Answers(BaseHTTPRequestHandler):
    body = b""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.body)))
        self.end_headers()
        self.wfile.write(self.body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def upstream() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def client(url: str, folder: Path) -> Client:
    sending = Client(gateway=url, model="m", keys=["k"], rate=50, ledger=folder / "ledger.jsonl")
    sending.start()
    return sending


def test_an_outage_that_lasts_to_the_end_is_a_silence(tmp_path: Path) -> None:
    sending = client(f"http://127.0.0.1:{processes.free_port()}", tmp_path)
    time.sleep(0.3)
    assert not any(line.acknowledged for line in sending.end())
    assert sending.longest_silence_s >= 0.3


@pytest.mark.parametrize("body", [b"{}", b"[]", b"data: {no json\n\ndata: [DONE]\n\n", b'{"usage": {}}'])
def test_an_answer_without_counts_is_acknowledged_and_has_a_line(
    tmp_path: Path, upstream: str, monkeypatch: pytest.MonkeyPatch, body: bytes
) -> None:
    monkeypatch.setattr(Answers, "body", body)
    sending = client(upstream, tmp_path)
    deadline = time.monotonic() + 20
    while not sending.acknowledged and time.monotonic() < deadline:
        time.sleep(0.02)
    lines = sending.end()
    assert len(lines) == sending.sent
    (found, *_) = [line for line in lines if line.acknowledged]
    assert (found.input_tokens, found.output_tokens) == (0, 0)
    assert found.error


@pytest.mark.parametrize(
    ("figures", "told"),
    [
        ({}, []),
        ({"acknowledged_lost": 1}, ["acknowledged_lost is 1, at most 0"]),
        ({"answered_share": 0.1}, ["answered_share is 0.1, at least 0.5"]),
        ({"endpoints_ordered_and_deleted": 0}, ["endpoints_ordered_and_deleted is 0, at least 1"]),
        ({"orders_stopped": "RuntimeError('x')"}, ["orders stopped: RuntimeError('x')"]),
    ],
)
def test_promises_that_are_broken_are_named(figures: dict[str, float | str], told: list[str]) -> None:
    assert chaos.broken(GOOD | figures) == told
