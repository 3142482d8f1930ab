"""API servers for tests, real where found, and the summary of what only a real one could have shown."""

from __future__ import annotations

import re
import secrets
from collections import Counter
from collections.abc import Iterator, Sequence

import pytest

from clusters.kube import kinds
from clusters.kube.client import KubeClient
from tests.fakes.kube_api import FakeKube
from tests.kube import apiserver as real

UNDECIDED = "not verified: only a real API server decides this"
HALF = "no real API server"
MANY = 40
"""Up to so many cases are told one by one."""


@pytest.fixture(scope="session")
def apiserver() -> Iterator[real.ApiServer]:
    """The one real API server of this run; skips where its programs are missing."""
    if real.programs() is None:
        pytest.skip(HALF)
    with real.running() as server:
        yield server


@pytest.fixture
def fake_kube() -> Iterator[FakeKube]:
    """A stand-in of this test's own."""
    with FakeKube() as fake:
        yield fake


@pytest.fixture(params=["stand-in", "real"])
def kube_server(request: pytest.FixtureRequest) -> real.ApiServer | FakeKube:
    """An API server: the case runs once against the stand-in and once against a real one where it is found."""
    name = "fake_kube" if request.param == "stand-in" else "apiserver"
    server: real.ApiServer | FakeKube = request.getfixturevalue(name)
    return server


@pytest.fixture
def kube_client(kube_server: real.ApiServer | FakeKube) -> Iterator[KubeClient]:
    """A client that may do everything there."""
    client = KubeClient(kube_server.admin)
    yield client
    client.close()


@pytest.fixture
def kube_namespace(kube_client: KubeClient) -> Iterator[str]:
    """A namespace of this test's own."""
    name = f"test-{secrets.token_hex(4)}"
    kube_client.create(kinds.NAMESPACE, {"metadata": {"name": name}})
    yield name
    kube_client.delete(kinds.NAMESPACE, name)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if real.programs() is not None:
        return
    for item in items:
        marker = item.get_closest_marker("kubernetes")
        if marker is not None and marker.kwargs.get("real"):
            item.add_marker(pytest.mark.skip(reason=UNDECIDED))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    skipped = terminalreporter.stats.get("skipped", [])
    ran = {report.nodeid for name in ("passed", "failed") for report in terminalreporter.stats.get(name, [])}
    real_halves = [report.nodeid for report in skipped if HALF in str(report.longrepr)]
    halves = [nodeid for nodeid in real_halves if _stand_in(nodeid) in ran]
    undecided = [report.nodeid for report in skipped if UNDECIDED in str(report.longrepr)]
    undecided += [nodeid for nodeid in real_halves if nodeid not in halves]
    if not undecided and not halves:
        return
    terminalreporter.section("Kubernetes: not verified")
    terminalreporter.line(f"There was {real.WHY_NONE}.")
    if halves:
        terminalreporter.line(f"{len(halves)} cases ran against the stand-in only.")
    for line in _listed(halves):
        terminalreporter.line(f"on the stand-in only: {line}")
    for nodeid in undecided:
        terminalreporter.line(f"not verified: {nodeid}")


def _stand_in(nodeid: str) -> str:
    """The same case's id on the stand-in."""
    test, bracket, parameters = nodeid.partition("[")
    return test + bracket + re.sub(r"\breal\b", "stand-in", parameters, count=1)


def _listed(nodeids: Sequence[str]) -> list[str]:
    """Each id, or where they are many each test with how many of its cases."""
    if len(nodeids) <= MANY:
        return list(nodeids)
    counts = Counter(nodeid.partition("[")[0] for nodeid in nodeids)
    return [f"{test} ({count} cases)" if count > 1 else test for test, count in counts.items()]
