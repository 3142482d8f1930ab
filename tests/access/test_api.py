"""Every operation of the API by every caller, as the table has it; what is refused changes nothing."""

from __future__ import annotations

import json

import pytest
from rest_framework.test import APIClient

from tests.access import expected
from tests.access.callers import API, Side
from tests.access.conftest import taken_back
from tests.access.operations import Operation, operations
from tests.access.references import NEEDED

TABLE = {name.strip(): group for group, names in expected.OPERATIONS.items() for name in names.split("\n")}
TABLE.pop("", None)


def test_the_table_names_every_operation_and_no_other():
    named = [name.strip() for names in expected.OPERATIONS.values() for name in names.split("\n")]
    assert sorted(filter(None, named)) == sorted(each.name for each in operations())
    assert set(expected.OPERATIONS) <= set(expected.GROUPS)


def send(client: APIClient, operation: Operation, url: str, body: object = None):
    """Ask; whatever it does to the database is undone."""
    kind = "application/octet-stream" if operation.path.endswith("/tokenizer") else "application/json"
    with taken_back():
        if not operation.writes:
            answer = client.get(url)
        elif kind == "application/json":
            answer = client.generic(
                operation.method,
                url,
                APIClient()._encode_data(body or NEEDED.get(operation.name, {}), "json")[0],
                kind,
            )
        else:
            answer = client.generic(operation.method, url, b"{}", kind)
        if getattr(answer, "streaming", False):
            b"".join(answer)
    return answer


def told(answer) -> str:
    """Say what an answer means: allowed, or by which status refused."""
    assert answer.status_code < 500, answer.content
    if answer.status_code == 401:
        return expected.UNKNOWN
    code = answer.json()["code"] if answer.get("Content-Type", "").startswith("application/problem") else ""
    refusals = {
        "forbidden": expected.REFUSED,
        "not-found": expected.HIDDEN,
        "tenant-not-named": expected.NO_TENANT,
    }
    return refusals.get(code, expected.ALLOWED)


@pytest.mark.parametrize("operation", operations(), ids=lambda each: each.name)
def test_everybody_is_answered_as_the_table_says(world, callers, operation):
    group = TABLE[operation.name]
    url = operation.url(world.ids)
    otherwise = {}
    for caller, side in API.items():
        wanted = expected.outcome(group, caller, side, operation.parameters.values())
        answered = told(send(callers.api(caller), operation, url))
        if answered != wanted:
            otherwise[caller] = f"{answered}, not {wanted}"
    assert otherwise == {}


def test_what_is_refused_changes_nothing(world, callers, before):
    def changed_by(asked: list[Operation]) -> list[str]:
        with taken_back():
            for operation in asked:
                for caller, side in API.items():
                    kinds = operation.parameters.values()
                    if expected.outcome(TABLE[operation.name], caller, side, kinds) != expected.ALLOWED:
                        body = json.dumps(NEEDED.get(operation.name, {}))
                        callers.api(caller).generic(
                            operation.method, operation.url(world.ids), body, "application/json"
                        )
            after = world.digest()
        return [name for name in before if before[name] != after[name]]

    writes = [each for each in operations() if each.writes]
    if changed_by(writes):  # which of them, is asked only then
        assert {each.name: changed for each in writes if (changed := changed_by([each]))} == {}


@pytest.fixture(scope="module")
def before(world, callers):
    return world.digest()


def test_a_change_would_be_seen(world, callers, before):
    with taken_back():
        callers.api("owner").post("/api/v1/projects", {"slug": "new", "name": "New"})
        assert world.digest() != before
    assert world.digest() == before


def test_every_side_is_asked():
    assert set(API.values()) == set(Side)
