"""Approvals that are asked for, people's own rights, and the command's exit status."""

from __future__ import annotations

import io

import pytest
from django.core.management import CommandError, call_command

from clusters.models import ApprovalRequest, Endpoint, EndpointState, SloClass, TenantPolicy
from tenants import scope
from tenants.members import member_add
from tenants.models import PlatformRole, Role
from tests.factories import audit_entries, make_user
from tests.portal.configuration.conftest import CHAT, writes
from tests.portal.configuration.test_kinds import document, of_acme, order

pytestmark = pytest.mark.django_db


@pytest.fixture
def dear(acme, apply):
    """Everything that costs anything needs an owner's or admin's approval."""
    apply(of_acme("ApprovalRule", "dear", {"kind": "price-above", "amount": 0}))
    with scope.tenant(acme.id):
        member_add(email="adele@example.org", role=Role.ADMIN, granter_role=Role.OWNER)
        return member_add(email="dev@example.org", role=Role.DEVELOPER, granter_role=Role.OWNER).user


def pending(acme) -> list[str]:
    with scope.tenant(acme.id):
        return list(ApprovalRequest.objects.pending().values_list("what", flat=True))


def test_an_order_that_needs_approval_is_asked_for_and_not_refused(acme, dear, apply):
    said = apply(CHAT, dry_run=True)
    assert "Endpoint chat (acme/default): asked for. Waiting for approval" in said
    assert "Per hour: nothing -> " in said
    assert pending(acme) == []
    apply(CHAT, person="dev@example.org")
    with scope.tenant(acme.id):
        held = Endpoint.objects.get()
        assert (held.state, held.created_by) == (EndpointState.WAITING_FOR_APPROVAL, dear)
        assert ApprovalRequest.objects.get().asked_by == dear
    again: list[str] = []
    assert writes(lambda: again.append(apply(CHAT))) == []
    assert "unchanged. It waits for somebody's approval." in again[0]


def test_a_change_that_was_asked_for_is_not_asked_for_twice(acme, apply):
    apply(order())
    apply(of_acme("ApprovalRule", "dear", {"kind": "price-above", "amount": 0}))
    assert "Endpoint chat (acme/default): asked for. It waits" in apply(order(replicas=2))
    again: list[str] = []
    assert writes(lambda: again.append(apply(order(replicas=2)))) == []
    assert "Endpoint chat (acme/default): waiting. It was asked for" in again[0]
    assert pending(acme) == ["scale"]
    apply(order(replicas=3))  # something else: it takes the place of what was asked for
    assert pending(acme) == ["scale"]


def test_a_policy_that_is_loosened_waits_for_a_second_person(acme, dear, apply):
    strict = of_acme("TenantPolicy", "policy", {"allowed_zones": ["EU"]})
    apply(strict)
    loose = of_acme("TenantPolicy", "policy", {"allowed_zones": []})
    assert "TenantPolicy policy (acme): asked for. It loosens" in apply(loose, person="adele@example.org")
    assert "TenantPolicy policy (acme): waiting." in apply(loose, person="adele@example.org")
    with scope.tenant(acme.id):
        assert TenantPolicy.objects.in_force().allowed_zones == ["EU"]


def test_a_person_applies_by_their_own_rights(acme, dear, apply):
    policy = of_acme("TenantPolicy", "policy", {"allowed_zones": ["EU"]})
    with pytest.raises(CommandError, match=r"TenantPolicy policy: dev@example\.org may not manage policy\."):
        apply(policy, person="dev@example.org")
    apply(policy, person="adele@example.org")
    knobs = document("EngineSettings", "batch", {"drain_s": 9})
    with pytest.raises(CommandError, match=r"adele@example\.org may not manage offer"):
        apply(knobs, person="adele@example.org")
    make_user("olga@example.org", platform_role=PlatformRole.OPERATOR)
    apply(knobs, person="olga@example.org")
    assert SloClass.objects.get(name="batch").tuning.drain_s == 9
    with pytest.raises(CommandError, match="There is no person"):
        apply(knobs, person="nobody@example.org")


def test_the_audit_names_the_person_that_was_applied_as(acme, dear, apply):
    apply(of_acme("TenantPolicy", "policy", {"allowed_zones": ["EU"]}), person="adele@example.org")
    entries = audit_entries(acme, target_kind="applied-object", target_name="policy")
    assert [each.actor_name for each in entries] == ["adele@example.org"]


def test_the_exit_status_tells_whether_anything_differs(acme, apply):
    with pytest.raises(SystemExit) as left:
        apply(CHAT, dry_run=True, exit_code=True)
    assert left.value.code == 2
    apply(CHAT)
    apply(CHAT, dry_run=True, exit_code=True)
    apply(CHAT.replace("100", "110"), dry_run=True)


def test_files_folders_and_the_standard_input_are_read(acme, apply, tmp_path, monkeypatch):
    (tmp_path / "all" / "deep").mkdir(parents=True)
    (tmp_path / "all" / "deep" / "chat.yml").write_text(CHAT)
    (tmp_path / "all" / "notes.txt").write_text("no YAML: [")
    monkeypatch.setattr("sys.stdin", io.StringIO(order("other")))
    out = io.StringIO()
    call_command("apply", "all", "-", stdout=out, dry_run=True)
    assert "Would be: 2 created." in out.getvalue()
    with pytest.raises(CommandError, match=r"gone\.yaml: It cannot be read: No such file"):
        call_command("apply", "gone.yaml")
    (tmp_path / "empty").mkdir()
    with pytest.raises(CommandError, match=r"The folder holds no \.yaml or \.yml file"):
        call_command("apply", "empty")


def test_a_diff_has_colours_only_where_they_are_asked_for(acme, apply):
    assert "\x1b[32m+model" in apply(CHAT, dry_run=True, force_color=True)
    assert "\x1b[" not in apply(CHAT, dry_run=True)


def test_the_same_object_twice_and_a_kind_that_there_is_not(acme, apply):
    with pytest.raises(CommandError) as refused:
        apply(CHAT, f"{CHAT}---\n{CHAT.replace('Endpoint', 'Endpont')}")
    told = str(refused.value)
    assert "1.yaml:3: Endpoint chat metadata.name: It is described twice" in told
    assert "2.yaml:13: Endpont chat kind: There is no kind Endpont. Did you mean Endpoint?" in told
