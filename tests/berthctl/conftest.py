"""The program as it is run, on the real API without a process between: httpx asks Django's own test client."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import httpx
import pytest
from click.testing import CliRunner, Result
from django.test import Client

from berthctl.cli import program
from berthctl.session import Session
from tenants.models import Role, Tenant
from tests.estate import make_estate
from tests.factories import make_tenant, management_key

URL = "http://localhost"


@dataclasses.dataclass
class Berthctl:
    """Runs commands; ``pauses`` are the seconds that were slept."""

    environment: dict[str, str]
    transport: httpx.BaseTransport
    pauses: list[float] = dataclasses.field(default_factory=list)
    now: float = 0.0

    def run(self, *arguments: str, typed: str | bytes = "", status: int = 0) -> Result:
        """Run a command, which has to end with ``status``."""
        session = Session(
            environment=self.environment, transport=self.transport, sleep=self._sleep, clock=lambda: self.now
        )
        result = CliRunner().invoke(program, list(arguments), obj=session, input=typed)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == status, result.output
        return result

    def json(self, *arguments: str, status: int = 0) -> Any:
        """Run a command and give what it wrote as JSON."""
        return json.loads(self.run("--json", *arguments, status=status).stdout)

    def _sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds


class OntoDjango(httpx.BaseTransport):
    """Hands requests to Django within the test's transaction."""

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        answer = Client().generic(
            request.method,
            request.url.raw_path.decode(),
            request.read(),
            content_type=request.headers.get("Content-Type", ""),
            headers=dict(request.headers),
        )
        return httpx.Response(answer.status_code, headers=list(answer.items()), content=answer.content)


@pytest.fixture
def environment(tmp_path, monkeypatch) -> dict[str, str]:
    monkeypatch.chdir(tmp_path)
    return {"HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path / "config")}


@pytest.fixture
def tenant(db) -> Tenant:
    make_estate()
    return make_tenant("acme", gpus=8)


@pytest.fixture
def signed_out(environment) -> Berthctl:
    return Berthctl(environment, OntoDjango())


@pytest.fixture
def berthctl(signed_out, tenant) -> Berthctl:
    """Somebody who signed in with an owner's key."""
    signed_out.run("login", "--url", URL, "--key-stdin", typed=management_key(tenant, Role.OWNER))
    return signed_out


class Scripted(httpx.BaseTransport):
    """Answers as it was told to, one after the other; keeps what it was asked."""

    def __init__(self, *answers: httpx.Response | Exception) -> None:
        self.answers, self.asked = list(answers), []

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer
