"""The running server against its own description: schemathesis asks everything, as every kind of caller.

In every test run each operation is asked for by those who may do most, by nobody, and by one of the others in turn:
who is let in is settled by tests/access, here it is seen whether the answer is as described. With ``SCHEMATHESIS_S``
in the environment (a release is held to 300) everybody asks for everything, which takes about two minutes, and then
schemathesis's own engine goes through all its phases for half of these seconds.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
import requests
import schemathesis
from django.db import transaction
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import seed as seeded
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.errors import FailureGroup

from tests.access.callers import BY_TOKEN, OF_THE_PLATFORM
from tests.access.operations import kinds_of, operations
from tests.access.world import World, make_world
from tests.api.contract import API
from tests.api.running import ROOT, serving
from tests.api.schemathesis_hooks import CSRF
from tests.factories import session_of

SEED: Final = 20261127
LONG_S: Final = int(os.environ.get("SCHEMATHESIS_S", "0"))
#: Who may do most. They send wrong requests, too: others are refused before anybody looks at what they sent.
SENDERS: Final = ("owner", "superuser")
#: Beside them and nobody. Strangers, ended keys and operators of some clusters are answered as one of these is.
OTHERS: Final = (
    "admin", "developer", "billing", "viewer", "service account", "inference key", "operator", "finance", "auditor",
)  # fmt: skip
CALLERS: Final = (*SENDERS, "anonymous", *OTHERS)
#: What takes things away comes last.
ORDER: Final = ("get", "put", "patch", "post", "delete")

#: How often a path of the engine's leads to something that is there, not to nothing.
THERE: Final = 0.8
#: Names that the description gives to being signed in.
SESSIONS: Final = ("operatorSession", "portalSession")

#: Beside what schemathesis takes for a right answer to right data: a body may be right in form and yet name what is not
#: there or cannot be (422), or an old version (412); whoever belongs to no tenant is asked for which one (400).
ACCEPTED: Final = ["2xx", "3xx", "400", "401", "403", "404", "409", "412", "422", "429"]
#: Beside what it takes for a refusal of wrong data: an old version (412), too much of it (413). No fault of ours (5xx).
REFUSED: Final = ["400", "401", "403", "404", "405", "406", "409", "412", "413", "415", "422", "429"]
#: Where a check cannot hold as it is, with the reason.
OF_ITS_OWN: Final = {
    "POST /api/v1/usage-events": {
        # Events are refused one by one, within an answer of 200.
        "negative_data_rejection": "enabled = false",
    },
    "GET /api/v1/endpoints/{id}/logs": {
        # A log is read from its cluster, and none runs here; the description says that this is answered.
        "not_a_server_error": 'expected-statuses = ["2xx", "4xx", "503"]',
        "positive_data_acceptance": f"expected-statuses = {json.dumps([*ACCEPTED, '503'])}",
    },
}


@pytest.fixture
def world(committed_db, monkeypatch) -> World:
    """Rows of every kind, where the server sees them."""
    with transaction.atomic():
        return make_world(monkeypatch.setattr)


@pytest.fixture
def portal(committed_db, world, tmp_path) -> Iterator[str]:
    """The server as it is run, without a limit of requests; nothing that it is asked may be a fault of its own."""
    with serving(committed_db, tmp_path, API_REQUESTS_PER_MINUTE="0") as url:
        yield url
        assert httpx.get(f"{url}/healthz", timeout=30).is_success
    assert "Traceback" not in (tmp_path / "web.log").read_text()


@pytest.mark.xdist_group("schemathesis")
@pytest.mark.timeout(600)
def test_every_caller_is_answered_as_described(portal, world):
    proofs = {who: proof(world, who) for who in CALLERS}
    assert ask_everything(portal, world, proofs, _in_turn) == []


def _in_turn(number: int) -> list[str]:
    """Name who asks for the operation of this number."""
    return [*SENDERS, "anonymous", OTHERS[number % len(OTHERS)]]


@pytest.mark.xdist_group("schemathesis")
@pytest.mark.timeout(2 * LONG_S + 120)
@pytest.mark.skipif(not LONG_S, reason="SCHEMATHESIS_S says for how many seconds; a release is held to 300")
def test_everything_as_everybody_and_in_all_its_phases(portal, world, tmp_path):
    proofs = {who: proof(world, who) for who in CALLERS}
    assert ask_everything(portal, world, proofs, lambda number: CALLERS, seed=SEED + 1) == []
    (tmp_path / "openapi.json").write_text(json.dumps(described(portal)))
    for who in SENDERS:
        (tmp_path / f"{who}.toml").write_text(configuration(world, proofs[who]))
        assert run_engine(who, portal, seconds=LONG_S // 4, folder=tmp_path) == ""


def ask_everything(
    portal: str,
    world: World,
    proofs: dict[str, dict[str, str]],
    asking: Callable[[int], Any],
    *,
    seed: int = SEED,
) -> list[str]:
    """Ask for every operation as those whom ``asking`` names, and give what is not as described."""
    config = schemathesis.Config.from_str(configuration(world))
    schema = schemathesis.openapi.from_dict(described(portal), config=config)
    schema.config.update(base_url=portal)
    sessions = {who: requests.Session() for who in CALLERS}
    complaints = []

    def ask(case: Any, who: str) -> None:
        try:
            case.call_and_validate(session=sessions[who], headers=headers(proofs[who]), timeout=60)
        except FailureGroup as found:
            complaints.append(f"===== {case.operation.label} by {who}\n{found}")
        sessions[who].cookies.clear()

    found = sorted((each.ok() for each in schema.get_all_operations()), key=lambda op: ORDER.index(op.method))
    for number, operation in enumerate(found):
        right = requests_of(
            operation, GenerationMode.POSITIVE, 3, seed, path_parameters=there(world, operation)
        )
        for turn, who in enumerate(asking(number)):
            ask(right[turn % len(right)], who)
        for wrong in requests_of(operation, GenerationMode.NEGATIVE, 1, seed):
            ask(wrong, SENDERS["operatorSession" in str(operation.definition.raw.get("security"))])
    return complaints


def described(portal: str) -> dict[str, Any]:
    description: dict[str, Any] = httpx.get(f"{portal}{API}/openapi.json", timeout=60).json()
    return description


def there(world: World, operation: Any) -> dict[str, str]:
    """Give parameters of a path that lead to something."""
    kinds = kinds_of(operation.path.removeprefix(f"{API}/"))
    return {name: world.ids[kind] for name, kind in kinds.items()}


def requests_of(operation: Any, mode: GenerationMode, most: int, seed: int, **fixed: Any) -> list[Any]:
    """Draw requests of an operation, of one seed always the same; none where nothing wrong can be sent."""
    drawn: list[Any] = []

    @seeded(seed)
    @settings(
        max_examples=most, database=None, deadline=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(case=operation.as_strategy(generation_mode=mode, **fixed))
    def draw(case: Any) -> None:
        drawn.append(case)

    try:
        draw()
    except Unsatisfiable:
        assert mode == GenerationMode.NEGATIVE, operation.label
    return drawn


def run_engine(who: str, portal: str, *, seconds: int, folder: Path) -> str:
    """Let schemathesis's engine ask as ``who`` and give what it says, empty where it finds nothing wrong."""
    command = [
        sys.executable, "-m", "schemathesis.cli", "--config-file", f"{who}.toml", "run", "openapi.json",
        "--url", portal, "--max-time", str(seconds), "--seed", str(SEED), "--continue-on-failure", "--no-shrink",
        "--no-color", "--request-timeout", "60", "--warnings", "off",
    ]  # fmt: skip
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, check=False, timeout=seconds + 120,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    print(who, done.stdout[-1_500:])
    return "" if done.returncode == 0 else f"{who}\n{done.stdout[-20_000:]}{done.stderr[-2_000:]}"


def proof(world: World, who: str) -> dict[str, str]:
    """Give what a caller proves itself by: a key, the session of a person, or nothing."""
    if who in BY_TOKEN:
        return {"key": BY_TOKEN[who][1](world)}
    return {"session": session_of(OF_THE_PLATFORM[who](world))} if who in OF_THE_PLATFORM else {}


def headers(proved: dict[str, str]) -> dict[str, str]:
    """Give the headers that carry it, with what a browser sends beside its session."""
    if "key" in proved:
        return {"Authorization": f"Bearer {proved['key']}"}
    if "session" in proved:
        return {"Cookie": f"sessionid={proved['session']}; csrftoken={CSRF}", "X-CSRFToken": CSRF}
    return {}


def configuration(world: World, proved: dict[str, str] | None = None) -> str:
    """Give schemathesis's settings as TOML; for its engine with how a caller proves who it is and what is there."""
    lines = [
        "[generation]", "with-security-parameters = false",
        "[checks.positive_data_acceptance]", f"expected-statuses = {json.dumps(ACCEPTED)}",
        "[checks.negative_data_rejection]", f"expected-statuses = {json.dumps(REFUSED)}",
    ]  # fmt: skip
    for name, checks in OF_ITS_OWN.items():
        lines += ["[[operations]]", f"include-name = {json.dumps(name)}"]
        lines += [f"[operations.checks.{check}]\n{setting}" for check, setting in checks.items()]
    if proved is None:
        return "\n".join(lines)
    lines.insert(0, f"hooks = {json.dumps(str(ROOT / 'tests/api/schemathesis_hooks.py'))}")
    lines.append("[auth.openapi]")
    if key := proved.get("key"):
        lines.append(f"managementKey = {{ bearer = {json.dumps(key)} }}")
    if session := proved.get("session"):
        lines += [f"{scheme} = {{ api_key = {json.dumps(session)} }}" for scheme in SESSIONS]
    paths = {each.path: each.parameters for each in operations() if each.parameters}
    for kind in sorted({kind for parameters in paths.values() for kind in parameters.values()}):
        lines += [f"[dictionaries.{_plain(kind)}]", f"values = [{json.dumps(world.ids[kind])}]"]
    for path, parameters in paths.items():
        lines += [
            "[[operations]]",
            f"include-path = {json.dumps(f'{API}/{path}')}",
            "[operations.parameters]",
        ]
        lines += [
            f'"path.{name}" = {{ dictionary = "{_plain(kind)}", probability = {THERE} }}'
            for name, kind in parameters.items()
        ]
    return "\n".join(lines)


def _plain(kind: str) -> str:
    return kind.replace("/", "__")
