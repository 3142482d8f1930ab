"""The pages' content security policy has no exceptions, and charts keep to it."""

from __future__ import annotations

import contextlib
import datetime as dt
import http.server
import json
import re
import threading
from collections.abc import Iterator
from decimal import Decimal

import pytest
from django.contrib.staticfiles import finders
from django.template import engines

from portal.charts import (
    Point,
    Share,
    axis_of_days,
    daily_card,
    lines_card,
    ranked_card,
    utilization_card,
)
from tests.scenarios.browser import CHROMIUM, chromium

DAYS = [dt.date(2025, 3, day) for day in range(1, 11)]


def policy_of(answer) -> dict[str, str]:
    return dict(each.split(" ", 1) for each in answer["Content-Security-Policy"].split("; "))


@pytest.mark.django_db
@pytest.mark.parametrize(
    "path", ["/t/nord/usage", "/t/nord/", "/t/nord/keys", "/accounts/login/", "/docs/errors"]
)
def test_the_policy_of_pages_has_no_exceptions(world, path):
    answer = world.browser("owner" if path.startswith("/t/") else "nobody").get(path)
    assert answer.status_code == 200
    policy = policy_of(answer)
    assert policy["default-src"] == "'self'"
    assert (policy["base-uri"], policy["object-src"], policy["frame-ancestors"]) == ("'none'",) * 3
    assert "style-src" not in policy
    assert "script-src" not in policy
    assert "unsafe" not in answer["Content-Security-Policy"]


@pytest.mark.django_db
def test_only_the_playground_lets_the_browser_reach_another_host_than_ours(world):
    endpoint = world.order()
    browser = world.browser("owner")
    page = f"/t/nord/endpoints/{endpoint.id}"
    gateway = policy_of(browser.get(f"{page}/playground"))["connect-src"].split()
    usual = policy_of(browser.get(page))["connect-src"].split()
    assert set(usual) <= set(gateway)
    assert all(re.fullmatch(r"'self'|https?://[^/]+", each) for each in gateway)


@contextlib.contextmanager
def served(page: str, policy: str) -> Iterator[str]:
    """Serve a page under a policy, and our static files beside it."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = self.path.removeprefix("/static/")
            found = finders.find(path) if path != self.path else None
            content = page.encode() if self.path == "/" else b""
            if found:
                with open(found, "rb") as file:
                    content = file.read()
            kind = {"css": "text/css", "js": "text/javascript"}.get(path.rpartition(".")[2], "text/html")
            self.send_response(200)
            self.send_header("Content-Type", f"{kind}; charset=utf-8")
            self.send_header("Content-Security-Policy", policy)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()


@pytest.mark.browser
@pytest.mark.skipif(not CHROMIUM, reason="there is no Chromium: apt-get install chromium")
def test_charts_of_every_kind_are_drawn_without_a_violation(client):
    points = [Point(day, name, 3) for day in DAYS for name in ("a", "b")]
    shares = [Share(day, "de-a", 0.5) for day in DAYS]
    cards = [
        daily_card(id="bars", title="t", points=points, days=DAYS, unit="h"),
        lines_card(id="lines", title="t", lines={"p95": [100.0] * 10}, axis=axis_of_days(DAYS), unit="ms"),
        ranked_card(id="ranked", title="t", things=["x"], series={"n": [Decimal(3)]}, unit="EUR", thing="x"),
        utilization_card(id="heat", title="t", shares=shares, days=DAYS, things=["de-a"]),
    ]
    charts = "".join(
        f'<div class="chart" id="{card["id"]}" data-chart="of-{card["id"]}"></div>'
        f'<script type="application/json" id="of-{card["id"]}">{json.dumps(card["figure"])}</script>'
        for card in cards
    )
    style = "<link rel='stylesheet' href='/static/berth/css/berth.css'><link rel='icon' href='data:,'>"
    head = engines["django"].from_string("{% charts_head %}").render()
    page = f'<!doctype html><html lang="en"><head><title>t</title>{style}{head}</head><body>{charts}</body></html>'
    policy = client.get("/docs/errors")["Content-Security-Policy"]
    with served(page, policy) as url, chromium() as browser:
        tab = browser.new_page()
        complaints: list[str] = []
        tab.on("console", lambda message: complaints.append(message.text))
        tab.on("pageerror", lambda error: complaints.append(str(error)))
        tab.add_init_script(
            "window.violations = [];"
            "document.addEventListener('securitypolicyviolation', (e) => violations.push(e.violatedDirective))"
        )
        tab.goto(url)
        for card in cards:
            tab.wait_for_selector(f"#{card['id']} .main-svg", state="attached", timeout=90_000)
        tab.hover("#bars .draglayer", position={"x": 200, "y": 60})
        tab.wait_for_selector("#bars .hoverlayer > *", state="attached", timeout=90_000)
        # Plotly's own rules are in force: the drawing lies over its box, not below it.
        assert (
            tab.evaluate("getComputedStyle(document.querySelector('#bars .main-svg')).position") == "absolute"
        )
        assert tab.evaluate("document.getElementById('plotly.js-style-global').sheet.cssRules.length") > 10
        assert tab.evaluate("violations") == []
        assert complaints == []
