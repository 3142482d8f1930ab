"""A real HTTP server that takes webhooks, for tests."""

from __future__ import annotations

import contextlib
import dataclasses
import http.server
import threading
from collections.abc import Iterator


@dataclasses.dataclass
class Receiver:
    """What came in, and what is answered next: statuses in order, then 200. ``hold`` keeps answers back."""

    url: str = ""
    requests: list[tuple[dict[str, str], bytes]] = dataclasses.field(default_factory=list)
    answers: list[tuple[int, dict[str, str]]] = dataclasses.field(default_factory=list)
    came: threading.Event = dataclasses.field(default_factory=threading.Event)
    hold: threading.Event | None = None
    body: bytes = b"thanks"


@contextlib.contextmanager
def receiving() -> Iterator[Receiver]:
    """Run a receiver on a free port of this machine."""
    receiver = Receiver()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            receiver.requests.append(({name.lower(): value for name, value in self.headers.items()}, body))
            receiver.came.set()
            if receiver.hold is not None:
                receiver.hold.wait(30)
            status, headers = receiver.answers.pop(0) if receiver.answers else (200, {})
            with contextlib.suppress(OSError):
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(receiver.body)))
                self.end_headers()
                self.wfile.write(receiver.body)

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    receiver.url = f"http://127.0.0.1:{server.server_port}/hook"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield receiver
    finally:
        if receiver.hold is not None:
            receiver.hold.set()
        server.shutdown()
        server.server_close()
        thread.join()
