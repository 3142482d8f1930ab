"""Every command on the real API."""

from __future__ import annotations

import json

import pytest

from clusters.endpoints.rollouts.changing import endpoint_change
from clusters.models import Endpoint, EndpointState
from tenants import scope
from tenants.models import ApiKey
from tests.portal.configuration.conftest import CHAT

pytestmark = pytest.mark.django_db
TERMS = (
    "--model",
    "berth-docs-ngram",
    "--class",
    "standard",
    "--residency",
    "zone:EU",
    "--project",
    "default",
)


def endpoints(tenant) -> list[Endpoint]:
    with scope.tenant(tenant.id):
        return list(Endpoint.objects.all())


def test_an_order_is_planned_agreed_to_and_looked_after(berthctl, tenant):
    told = berthctl.run("plan", *TERMS).stdout
    assert "plan                placed" in told
    assert "per hour" in told
    assert "add --yes to agree" in berthctl.run("order", "chat", *TERMS, status=2).stderr
    assert endpoints(tenant) == []
    made = berthctl.json("order", "chat", *TERMS, "--yes", "--pin", "gpu=l4")
    assert (made["name"], made["project"]) == ("chat", "default")
    assert endpoints(tenant)[0].pins == {"gpu": "l4"}
    assert "NAME  PROJECT  MODEL" in berthctl.run("status").stdout
    assert berthctl.json("status", "CHAT")["id"] == made["id"]
    berthctl.run("scale", "chat", "2")
    berthctl.run("pause", "chat")
    assert endpoints(tenant)[0].wanted == "paused"
    berthctl.run("resume", "chat")
    berthctl.run("delete", "chat", status=2)
    berthctl.run("delete", "chat", "--yes")
    assert endpoints(tenant)[0].wanted == "deleted"


def test_what_cannot_be_placed_at_all_is_no_success(berthctl):
    told = berthctl.json(
        "plan", "--model", "berth-docs-ngram", "--class", "standard", "--certification", "NONE", status=1
    )
    assert told["status"] == "impossible"
    assert (
        "There is no model 'gpt-9'"
        in berthctl.run("plan", "--model", "gpt-9", "--class", "batch", status=1).stderr
    )
    assert "NAME=VALUE" in berthctl.run("plan", *TERMS, "--pin", "l4", status=2).stderr


def test_waiting_ends_when_it_is_ready_or_will_not_be(berthctl, tenant):
    berthctl.run("order", "chat", *TERMS, "--yes")
    told = berthctl.json("status", "chat", "--wait-ready", "--wait-s", "5", status=7)
    assert told["error"]["name"] == "chat"
    assert sum(berthctl.pauses) == 6
    with scope.tenant(tenant.id):
        Endpoint.objects.update(state=EndpointState.READY)
    assert berthctl.json("status", "chat", "--wait-ready")["state"] == "ready"
    with scope.tenant(tenant.id):
        Endpoint.objects.update(state=EndpointState.FAILED, state_reason="No such image.")
    assert "chat is failed: No such image." in berthctl.run("status", "chat", "--wait-ready", status=7).stderr
    berthctl.run("status", "--watch", status=2)


def test_what_there_is_not(berthctl):
    assert "There is no endpoint chat." in berthctl.run("status", "chat", status=4).stderr
    berthctl.run("keys", "revoke", "app", "--yes", status=4)


def test_logs_of_what_was_never_started(berthctl):
    berthctl.run("order", "chat", *TERMS, "--yes")
    assert "No engine was started yet." in berthctl.run("logs", "chat", status=4).stderr


def test_rollouts_are_listed_promoted_and_taken_back(berthctl, tenant):
    berthctl.run("order", "chat", *TERMS, "--yes")
    assert berthctl.json("rollouts", "chat") == []
    assert "No rollout of chat is under way." in berthctl.run("rollback", "chat", "--yes", status=4).stderr
    with scope.tenant(tenant.id):
        endpoint = Endpoint.objects.select_related("slo_class", "model", "project", "tenant", "cluster").get()
        endpoint_change(endpoint=endpoint, changes={"pins": {"max_batch_size": 2}}, actor="a test")
    (under_way,) = berthctl.json("rollouts", "chat")
    assert (under_way["phase"], under_way["before"]) == ("starting", 1)
    assert "1 -> 2" in berthctl.run("rollouts", "chat").stdout
    berthctl.run("rollback", "chat", status=2)
    berthctl.run("rollback", "chat", "--yes")
    assert berthctl.json("rollouts", "chat")[0]["phase"] == "rolled-back"
    berthctl.run("promote", "chat", "--yes", status=4)


def test_the_gate_tells_by_its_exit_status(berthctl, tmp_path):
    berthctl.run("order", "chat", *TERMS, "--yes")
    twice = ("gate", "chat", "--change", "replicas=2", "--change", "pins.gpu=l4")
    told = berthctl.run(*twice, "--cost-factor", "3").stdout
    assert told.splitlines()[0].startswith("CRITERION  STANDING")
    assert berthctl.json(*twice, status=1)["broken"] == ["cost"]
    target = {"requests": 200, "failed": 150, "answers": [{"at_s": 0.0, "failure": "x" * 1000}] * 2000}
    (tmp_path / "report.json").write_text(json.dumps({"schema": "berth.replay/1", "targets": [target]}))
    assert "slo" in berthctl.json("gate", "chat", "--report", "report.json", status=1)["broken"]
    (tmp_path / "report.json").write_text("{")
    berthctl.run("gate", "chat", "--report", "report.json", status=2)


def test_keys_are_made_shown_once_rotated_and_revoked(berthctl, tenant):
    text = berthctl.run("keys", "make", "app", "--project", "default").stdout.strip()
    assert text.startswith("berth_")
    listed = berthctl.run("keys", "list")
    assert "app" in listed.stdout
    assert text not in listed.output
    assert berthctl.run("keys", "rotate", "app").stdout.strip() != text
    with scope.tenant(tenant.id):
        first = ApiKey.objects.filter(name="app").earliest("created_at")
    berthctl.run("keys", "revoke", str(first.id), "--yes")
    berthctl.run("keys", "revoke", "app", status=2)
    told = berthctl.run("keys", "revoke", "app", "--yes").stdout
    assert told == "app is revoked.\n"
    with scope.tenant(tenant.id):
        assert {key.revoked_at is not None for key in ApiKey.objects.filter(name="app")} == {True}


def test_usage_is_told_by_group(berthctl):
    told = berthctl.run("usage", "--since", "24h").stdout
    assert told.startswith("WHAT   REQUESTS  INPUT")
    assert berthctl.json("usage", "--by", "project", "--by", "model")["group_by"] == ["project_id", "model"]
    berthctl.run("usage", "--since", "soon", status=2)


def test_files_are_compared_applied_and_written(berthctl, tenant, tmp_path):
    (tmp_path / "chat.yaml").write_text(CHAT)
    told = berthctl.run("diff", "chat.yaml", "--exit-code", status=6).stdout
    assert "Endpoint chat: created." in told
    assert "+model: berth-docs-ngram" in told
    assert "Would be: 1 created." in told
    assert "add --yes" in berthctl.run("apply", "chat.yaml", status=2).stderr
    assert endpoints(tenant) == []
    assert "Done: 1 created." in berthctl.run("apply", "chat.yaml", "--owner", "team-x", "--yes").stdout
    assert "Done: 1 unchanged." in berthctl.run("apply", "chat.yaml", "--owner", "team-x").stdout
    berthctl.run("diff", "chat.yaml", "--exit-code")
    written = berthctl.run("export", "--kind", "Endpoint").stdout
    assert "owner: team-x" in written
    (tmp_path / "chat.yaml").write_text(written)
    berthctl.run("diff", "chat.yaml", "--exit-code")
    assert berthctl.json("export")["documents"]
    berthctl.run("apply", "chat.yaml", "--prune", status=2)


def test_only_what_was_agreed_to_is_applied(berthctl, tenant, tmp_path, monkeypatch):
    (tmp_path / "chat.yaml").write_text(CHAT)
    (tmp_path / "other.yaml").write_text(f"{CHAT}  tokens_per_minute: 9000\n")

    def agree(session, question, *, yes):
        berthctl.run("apply", "other.yaml", "--yes")

    monkeypatch.setattr("berthctl.session.Session.confirm", agree)
    assert "look again" in berthctl.run("apply", "chat.yaml", status=1).stderr
    assert [each.tokens_per_minute for each in endpoints(tenant)] == [9000]


def test_what_is_wrong_is_told_with_its_own_files_line(berthctl, tmp_path):
    (tmp_path / "all").mkdir()
    (tmp_path / "all" / "a.yaml").write_text(CHAT)
    (tmp_path / "all" / "b.yml").write_text(CHAT.replace("chat,", "other,").replace("standard", "golden"))
    told = berthctl.run("apply", "all", "--yes", status=1).stderr.splitlines()
    assert told[1] == "  all/b.yml:6: Endpoint other spec.slo_class: There is no SLO class 'golden'."
    failed = berthctl.json("apply", "all", "--yes", status=1)
    assert failed["error"]["problems"][0]["source"] == "all/b.yml"
    berthctl.run("apply", "gone.yaml", status=2)
    (tmp_path / "empty").mkdir()
    berthctl.run("apply", "empty", status=2)
