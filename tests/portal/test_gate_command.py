"""``manage.py gate``: exit status 0 kept, 1 broken and named, 2 wrong."""

from __future__ import annotations

import json
from io import StringIO

import pytest
from django.core.management import CommandError, call_command

from clusters.endpoints import services
from tenants import scope
from tests.estate import make_estate
from tests.factories import default_project, make_tenant

pytestmark = pytest.mark.django_db
TARGET = {
    "target": "new", "requests": 1000, "failed": 0, "ttft_p95_ms": 300.0, "itl_p95_ms": 20.0,
    "cost_per_million_tokens": None, "kept_up": True, "answers": [{"at_s": 0}],
}  # fmt: skip


@pytest.fixture(autouse=True)
def _endpoint(db):
    estate, tenant = make_estate(), make_tenant("acme", gpus=8)
    project = default_project(tenant)
    with scope.tenant(tenant.id):
        services.endpoint_order(project=project, name="chat", terms=estate.terms(), actor="a test")


def gate(*arguments: str) -> tuple[int, str, str]:
    """Run it; give exit status, output and errors."""
    out, err = StringIO(), StringIO()
    try:
        call_command("gate", *arguments, stdout=out, stderr=err)
    except SystemExit as end:
        return int(end.code or 0), out.getvalue(), err.getvalue()
    except CommandError as error:
        return error.returncode, out.getvalue(), str(error)
    return 0, out.getvalue(), err.getvalue()


def test_what_is_kept_passes_and_what_is_broken_is_named():
    status, out, err = gate("acme/chat", "--change", "replicas=1")
    assert (status, err) == (0, "")
    assert [line.split()[:2] for line in out.splitlines()] == [["slo", "kept"], ["cost", "kept"]]
    status, out, err = gate("acme/chat", "--change", "replicas=4", "--json")
    assert (status, err.strip()) == (1, "Broken: cost.")
    assert json.loads(out)["broken"] == ["cost"]
    assert gate("acme/chat", "--change", "replicas=4", "--cost-factor", "5")[0] == 0


def test_a_report_is_read_as_it_was_printed(tmp_path):
    report = tmp_path / "report.json"
    report.write_text(json.dumps({"schema": "berth.replay/1", "goals": {}, "targets": [TARGET]}))
    assert gate("acme/chat", "--report", str(report))[0] == 0
    report.write_text(json.dumps({"schema": "berth.replay/1", "targets": [TARGET | {"ttft_p95_ms": 9000}]}))
    status, out, err = gate("acme/chat", "--report", str(report))
    assert (status, err.strip()) == (1, "Broken: slo.")
    assert "TTFT p95 is 9000 ms, the target 2000 ms." in out


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["chat", "--change", "replicas=1"], "write TENANT/ENDPOINT"),
        (["acme/other", "--change", "replicas=1"], "has no endpoint 'other'"),
        (["acme/chat"], "nothing to judge"),
        (["acme/chat", "--change", "replicas"], "NAME=VALUE"),
        (["acme/chat", "--change", "colour=red"], "change.colour: There is no such field"),
        (["acme/chat", "--change", "pins.gpu=abacus"], "change.pins.gpu: There is no GPU type"),
        (["acme/chat", "--report", "/nowhere/report.json"], "cannot be read"),
        (["acme/chat", "--report", __file__], "is not JSON"),
        (["acme/chat", "--evaluation", "01890000-0000-7000-8000-00000000dead"], "no such evaluation"),
    ],
)
def test_a_wrong_command_says_what_is_wrong(arguments, told):
    status, _, err = gate(*arguments)
    assert status == 2
    assert told in err
