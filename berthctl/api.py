"""Asking the REST API: with the key, patience where it is asked for, and failures in words."""

from __future__ import annotations

import dataclasses
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import httpx

from berthctl import __version__
from berthctl.contexts import Context
from berthctl.failures import Exit, Failure, of_problem

ATTEMPTS: Final = 4
LONGEST_PAUSE_S: Final = 60.0
_BUSY: Final = (429, 503)


@dataclasses.dataclass
class Api:
    """One installation, asked with one key. ``sleep`` and ``transport`` are passed in by tests."""

    context: Context
    timeout_s: float = 60.0
    transport: httpx.BaseTransport | None = None
    sleep: Callable[[float], None] = time.sleep
    say: Callable[[str], None] = lambda text: None

    def get(self, path: str, **query: Any) -> Any:
        """Read something."""
        return self._ask("GET", path, params=query).json()

    def text(self, path: str, *, accept: str, **query: Any) -> str:
        """Read something that is no JSON."""
        return self._ask("GET", path, params=query, headers={"Accept": accept}).text

    def pages(self, path: str, **query: Any) -> Iterator[dict[str, Any]]:
        """Read a list, page by page."""
        page = self.get(path, **query)
        yield from page["results"]
        while page.get("next"):
            page = self._ask("GET", page["next"]).json()
            yield from page["results"]

    def post(self, path: str, body: Mapping[str, Any] | None = None, **query: Any) -> Any:
        """Do something, once even where it has to be sent twice."""
        answer = self._ask("POST", path, params=query, json=dict(body or {}), headers=_once())
        return answer.json() if answer.content else None

    def post_text(self, path: str, text: bytes, media_type: str, **query: Any) -> Any:
        """Send a file."""
        headers = {**_once(), "Content-Type": media_type}
        return self._ask("POST", path, params=query, content=text, headers=headers).json()

    def patch(self, path: str, body: Mapping[str, Any]) -> Any:
        """Change something."""
        return self._ask("PATCH", path, json=dict(body)).json()

    def delete(self, path: str) -> None:
        """Take something away."""
        self._ask("DELETE", path)

    def endpoint(self, name: str) -> dict[str, Any]:
        """Find an endpoint by its name.

        Raises:
            Failure: there is none.
        """
        for each in self.pages("endpoints", name=name):
            if each["name"].lower() == name.lower():
                found: dict[str, Any] = self.get(f"endpoints/{each['id']}")
                return found
        raise Failure(f"There is no endpoint {name}. Run: berthctl status", Exit.NOT_FOUND)

    def _ask(self, method: str, path: str, **options: Any) -> httpx.Response:
        options["headers"] = {
            "Authorization": f"Bearer {self.context.token}",
            "User-Agent": f"berthctl/{__version__}",
            "Accept": "application/json",
            **options.get("headers", {}),
        }
        options["params"] = {
            name: value for name, value in options.get("params", {}).items() if value not in (None, "", ())
        }
        if not options["params"]:
            del options["params"]  # an address of a next page has its own
        url = path if path.startswith(self.context.url + "/") else f"{self.context.url}/api/v1/{path}"
        with httpx.Client(timeout=self.timeout_s, transport=self.transport) as client:
            for attempt in range(1, ATTEMPTS + 1):
                try:
                    answer = client.request(method, url, **options)
                except httpx.TransportError as error:
                    if attempt == ATTEMPTS or isinstance(error, httpx.UnsupportedProtocol):
                        raise self._unreachable(error) from error
                    self.sleep(0.5 * attempt)
                    continue
                if answer.status_code in _BUSY and attempt < ATTEMPTS:
                    pause = _retry_after(answer)
                    if pause <= LONGEST_PAUSE_S:
                        self.say(f"Asked to wait {pause:g} s…")
                        self.sleep(pause)
                        continue
                break
        if answer.is_success:
            return answer
        raise self._failure(answer)

    def _unreachable(self, error: httpx.TransportError) -> Failure:
        why = str(error) or type(error).__name__
        return Failure(
            f"{self.context.url} cannot be reached: {why}. Look at the address and the network.",
            Exit.UNREACHABLE,
        )

    def _failure(self, answer: httpx.Response) -> Failure:
        if answer.status_code == 401:
            return Failure(
                "The key is not known, has expired or was revoked. Run: berthctl login", Exit.NOT_SIGNED_IN
            )
        try:
            document = answer.json()
        except ValueError:
            document = None
        if isinstance(document, dict) and "title" in document:
            return of_problem(document, status=answer.status_code, portal=self.context.url)
        if answer.status_code >= 500:
            return Failure(
                f"{self.context.url} answers {answer.status_code}. Try again later.", Exit.UNREACHABLE
            )
        return Failure(
            f"{self.context.url} answers {answer.status_code}, and not as Berth does. Look at the address.",
            Exit.UNREACHABLE,
        )


def _once() -> dict[str, str]:
    return {"Idempotency-Key": str(uuid.uuid4())}


def _retry_after(answer: httpx.Response) -> float:
    text = answer.headers.get("Retry-After", "")
    return float(text) if text.isdigit() else 1.0
