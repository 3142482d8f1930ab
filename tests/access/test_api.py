"""Every operation of the API by every caller, as the table has it; who is refused changes nothing."""

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


def ask(client: APIClient, operation: Operation, url: str, body: object = None):
    if not operation.writes:
        return client.get(url)
    if operation.path.endswith("/tokenizer"):
        return client.generic(operation.method, url, b"{}", "application/octet-stream")
    sent = json.dumps(body or NEEDED.get(operation.name, {}))
    return client.generic(operation.method, url, sent, "application/json")


def send(client: APIClient, operation: Operation, url: str, body: object = None):
    """Ask; whatever it does to the database is undone."""
    with taken_back():
        answer = ask(client, operation, url, body)
        if answer.streaming:
            # Read here: the rows must be there until it is.
            answer.streaming_content = [b"".join(answer)]
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
def test_everybody_is_answered_as_the_table_says(world, callers, before, operation):
    group, url = TABLE[operation.name], operation.url(world.ids)
    wanted = {
        caller: expected.outcome(group, caller, side, operation.parameters.values())
        for caller, side in API.items()
    }
    refused = [caller for caller, outcome in wanted.items() if outcome != expected.ALLOWED]
    answered = {}
    with taken_back():
        for caller in refused:
            answered[caller] = told(ask(callers.api(caller), operation, url))
        if operation.writes:
            assert world.changed_since(before) == [], "who was refused changed something"
    for caller in wanted.keys() - refused:
        answered[caller] = told(send(callers.api(caller), operation, url))
    otherwise = {
        caller: f"{answered[caller]}, not {outcome}"
        for caller, outcome in wanted.items()
        if answered[caller] != outcome
    }
    assert otherwise == {}


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
