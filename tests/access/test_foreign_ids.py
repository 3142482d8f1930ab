"""Ids of another tenant, wherever a request may name one: answered as those of what does not exist, and without effect.

Who asks is the owner of the tenant Other, with everything their role can allow; the ids are Nord's.
"""

from __future__ import annotations

import json
import re

import pytest

from tests.access import expected
from tests.access.conftest import taken_back
from tests.access.operations import Operation, missing_for, operations
from tests.access.references import (
    BODIES,
    BODY,
    BODY_PLAIN_IN,
    NEEDED,
    OF_ANOTHER,
    QUERY,
    QUERY_PLAIN,
    body_fields,
    filled,
    placeholders,
    query_parameters,
)
from tests.access.test_api import TABLE, send

BY_NAME = {each.name: each for each in operations()}
OF_TENANTS = [each for each in operations() if TABLE.get(each.name, "").startswith("tenant")]


def plain(answer, *names: str) -> tuple[int, str]:
    """Give an answer without the names that were asked for, and without the moment it was asked."""
    text = b"".join(answer).decode() if answer.streaming else answer.content.decode()
    for name in names:
        text = text.replace(name, "(id)")
    return answer.status_code, re.sub(r"T\d\d:\d\d:\d\d\.\d+Z", "T(now)", text)


def bodies_of(operation: Operation):
    return [body for name, body in BODIES if name == operation.name] or [NEEDED.get(operation.name, {})]


def paths():
    for operation in OF_TENANTS:
        for name, kind in operation.parameters.items():
            if kind in expected.OF_TENANTS:
                yield pytest.param(operation, name, id=f"{operation.name} {name}")


@pytest.mark.parametrize(("operation", "name"), list(paths()))
def test_in_a_path(world, callers, operation, name):
    """Each parameter by itself, so that a nested id is also tried below a parent of one's own."""
    kind = operation.parameters[name]
    if kind == "endpoints/revisions":
        pytest.skip("revisions are numbered within their endpoint")
    theirs, missing = world.ids[kind], missing_for(world.ids[kind])
    client = callers.api("stranger")
    for body in bodies_of(operation):
        sent = filled(body, world.others)
        foreign = send(client, operation, operation.url(world.others | {kind: theirs}), sent)
        none = send(client, operation, operation.url(world.others | {kind: missing}), sent)
        assert foreign.status_code == 404
        assert plain(foreign, theirs) == plain(none, missing)


def queries():
    for operation in OF_TENANTS:
        for name in query_parameters(operation):
            for kind in QUERY.get(name, ()):
                yield pytest.param(operation, name, kind, id=f"{operation.name} {name} {kind}")


@pytest.mark.parametrize(("operation", "name", "kind"), list(queries()))
def test_in_a_query(world, callers, operation, name, kind):
    theirs, missing = world.ids[kind], missing_for(world.ids[kind])
    client, url = callers.api("stranger"), operation.url(world.others)
    foreign = send(client, operation, f"{url}?{name}={theirs}")
    none = send(client, operation, f"{url}?{name}={missing}")
    assert plain(foreign, theirs) == plain(none, missing)
    shown = plain(foreign, theirs)[1]
    assert not [each for each in world.secrets if each in shown]


def test_every_parameter_of_a_query_is_sorted():
    named = {name for operation in OF_TENANTS for name in query_parameters(operation)}
    assert named - set(QUERY) - QUERY_PLAIN == set()
    assert set(QUERY) - named == set()


def bodies():
    for name, body in BODIES:
        for field in placeholders(body):
            yield pytest.param(name, body, field, id=f"{name} {field}")


@pytest.mark.parametrize(("name", "body", "field"), list(bodies()))
def test_in_a_body(world, callers, name, body, field):
    operation, kind = BY_NAME[name], placeholders(body)[field]
    theirs, missing = world.ids[kind], missing_for(world.ids[kind])
    instead = {each: world.others[other] for each, other in OF_ANOTHER.get((name, field), {}).items()}
    client, url = callers.api("stranger"), operation.url(world.others | instead)
    own = send(client, operation, url, filled(body, world.others))
    assert own.status_code < 300, own.content
    foreign = send(client, operation, url, filled(body, world.others | {kind: theirs}))
    none = send(client, operation, url, filled(body, world.others | {kind: missing}))
    assert foreign.status_code == none.status_code
    if foreign.status_code >= 300:
        assert foreign.status_code in (404, 422)
        assert plain(foreign, theirs) == plain(none, missing)


def test_every_field_of_a_body_that_names_an_object_is_tried():
    tried: dict[str, set[str]] = {}
    for name, body in BODIES:
        tried.setdefault(name, set()).update(placeholders(body))
    named = {
        operation.name: fields
        for operation in OF_TENANTS
        if (fields := (body_fields(operation) & BODY) - BODY_PLAIN_IN.get(operation.name, set()))
    }
    named.pop("POST usage-events", None)  # a batch in a format of its own, below
    untried = {name: sorted(fields - tried.get(name, set())) for name, fields in named.items()}
    assert {name: fields for name, fields in untried.items() if fields} == {}


def test_every_field_of_a_body_that_looks_like_an_id_is_known():
    """A field of the form of an id, or called like one, is named in ``BODY``."""
    alike = (
        "_id",
        "_ids",
        "endpoint",
        "project",
        "key",
        "member",
        "members",
        "account",
        "webhook",
        "budget",
        "route",
    )
    found = {
        field
        for operation in OF_TENANTS
        for field in body_fields(operation)
        if field.rpartition(".")[2].endswith(alike) and field not in BODY
    }
    assert found <= {"data.endpoint", "data.key"}  # what engines elsewhere are called, not what Berth knows


def test_in_a_batch_of_usage(world, callers):
    def told(project):
        event = {
            "specversion": "1.0", "type": "berth.usage", "id": "1", "source": "s", "time": "2026-06-01T00:00:00Z",
            "data": {"project": project, "endpoint": "elsewhere", "model": "m", "input_tokens": 1},
        }  # fmt: skip
        with taken_back():
            return callers.api("stranger").generic(
                "POST", "/api/v1/usage-events", json.dumps([event]), "application/cloudevents-batch+json"
            )

    for kind in ("projects", "project slug"):
        theirs, missing = world.ids[kind], missing_for(world.ids[kind])
        assert plain(told(theirs), theirs) == plain(told(missing), missing)


@pytest.mark.parametrize(
    "name", ["PATCH routes/{id}", "PATCH endpoints/{id}", "DELETE keys/{id}", "POST keys"]
)
def test_nothing_of_nords_is_changed(world, callers, name):
    before, operation = world.digest(), BY_NAME[name]
    with taken_back():
        for body in bodies_of(operation):
            callers.api("stranger").generic(
                operation.method,
                operation.url(world.ids),
                json.dumps(filled(body, world.ids)),
                "application/json",
            )
        after = world.digest()
    assert [each for each in before if before[each] != after[each]] == []


NESTED = (
    ("GET tenants/{slug}/commitments/{id}", "tenants/commitments"),
    ("GET tenants/{slug}/credits/{id}", "tenants/credits"),
    ("POST tenants/{slug}/commitments/{id}:end", "tenants/commitments"),
)


@pytest.mark.parametrize(("name", "kind"), NESTED)
def test_an_object_of_one_tenant_under_the_address_of_another_is_none(world, callers, name, kind):
    """Also for those who may see both: the address says whose it must be."""
    operation, theirs = BY_NAME[name], world.others[kind]
    missing = missing_for(theirs)
    body = {"ends_at": "2026-12-01T00:00:00Z"} if operation.writes else None
    foreign = send(callers.api("superuser"), operation, operation.url(world.ids | {kind: theirs}), body)
    none = send(callers.api("superuser"), operation, operation.url(world.ids | {kind: missing}), body)
    assert foreign.status_code == 404
    assert plain(foreign, theirs) == plain(none, missing)
