"""Alert rules and dashboard: they parse, name what gateways show, and say what to do. See test_runbooks.py, too."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.fakes.triton import Behaviour
from tests.gateway.conftest import Bench, idle  # noqa: F401

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "deploy" / "monitoring"
RULES = FOLDER / "berth-gateway.rules.yml"
DASHBOARD = FOLDER / "berth-gateway.dashboard.json"
NAME = re.compile(r"\b(berth_gateway_[a-z0-9_]+)")
CHAT = {"model": "docs", "messages": [{"role": "user", "content": "hello there"}]}


def rules() -> list[dict]:
    groups = yaml.safe_load(RULES.read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def alerts() -> list[dict]:
    return [rule for rule in rules() if "alert" in rule]


def expressions() -> Iterator[str]:
    for rule in rules():
        yield rule["expr"]
    dashboard = json.loads(DASHBOARD.read_text())
    for panel in dashboard["panels"]:
        for target in panel.get("targets", ()):
            yield target["expr"]
    for variable in dashboard["templating"]["list"]:
        yield variable.get("definition", "")


async def test_every_metric_that_is_named_is_one_that_a_gateway_shows(idle: Bench) -> None:  # noqa: F811
    await idle.ready(BERTH_GATEWAY_TRACES="on")
    idle.triton.behaviour = Behaviour(tokens=4, delay_s=0.01)
    assert await idle.http_status("/v1/chat/completions", CHAT) == 200
    assert await idle.http_status("/v1/chat/completions", CHAT | {"temperature": "hot"}) == 400
    idle.publish(routes=())
    await idle.settled()
    assert await idle.http_status("/v1/chat/completions", CHAT) == 503
    async with idle.http.get(f"{idle.url}/metrics") as response:
        text = await response.text()

    shown = set(NAME.findall(text))
    named = {name for expression in expressions() for name in NAME.findall(expression)}
    assert len(named) > 20
    assert named <= shown, sorted(named - shown)
    for outcome in ("completed", "refused"):
        assert f'outcome="{outcome}"' in text


def test_recorded_shares_are_those_that_alerts_ask_for() -> None:
    recorded = {rule["record"] for rule in rules() if "record" in rule}
    asked = {name for rule in alerts() for name in re.findall(r"berth:[a-z0-9_:]+", rule["expr"])}
    assert asked <= recorded


def test_every_alert_says_how_bad_what_and_what_to_do() -> None:
    names = [rule["alert"] for rule in alerts()]
    assert len(names) == len(set(names))
    for rule in alerts():
        assert rule["labels"]["severity"] in {"page", "ticket"}, rule["alert"]
        assert rule["annotations"]["summary"], rule["alert"]
        assert rule["annotations"]["runbook_url"], rule["alert"]
        assert "for" in rule, rule["alert"]


def test_panels_fit_beside_each_other() -> None:
    dashboard = json.loads(DASHBOARD.read_text())
    rows = [panel["title"] for panel in dashboard["panels"] if panel["type"] == "row"]
    assert len(rows) == 6
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(ids) == len(set(ids))
    taken: set[tuple[int, int]] = set()
    for panel in dashboard["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert max(x for x, _ in cells) < 24
        assert not cells & taken, panel["title"]
        taken |= cells


@pytest.fixture
def promtool() -> str:
    found = shutil.which("promtool")
    if found is None:
        pytest.skip("promtool is not installed: Prometheus' own reading of the rules is not tested")
    return found


@pytest.mark.parametrize(
    "what", [["check", "rules", RULES.name], ["test", "rules", "berth-gateway.tests.yml"]]
)
def test_prometheus_reads_the_rules_and_alerts_fire_when_they_should(promtool: str, what: list[str]) -> None:
    found = subprocess.run([promtool, *what], cwd=FOLDER, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout + found.stderr
