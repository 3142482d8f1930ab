"""A gateway by hand, as whoever sends it prompts sees it: logs what it is asked, answers what a test says."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclasses.dataclass(frozen=True)
class Asked:
    """One request: ``key`` is the number of its key, counted from 0 in the order in which they came."""

    key: int
    path: str
    body: dict[str, Any]

    @property
    def text(self) -> str:
        """What is asked: the prompt, or the last message."""
        return self.body["prompt"] if "prompt" in self.body else self.body["messages"][-1]["content"]


class FakeModelGateway:
    """``answer`` gives a text, or status and code; by default what is asked is echoed. ``asked`` logs all requests."""

    def __init__(self) -> None:
        self.answer: Callable[[Asked], str | tuple[int, str]] = lambda asked: asked.text
        self.asked: list[Asked] = []
        self.keys: list[str] = []
        self.url = ""

    @contextlib.contextmanager
    def running(self) -> Iterator[FakeModelGateway]:
        fake = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                status, document = fake._serve(self.path, self.headers["authorization"], body)
                content = json.dumps(document).encode()
                self.send_response(status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        self.url = f"http://127.0.0.1:{server.server_port}"
        try:
            yield self
        finally:
            server.shutdown()
            server.server_close()
            thread.join()

    def _serve(self, path: str, authorization: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        key = authorization.removeprefix("Bearer ")
        if key not in self.keys:
            self.keys.append(key)
        asked = Asked(self.keys.index(key), path, body)
        self.asked.append(asked)
        answer = self.answer(asked)
        if isinstance(answer, tuple):
            status, code = answer
            return status, {
                "error": {"code": code, "message": f"about {asked.text}", "type": "x", "param": None}
            }
        usage = {
            "prompt_tokens": len(asked.text.split()),
            "completion_tokens": len(answer.split()),
            "prompt_tokens_details": {"cached_tokens": 0},
        }
        choice = (
            {"text": answer}
            if path.endswith("/v1/completions")
            else {"message": {"role": "assistant", "content": answer}}
        )
        return 200, {"choices": [{"index": 0, "finish_reason": "stop", **choice}], "usage": usage}
