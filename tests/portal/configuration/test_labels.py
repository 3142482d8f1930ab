"""Owner labels: whose an object is, what prune takes away, and what it never touches."""

from __future__ import annotations

import pytest
from django.core.management import CommandError

from billing.models import Budget
from clusters.models import AppliedObject, CatalogModel, Endpoint, NamedRoute, Wanted
from tenants import scope
from tests.factories import audit_entries, make_tenant
from tests.portal.configuration.conftest import export, writes
from tests.portal.configuration.test_kinds import document, of_acme, order

pytestmark = pytest.mark.django_db


def wanted(acme) -> dict[str, str]:
    with scope.tenant(acme.id):
        return dict(Endpoint.objects.values_list("name", "wanted"))


def route() -> str:
    return of_acme("NamedRoute", "smart", {"rules": [{"targets": [{"endpoint": "a"}]}]}, project="default")


def test_what_is_in_no_file_any_more_is_taken_away_after_it_is_told(acme, apply):
    apply(order("a"), order("b"), route(), owner="team-x")
    said = apply(order("b"), owner="team-x", prune=True, dry_run=True)
    assert "NamedRoute smart (acme/default): removed." in said
    assert "Endpoint a (acme/default): removed. Deletion is asked for" in said
    assert wanted(acme) == {"a": Wanted.RUNNING, "b": Wanted.RUNNING}
    apply(order("b"), owner="team-x", prune=True)
    assert wanted(acme) == {"a": Wanted.DELETED, "b": Wanted.RUNNING}
    with scope.tenant(acme.id):
        assert not NamedRoute.objects.exists()
    again: list[str] = []
    assert writes(lambda: again.append(apply(order("b"), owner="team-x", prune=True))) == []
    assert "removed" not in again[0]


def test_what_has_another_label_or_none_is_never_touched(acme, apply):
    apply(order("a"), owner="team-y")
    apply(order("b"))
    apply(order("c"), owner="team-x", prune=True)
    assert wanted(acme) == dict.fromkeys("abc", Wanted.RUNNING)


def test_what_has_another_label_is_taken_over_only_when_asked(acme, apply):
    apply(order("a"), owner="team-y")
    told = refused_with(apply, order("a"), owner="team-x")
    assert "metadata.owner: It belongs to the owner label team-y." in told
    apply(order("a"))  # by no label: it keeps its own
    apply(order("a"), owner="team-x", take_over=True)
    with scope.tenant(acme.id):
        assert AppliedObject.objects.get().owner == "team-x"
    assert "owner: team-x" in export(kind=["Endpoint"])


def test_a_label_in_the_file_wins(acme, apply):
    text = order("a").replace("  tenant: acme", "  owner: mine\n  tenant: acme")
    apply(text, owner="other")
    with scope.tenant(acme.id):
        assert AppliedObject.objects.get().owner == "mine"


def test_what_was_taken_away_by_hand_is_no_trouble(acme, apply):
    apply(order("a"), route(), owner="team-x")
    with scope.tenant(acme.id):
        NamedRoute.objects.all().delete()
    said = apply(order("a"), owner="team-x", prune=True)
    assert "NamedRoute smart (acme): left. It is gone already." in said


def test_what_somebody_else_made_by_its_name_since_is_left(acme, apply):
    apply(order("a"), route(), owner="team-x")
    with scope.tenant(acme.id):
        gone = NamedRoute.objects.get()
        NamedRoute.objects.all().delete()
        hers = NamedRoute.objects.create(project=gone.project, name=gone.name, rules=gone.rules)
    assert "team-x" not in export(kind=["NamedRoute"])
    said = apply(order("a"), owner="team-x", prune=True)
    assert "NamedRoute smart (acme/default): left. It is gone already; what has its name now" in said
    with scope.tenant(acme.id):
        assert NamedRoute.objects.get() == hers
    assert "NamedRoute" not in apply(order("a"), owner="team-x", prune=True)


def test_what_somebody_else_made_by_its_name_since_has_no_label(acme, apply):
    apply(route(), order("a"), owner="team-x")
    with scope.tenant(acme.id):
        gone = NamedRoute.objects.get()
        NamedRoute.objects.all().delete()
        NamedRoute.objects.create(project=gone.project, name=gone.name, rules=gone.rules)
    apply(route(), owner="team-y")
    with scope.tenant(acme.id):
        assert AppliedObject.objects.get(kind="NamedRoute").owner == "team-y"


def test_a_budget_written_with_other_letters_is_the_same_one(acme, apply):
    spec = {"unit": "money", "limit": 100, "period": "month"}
    apply(of_acme("Budget", "Chat", spec), owner="team-x")
    small = of_acme("Budget", "chat", spec)
    assert "It belongs to the owner label team-x." in refused_with(apply, small, owner="team-y")
    said = apply(small, owner="team-x", prune=True)
    assert "removed" not in said
    with scope.tenant(acme.id):
        assert Budget.objects.get().name == "Chat"
        assert AppliedObject.objects.get().name == "chat"
    assert writes(lambda: apply(small, owner="team-x", prune=True)) == []


def test_what_cannot_be_taken_away_is_left_and_said(acme, apply):
    standard = document("EngineSettings", "standard", {"drain_s": 9})
    apply(document("EngineSettings", "batch", {"drain_s": 9}), standard, owner="team-x")
    said = apply(standard, owner="team-x", prune=True)
    assert "EngineSettings batch: left. A class always has engine settings" in said


def test_a_model_is_withdrawn(estate, acme, apply):
    standard = document("EngineSettings", "standard", {"drain_s": 9})
    apply(document("CatalogModel", "berth-docs-ngram", {}), standard, owner="team-x")
    apply(standard, owner="team-x", prune=True)
    assert CatalogModel.objects.get(name="berth-docs-ngram").published is False


def test_prune_needs_a_label_that_is_one(acme, apply):
    assert "To prune, say whose objects" in refused_with(apply, order("a"), prune=True)
    assert "An owner label has" in refused_with(apply, order("a"), owner="Team X")


def test_prune_stays_within_the_tenant_that_is_asked_for(acme, apply):
    apply(order("a"), document("EngineSettings", "batch", {"drain_s": 9}), owner="team-x")
    said = apply(order("b"), owner="team-x", prune=True, tenant="acme")
    assert "EngineSettings" not in said


def test_prune_stays_where_documents_are(acme, apply):
    beta = make_tenant("beta", gpus=8)
    apply(order("a"), owner="team-x")
    apply(order("a").replace("tenant: acme", "tenant: beta"), owner="team-x")
    said = apply(order("b"), owner="team-x", prune=True)
    assert "Endpoint a (acme/default): removed." in said
    assert "The owner label team-x is also found at beta, which no document names" in said
    assert wanted(acme) == {"a": Wanted.DELETED, "b": Wanted.RUNNING}
    assert wanted(beta) == {"a": Wanted.RUNNING}


def test_the_audit_tells_who_applied_what(acme, apply):
    apply(order("a"), owner="team-x")
    (entry,) = audit_entries(acme, target_kind="applied-object")
    assert (entry.action, entry.target_name) == ("applied-object.create", "a")
    facts = str(entry.__dict__)
    assert "team-x" in facts
    with scope.tenant(acme.id):
        assert AppliedObject.objects.get().digest in facts


def refused_with(apply, text: str, **options) -> str:
    with pytest.raises(CommandError) as error:
        apply(text, **options)
    return str(error.value)


def test_no_document_at_all_takes_nothing_away(acme, apply):
    apply(order("a"), owner="team-x")
    assert "There is no document to apply." in refused_with(apply, "# empty", owner="team-x", prune=True)
    assert wanted(acme) == {"a": Wanted.RUNNING}
