"""Every alert, condition and trouble leads to a runbook, every runbook is led to, and all that it names is there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest
import yaml
from django.core.management import get_commands, load_command_class
from django.urls import resolve

from clusters.endpoints import runbooks
from clusters.models import Condition
from clusters.specs import Trouble
from portal.pages.docs import pages, rendered, target

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "docs" / "runbooks"
RULES = ROOT / "deploy" / "monitoring" / "berth-gateway.rules.yml"
HEADINGS = [
    "What you see",
    "Why",
    "What Berth does by itself",
    "What to do",
    "How to know it is over",
    "How to practise it",
]
#: The issue's own list.
ASKED_FOR = {
    "out-of-memory", "timeout-storm", "model-load-failure", "gpu-fault", "region-lost", "control-plane-lost",
    "broker-lost", "database-failover",
}  # fmt: skip
PAGES = {path.stem: path for path in FOLDER.glob("*.md") if path.stem != "README"}
RUNBOOK_URL = re.compile(r"^\{\{ \$externalLabels\.berth_portal }}/docs/runbooks/([a-z-]+)$")


class Links(HTMLParser):
    """Links and anchors of a rendered page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.hrefs: list[str] = []
        self.ids: list[str] = []
        self.loose = 0
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        if tag == "a" and "href" in found:
            self.hrefs.append(str(found["href"]))
        elif tag == "a":
            self.loose += 1
        if found.get("id"):
            self.ids.append(str(found["id"]))


def read(page: str) -> Links:
    return Links(rendered(pages()[page])[1])


def alerts() -> Iterator[tuple[str, str]]:
    for group in yaml.safe_load(RULES.read_text())["groups"]:
        for rule in group["rules"]:
            if "alert" in rule:
                yield rule["alert"], rule["annotations"]["runbook_url"]


def led_to_by_alerts() -> dict[str, str]:
    found = {}
    for name, url in alerts():
        led = RUNBOOK_URL.fullmatch(url)
        assert led, f"{name}: {url}"
        found[name] = led[1]
    return found


def led_to_by_the_console() -> set[str]:
    source = (ROOT / "portal" / "pages" / "console" / "attention.py").read_text()
    return set(re.findall(r'runbook\("([a-z-]+)"\)', source))


def bad_reasons() -> set[str]:
    """Read from the source which reasons conditions have that are not as they should be."""
    found = set()
    for path in (ROOT / "clusters" / "endpoints").rglob("*.py"):
        source = path.read_text()
        found |= set(re.findall(r'Condition\.Status\.(?:FALSE|UNKNOWN),\s*"([A-Za-z]+)"', source))
        found |= set(re.findall(r'Condition\.Status\.TRUE, "(OutsideTheOrder)"', source))
    for module, names in {
        "clusters/endpoints/placement.py": ("NotPlaceable", "NoCapacity"),
        "clusters/endpoints/approvals/asking.py": ("Pending",),
        "clusters/endpoints/states.py": ("BudgetSpent", "PolicyRefused"),
        "clusters/endpoints/autoscaling/carrying.py": ("NoCapacity", "OverQuota", "NeedsApproval"),
        "clusters/endpoints/reconcile/observe.py": ("Starting",),
        "clusters/endpoints/reconcile/route.py": ("Propagating",),
    }.items():
        source = (ROOT / module).read_text()
        assert all(f'"{name}"' in source for name in names), module
        found |= set(names)
    # A load that differs is told by "true"; false is well. "NotYet" stands for a condition that nobody wrote yet.
    return (found | {str(each) for each in Trouble if each}) - {"AsOrdered", "Kept", "PlannedAnew", "NotYet"}


def test_every_page_that_was_asked_for_is_there_and_every_page_has_the_same_parts() -> None:
    assert PAGES.keys() >= ASKED_FOR
    for name, path in PAGES.items():
        assert re.findall(r"^## (.+)$", path.read_text(), re.MULTILINE) == HEADINGS, name


def test_every_alert_leads_to_a_page_that_names_it() -> None:
    led = led_to_by_alerts()
    assert led
    for alert, page in led.items():
        assert f"`{alert}`" in PAGES[page].read_text(), f"{page} does not name {alert}"


def test_every_condition_and_trouble_leads_to_a_page_that_names_its_reason() -> None:
    mapped = {reason for _, reason in runbooks.OF_CONDITION}
    assert bad_reasons() == mapped | {reason for _, reason in runbooks.NO_TROUBLE}
    assert {kind for kind, _ in [*runbooks.OF_CONDITION, *runbooks.NO_TROUBLE]} == set(Condition.Type)
    assert runbooks.OF_TROUBLE.keys() == set(Trouble) - {Trouble.NONE}
    assert not runbooks.OF_CONDITION.keys() & runbooks.NO_TROUBLE.keys()
    for (kind, reason), page in runbooks.OF_CONDITION.items():
        text = PAGES[page].read_text()
        assert f"`{kind}`" in text, f"{page} does not name {kind}"
        assert f"`{reason}`" in text, f"{page} does not name {reason}"


def test_every_runbook_is_led_to() -> None:
    index = {href.removeprefix("/docs/runbooks/") for href in read("runbooks").hrefs}
    assert PAGES.keys() <= index
    led = {*led_to_by_alerts().values(), *runbooks.OF_CONDITION.values(), *led_to_by_the_console()}
    led |= set(runbooks.OF_STATE.values())
    others = {
        href.removeprefix("/docs/runbooks/").partition("#")[0]
        for name in PAGES
        for href in read(f"runbooks/{name}").hrefs
    }
    # A leak has no alert and no condition: it is found by who looks.
    assert PAGES.keys() - led - others == {"leaks"}


@pytest.mark.parametrize("page", sorted(pages()))
def test_links_and_anchors_within_the_documentation_lead_somewhere(page: str) -> None:
    path = pages()[page]
    for href in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"```.*?```", "", path.read_text(), flags=re.DOTALL)):
        if "://" in href:
            continue
        led = target(href, path)
        if led is None:
            assert (path.parent / href.partition("#")[0]).exists(), f"{page}: {href}"
            continue
        if led[0] not in pages():
            assert (path.parent / href.partition("#")[0]).exists(), f"{page}: {href}"
        elif led[1]:
            assert led[1] in read(led[0]).ids, f"{page}: {href}"
    links = read(page)
    assert len(links.ids) == len(set(links.ids)), "two headings with one anchor"


def test_what_a_runbook_names_is_there() -> None:
    commands = get_commands()
    fault = load_command_class("clusters", "fault")
    parser = fault.create_parser("manage.py", "fault")
    practised = set()
    for name, path in {**PAGES, "README": FOLDER / "README.md"}.items():
        # A command may be broken over two lines.
        spans = [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", path.read_text())]
        for span in spans:
            if span.startswith("/console/"):
                resolve(
                    re.sub(r"\b(NAME|MODEL|SLUG)\b", "some", span).replace(
                        "ID", "0" * 8 + "-0000" * 3 + "-" + "0" * 12
                    )
                )
            if span.startswith("manage.py "):
                words = span.split()
                assert words[1] in commands, f"{name}: {span}"
                if words[1] == "fault" and words[2] != "--help":
                    options = parser.parse_args(words[2:])
                    practised.add(options.what)
    assert practised >= {"kill", "pause", "cut", "slow", "fill-disk", "gpu-fault", "region-lost"}


def test_metrics_that_runbooks_name_are_those_of_alerts_and_dashboard_or_are_documented() -> None:
    known = RULES.read_text() + (ROOT / "deploy/monitoring/berth-gateway.dashboard.json").read_text()
    known += (ROOT / "docs" / "gateway.md").read_text()
    for name, path in PAGES.items():
        for metric in re.findall(r"\bberth(?:_gateway_|:gateway_)[a-z0-9_:]+", path.read_text()):
            assert metric in known, f"{name}: {metric}"
