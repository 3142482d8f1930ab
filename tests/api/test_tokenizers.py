"""The tokenizer of a catalog model: uploaded by operators, listed for all, given to gateways."""

from __future__ import annotations

import hashlib
import json

import pytest
from rest_framework.test import APIClient

from clusters.endpoints import services
from clusters.endpoints.snapshot import build_snapshot
from clusters.models import CatalogModel, Tokenizer
from clusters.triton.language_model.artifact import tokenizer_file
from gateway import contract
from tenants import scope
from tenants.models import PlatformRole
from tests.api.contract import API, assert_problem
from tests.estate import MODEL
from tests.factories import default_project, make_user

pytestmark = pytest.mark.django_db

SHIPPED = tokenizer_file()
DIGEST = hashlib.sha256(SHIPPED).hexdigest()
PATH = f"{API}/models/llama-3.1-8b-instruct/tokenizer"


@pytest.fixture
def operator(estate) -> APIClient:
    client = APIClient()
    client.force_login(make_user("otto@example.org", platform_role=PlatformRole.OPERATOR))
    return client


def upload(client: APIClient, content: bytes, path: str = PATH):
    return client.generic("PUT", path, content, content_type="application/json")


def other_tokenizer() -> bytes:
    document = json.loads(SHIPPED)
    document["added_tokens"][0]["rstrip"] = True
    return json.dumps(document).encode()


@pytest.fixture
def fetch(estate, client):
    def fetch(digest: str, *, token: str = "", **headers: str):
        headers["HTTP_AUTHORIZATION"] = f"Bearer {token or estate.gateway_token}"
        return client.get(f"{contract.TOKENIZERS_PATH}/{digest}", **headers)

    return fetch


def test_the_shipped_model_has_its_tokenizer_and_others_none(owner, estate):
    assert owner.get(f"{API}/models/{MODEL}").json()["tokenizer"] == DIGEST
    assert owner.get(f"{API}/models/llama-3.1-8b-instruct").json()["tokenizer"] is None


def test_an_operator_uploads_one_and_replaces_it(operator, owner):
    answer = upload(operator, other_tokenizer())
    assert answer.status_code == 200, answer.content
    digest = hashlib.sha256(other_tokenizer()).hexdigest()
    assert answer.json() == {
        "model": "llama-3.1-8b-instruct", "sha256": digest, "size": len(other_tokenizer()),
    }  # fmt: skip
    assert owner.get(f"{API}/models/llama-3.1-8b-instruct").json()["tokenizer"] == digest

    assert upload(operator, SHIPPED).json()["sha256"] == DIGEST
    # The shipped model has it too; the one before is nobody's any more.
    assert list(Tokenizer.objects.values_list("sha256", flat=True)) == [DIGEST]


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff\x00", SHIPPED[:-50]])
def test_what_is_no_tokenizer_is_refused(operator, content):
    assert_problem(upload(operator, content), 422, "invalid")
    assert CatalogModel.objects.get(name="llama-3.1-8b-instruct").tokenizer_id is None


def test_a_file_that_is_too_large_is_refused(operator, monkeypatch):
    monkeypatch.setattr("clusters.inventory.tokenizers.MOST_TOKENIZER_BYTES", len(SHIPPED) - 1)
    refused = upload(operator, SHIPPED)
    assert_problem(refused, 422, "invalid")
    assert f"at most {len(SHIPPED) - 1} bytes" in refused.json()["detail"]


def test_an_unknown_model_has_none(operator):
    assert_problem(upload(operator, SHIPPED, f"{API}/models/unknown/tokenizer"), 404, "not-found")


def test_gateways_fetch_it_once(fetch):
    first = fetch(DIGEST)
    assert (first.status_code, first.content, first["ETag"]) == (200, SHIPPED, f'"{DIGEST}"')
    again = fetch(DIGEST, HTTP_IF_NONE_MATCH=first["ETag"])
    assert (again.status_code, again.content) == (304, b"")
    assert fetch("0" * 64).status_code == 404
    assert fetch(DIGEST, token="wrong").status_code == 401


def test_the_snapshot_names_it_and_how_the_runtime_counts(estate, operator, tenant):
    with scope.tenant(tenant.id):
        services.endpoint_order(
            project=default_project(tenant), name="guide", terms=estate.terms(), actor="a test"
        )
    before = build_snapshot(estate.gateway)
    [endpoint] = before.endpoints
    assert (endpoint.tokenizer, endpoint.special_tokens) == (DIGEST, contract.SpecialTokens.NONE)

    upload(operator, other_tokenizer(), f"{API}/models/{MODEL}/tokenizer")
    [endpoint] = build_snapshot(estate.gateway).endpoints
    assert endpoint.tokenizer == hashlib.sha256(other_tokenizer()).hexdigest()
