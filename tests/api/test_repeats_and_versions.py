"""Which operations take an Idempotency-Key and an If-Match, by the description itself; each other one has a reason."""

from __future__ import annotations

import uuid

import pytest

from tests.api.contract import API, assert_problem, filled

pytestmark = pytest.mark.django_db

REVOKING = "takes away for good: a repeat changes nothing, and no version may hold it up"
LOOKING = "changes nothing"
#: POSTs that take no Idempotency-Key, by the last part of their paths.
UNREPEATED = {
    "advice-runs/{id}:dismiss": "a repeat is refused: the moves are decided",
    "clusters/{name}/credentials": "a repeat sets the same credentials again",
    "clusters/{name}:check": LOOKING,
    "clusters/{name}:cordon": "a repeat is refused: it is cordoned",
    "clusters/{name}:uncordon": "a repeat is refused: it is in use",
    "clusters:check": LOOKING,
    "configuration:diff": LOOKING,
    "endpoints/{id}:gate": LOOKING,
    "endpoints/{id}:plan-change": LOOKING,
    "endpoints/{id}:what-if": LOOKING,
    "endpoints:plan": LOOKING,
    "invitations/{id}:resend": "sends another mail, which is what a repeat asks for",
    "invitations/{id}:revoke": REVOKING,
    "keys/{id}:revoke": REVOKING,
    "keys:leaked": REVOKING,
    "keys:revoke-many": REVOKING,
    "platform/configuration:diff": LOOKING,
    "platform/savings/{id}:dismiss": "a repeat sets the same reason again",
    "policy-exceptions/{id}:end": REVOKING,
    "tenants/{slug}/billing-account:park": "a repeat sets the same reason again",
    "tenants/{slug}/billing-account:unpark": "a repeat is refused: it is not parked",
    "usage-events": "an event's own source and id count it once",
    "webhooks/{id}/test": "sends another test, which is what a repeat asks for",
    "webhooks/deliveries/{id}/redeliver": "sends it again under its old id, by which receivers know it",
}
#: Changes that take no If-Match.
UNVERSIONED = {
    "DELETE clusters/{name}/pools/{pool}/measurements/{id}": "is never edited: there is one version",
    "DELETE invitations/{id}": REVOKING,
    "DELETE keys/{id}": REVOKING,
    "PUT platform/policies/{slug}/floor": "is set whole, and shown in the tenant's policy alone",
    "PUT models/{name}/tokenizer": "is named by the digest of its content; the old one is never changed",
    "DELETE price-books/prices/{id}": "a price is never edited: there is one version",
}


@pytest.fixture(scope="module")
def described() -> dict:
    from drf_spectacular.generators import SchemaGenerator

    return SchemaGenerator().get_schema(request=None, public=True)


def operations(described: dict):
    for path, found in described["paths"].items():
        for method, operation in found.items():
            headers = {
                each["name"]: each for each in operation.get("parameters", []) if each["in"] == "header"
            }
            yield method.upper(), path.removeprefix(f"{API}/"), headers, operation


def test_every_post_takes_an_idempotency_key_or_has_a_reason(described):
    posts = {path: headers for method, path, headers, _ in operations(described) if method == "POST"}
    without = {path for path, headers in posts.items() if "Idempotency-Key" not in headers}
    assert without == set(UNREPEATED)
    assert all(UNREPEATED.values())
    for headers in posts.values():
        if "Idempotency-Key" in headers:
            assert headers["Idempotency-Key"]["schema"]["maxLength"] == 255


def test_every_change_of_an_object_takes_if_match_and_its_get_gives_an_etag(described):
    changes = {
        f"{method} {path}": (path, headers)
        for method, path, headers, _ in operations(described)
        if method in ("PATCH", "PUT", "DELETE")
    }
    assert {name for name, (_, headers) in changes.items() if "If-Match" not in headers} == set(UNVERSIONED)
    for name, (path, headers) in changes.items():
        if "If-Match" in headers:
            answers = described["paths"][f"{API}/{path}"]["get"]["responses"]["200"]
            assert "ETag" in answers["headers"], name


def test_every_operation_that_takes_a_key_refuses_one_that_is_too_long(described, owner, superuser, estate):
    checked = 0
    for method, path, headers, operation in operations(described):
        if "Idempotency-Key" not in headers:
            continue
        by_operator = any("operatorSession" in each for each in operation["security"])
        client = superuser if by_operator else owner
        target = filled(path).replace("{id}", str(uuid.uuid4()))
        for wrong in ("x" * 256, "a\tb"):
            answer = client.generic(
                method, f"{API}/{target.replace('{name}', 'de-a')}", "{}", content_type="application/json",
                headers={"Idempotency-Key": wrong},
            )  # fmt: skip
            assert "255" in assert_problem(answer, 422, "invalid")["detail"], path
        checked += 1
    assert checked > 20


#: Paths of objects whose GET gives an ETag, and a change that is right.
CHANGED = {
    "advice-policy": ("patch", {"payback_days": 8}),
    "engine-images/gateway": (
        "put",
        {"reference": "registry.example/berth/gateway:1", "digest": "sha256:" + "0a" * 32},
    ),
    "engine-settings/standard": ("patch", {}),
    "tenants/acme": ("patch", {"share": 2}),
}


@pytest.mark.parametrize("path", CHANGED)
def test_operators_change_what_they_have_seen_only(operator, tenant, estate, path):
    method, body = CHANGED[path]
    change = getattr(operator, method)
    seen = operator.get(f"{API}/{path}")["ETag"]
    stale = change(f"{API}/{path}", body, headers={"If-Match": 'W/"another"'})
    assert_problem(stale, 412, "stale")
    assert operator.get(f"{API}/{path}")["ETag"] == seen
    assert change(f"{API}/{path}", body, headers={"If-Match": seen}).status_code == 200


def test_a_secret_is_replaced_and_removed_by_who_has_seen_it(owner, estate):
    path = f"{API}/models/berth-docs-ngram/secret"
    nothing = owner.get(path)["ETag"]
    set_at = owner.put(path, {"values": {"HF_TOKEN": "hf_1"}}, headers={"If-Match": nothing})["ETag"]
    assert set_at == owner.get(path)["ETag"] != nothing
    assert_problem(owner.delete(path, headers={"If-Match": nothing}), 412, "stale")
    assert owner.delete(path, headers={"If-Match": set_at}).status_code == 204


def test_a_repeat_of_a_change_of_capacity_gives_the_first_answer(owner, estate):
    order = {"name": "chat", "project": "default", "model": "berth-docs-ngram", "slo_class": "standard"}
    made = owner.post(f"{API}/endpoints", order).json()
    pause = {"path": f"{API}/endpoints/{made['id']}:pause", "headers": {"Idempotency-Key": "once"}}
    first, again = owner.post(**pause), owner.post(**pause)
    assert first.status_code == 200, first.content
    assert (again.content, again["Idempotent-Replayed"]) == (first.content, "true")
    assert not first.has_header("Idempotent-Replayed")
    assert again["ETag"] == first["ETag"]
