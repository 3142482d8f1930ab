"""The whole of Berth as processes, driven through its doors."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import psutil

from embedded import up
from embedded.datadir import DataDir
from embedded.environment import kept_secrets
from portal.demo import accounts

ROOT = Path(__file__).resolve().parent.parent.parent
START_S = 240.0

#: How to recognise each process by its command line.
MARKS = {
    "web": "uvicorn portal.asgi",
    "worker": "celery -A portal worker",
    "beat": "celery -A portal beat",
    "gateway": "-m gateway",
    "models": "-m clusters.drivers.local.supervisor",
    "engine": "bin/tritonserver",
}


class Stack:
    """A running Berth in a data folder of its own. Everything it does ends with :meth:`stop`."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.data_dir = DataDir(folder)
        self.log = folder / "up.log"
        command = [sys.executable, "-m", "portal.demo", "--idle", "--verbose", "--data-dir", str(folder)]
        environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("BERTH_", "DATABASE_", "DJANGO_", "CELERY_", "PYTEST_"))
        }
        with self.log.open("w") as log:
            self.process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log, env=environment)
        try:
            self._await_start()
        except BaseException:
            self.stop()
            raise

    def _await_start(self) -> None:
        def answers() -> bool:
            if self.process.poll() is not None:
                raise AssertionError(f"Berth did not start:\n{self.log.read_text()[-4000:]}")
            urls = up.status(self.data_dir).urls
            if not urls:
                return False
            self.portal, self.gateway = urls["web"], urls["gateway"]
            try:
                return (
                    httpx.get(f"{self.portal}/healthz", timeout=2).status_code == 200
                    and httpx.get(f"{self.gateway}/readyz", timeout=2).status_code == 200
                )
            except httpx.HTTPError:
                return False

        wait(answers, START_S, lambda: f"not up:\n{self.log.read_text()[-4000:]}")

    def stop(self) -> None:
        """Stop as Ctrl-C does."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        self.process.wait(90)

    def processes(self, name: str) -> list[psutil.Process]:
        """Give this stack's processes of one kind, pool children left out."""
        found = []
        for process in psutil.process_iter():
            try:
                words = process.cmdline()
                line = " ".join(words)
                if (
                    MARKS[name] in line
                    and "embedded.keep" not in line
                    and words[0] not in ("/bin/sh", "sh")
                    and process.environ().get("BERTH_INSTANCE") == self.data_dir.instance
                ):
                    found.append(process)
            except (psutil.Error, IndexError):
                continue
        pids = {process.pid for process in found}
        return [process for process in found if process.ppid() not in pids]

    def kill(self, name: str) -> int:
        """Kill -9 one kind of process; return how many died."""
        victims = self.processes(name)
        for process in victims:
            children = process.children(recursive=True) if name == "worker" else []
            for each in [process, *children]:
                try:
                    each.kill()
                except psutil.NoSuchProcess:
                    continue
        return len(victims)

    def sign_in(self, email: str) -> Session:
        """Sign in by the page that people use."""
        return Session(self.portal, email)

    @property
    def secrets(self) -> dict[str, str]:
        return kept_secrets(self.data_dir)


class Session:
    """A signed-in person's REST calls."""

    def __init__(self, portal: str, email: str) -> None:
        self.client = httpx.Client(base_url=portal, timeout=30, follow_redirects=True)
        page = self.client.get("/accounts/login/").text
        token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', page)
        assert token, page[:500]
        self.client.post(
            "/accounts/login/",
            data={"login": email, "password": accounts.PASSWORD, "csrfmiddlewaretoken": token.group(1)},
            headers={"Referer": portal},
        )

    def get(self, path: str, **params: Any) -> Any:
        return self._read(self.client.get(f"/api/v1{path}", params=params))

    def post(self, path: str, body: dict[str, Any] | None = None, **headers: str) -> Any:
        return self._read(self.client.post(f"/api/v1{path}", json=body or {}, headers=self._csrf() | headers))

    def patch(self, path: str, body: dict[str, Any]) -> Any:
        return self._read(self.client.patch(f"/api/v1{path}", json=body, headers=self._csrf()))

    def delete(self, path: str) -> Any:
        return self._read(self.client.delete(f"/api/v1{path}", headers=self._csrf()))

    def submit(self, page: str, **values: Any) -> None:
        """Send a form of the portal, as people do."""
        answer = self.client.post(page, data=values, headers=self._csrf())
        assert answer.is_success, f"{page}: {answer.status_code} {answer.text[:2000]}"

    def order(self, name: str, **changes: Any) -> dict[str, Any]:
        """Order a small endpoint of the shipped model in the EU."""
        body = {
            "name": name,
            "project": "default",
            "model": "berth-docs-ngram",
            "slo_class": "standard",
            "residency": "zone:EU",
            "requests_per_second": 1,
            "input_tokens": 100,
            "output_tokens": 60,
        }
        return self.post("/endpoints", body | changes)

    def endpoint(self, endpoint_id: str) -> dict[str, Any]:
        return self.get(f"/endpoints/{endpoint_id}")

    def await_state(self, endpoint_id: str, state: str, seconds: float = 90) -> dict[str, Any]:
        """Wait until an endpoint has a state."""
        seen: dict[str, Any] = {}

        def there() -> bool:
            seen.update(self.endpoint(endpoint_id))
            return seen["state"] == state

        wait(there, seconds, lambda: f"wanted {state}, it is {seen.get('state')}: {seen.get('reason')}")
        return seen

    def inference_key(self) -> str:
        return self.post("/keys", {"name": "scenario", "scope": "inference", "project": "default"})["key"]

    def _csrf(self) -> dict[str, str]:
        return {"X-CSRFToken": self.client.cookies.get("csrftoken", ""), "Referer": str(self.client.base_url)}

    @staticmethod
    def _read(answer: httpx.Response) -> Any:
        assert not answer.is_error, (
            f"{answer.request.method} {answer.request.url}: {answer.status_code} {answer.text}"
        )
        return answer.json() if answer.content else None


def wait(
    done: Callable[[], bool], seconds: float, otherwise: Callable[[], str], every_s: float = 0.2
) -> None:
    """Wait until ``done``; fail with ``otherwise()`` after ``seconds``."""
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline, otherwise()
        time.sleep(every_s)
