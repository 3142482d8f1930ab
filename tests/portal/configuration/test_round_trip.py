"""Exporting and applying are each other's inverse, over every kind and with something in each."""

from __future__ import annotations

import pytest

from billing.budgets.services import budget_create
from clusters.endpoints.approvals.rules import rule_create
from clusters.models import CatalogModel, SloClass
from portal.configuration.documents import read_yaml
from portal.configuration.kinds import KINDS
from portal.configuration.kinds.offer import CatalogModelSpec, SloClassSpec
from tenants import scope
from tests.access.world import make_world
from tests.portal.configuration.conftest import export, writes

pytestmark = pytest.mark.django_db


@pytest.fixture
def world(monkeypatch):
    """Rows of every kind, of two tenants."""
    made = make_world(monkeypatch.setattr)
    with scope.tenant(made.nord.id):
        owner = made.people["owner"]
        rule_create(kind="price-above", amount=10, decides="members", members=[owner.id])
        budget_create(name="Tokens", unit="tokens", limit=1_000_000, period="day")
    return made


def test_applying_what_was_exported_changes_nothing(world, apply):
    text = export()
    documents = read_yaml(text, source="all")
    assert {each.kind for each in documents} == set(KINDS)
    assert {each.tenant for each in documents} == {"", "nord", "other"}
    said = apply(text, dry_run=True).splitlines()
    assert said[-1] == f"Would be: {len(documents)} unchanged."
    before = world.digest()
    apply(text)
    assert set(world.changed_since(before)) <= {"clusters_appliedobject", "clusters_appliedplatformobject"}
    assert writes(lambda: apply(text)) == []
    assert export() == text


def test_each_kind_and_each_tenant_may_be_exported_alone(world):
    found = read_yaml(export(kind=["Endpoint"], tenant="nord"), source="some")
    assert {(each.kind, each.tenant) for each in found} == {("Endpoint", "nord")}


@pytest.mark.parametrize(
    ("model", "spec", "left_out"),
    [
        (SloClass, SloClassSpec, {"id", "created_at", "name"}),
        # A file and secrets, which stand in no document.
        (CatalogModel, CatalogModelSpec, {"id", "created_at", "name", "tokenizer", "weights_secret"}),
    ],
)
def test_every_field_is_in_a_document(model, spec, left_out):
    assert set(spec().fields) == {field.name for field in model._meta.concrete_fields} - left_out
