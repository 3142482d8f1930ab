"""The portal's pages on a tenant with endpoints and a month of usage: server times, and paint in a browser."""

from __future__ import annotations

import datetime as dt
import re
import shutil
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

import httpx
from playwright.sync_api import Browser, sync_playwright

from bench.tools import berth
from bench.tools.figures import Figures, quantiles
from bench.tools.segments import REQUESTS_EACH, Payer, Shipment
from gateway.contract import USAGE_PATH
from portal.demo import accounts
from tests.scenarios.stack import Session, Stack, wait
from tests.scenarios.usage import accounted

TENANT: Final = accounts.TENANTS[0]
WAITING_ENDPOINTS = 15
DAYS: Final = 30
SEGMENTS_PER_DAY: Final = 200
WARM_UPS: Final = 2
REPEATS: Final = 20
SIGN_INS: Final = 5
LOADS: Final = 3
SETTLE_MS: Final = 600
CHROMIUM: Final = "chromium"
LARGEST_PAINT: Final = """(settle) => new Promise((resolve) => {
  let last = 0;
  new PerformanceObserver((list) => list.getEntries().forEach((entry) => { last = entry.startTime; }))
    .observe({type: "largest-contentful-paint", buffered: true});
  setTimeout(() => resolve(last), settle);
})"""


def measure() -> Figures:
    """Time each page by itself over loopback, then load some in headless Chromium with empty caches.

    ``largest_paint`` is the largest contentful paint (https://web.dev/articles/lcp), the median of three loads.
    """
    with berth.whole() as stack:
        owner, operator = stack.sign_in(TENANT.owner), stack.sign_in(accounts.OPERATOR)
        endpoint_id = _fill(stack, owner)
        home = f"/t/{TENANT.slug}"
        figures: Figures = {"endpoints": WAITING_ENDPOINTS + 1, "usage_days": DAYS}
        figures |= quantiles("sign_in", [_sign_in_ms(stack) for _ in range(SIGN_INS)], "ms")
        pages = {
            "endpoints": (owner, f"{home}/"),
            "endpoint": (owner, f"{home}/endpoints/{endpoint_id}"),
            "catalog": (owner, f"{home}/catalog"),
            "order": (owner, f"{home}/order"),
            "usage": (owner, f"{home}/usage"),
            "statement": (owner, f"{home}/statements"),
            "keys": (owner, f"{home}/keys"),
            "dashboard": (operator, "/console/"),
            "clusters": (operator, "/console/clusters"),
        }
        for name, (session, path) in pages.items():
            figures |= _timed(name, lambda session=session, path=path: session.client.get(path))
        figures |= _timed("quote", _quote(owner, f"{home}/order"))
        figures |= _paints(stack.portal, pages)
    return figures


def _fill(stack: Stack, owner: Session) -> str:
    """Make one serving endpoint with a month of usage and some that wait for GPUs; give the first one's id."""
    endpoint = owner.order("bench-served")
    for number in range(WAITING_ENDPOINTS):
        owner.order(f"bench-waiting-{number:02}", residency="region:us-east-1", replicas=1)
    owner.await_state(endpoint["id"], "ready")
    payer = Payer(owner.get("/tenant")["id"], endpoint["project_id"])
    headers = {"Authorization": f"Bearer {stack.secrets['BERTH_GATEWAY_TOKEN']}"}
    shipment = Shipment(payer, name="bench-pages")
    now = dt.datetime.now(dt.UTC)
    for body in shipment.days(DAYS, per_day=SEGMENTS_PER_DAY, endpoints=[endpoint["id"]], now=now):
        answer = httpx.post(f"{stack.portal}{USAGE_PATH}", content=body, headers=headers, timeout=30)
        answer.raise_for_status()
    this_month = min(now.day, DAYS) * SEGMENTS_PER_DAY * REQUESTS_EACH
    wait(
        lambda: accounted(owner, endpoint["id"]).requests >= this_month,
        60,
        lambda: f"{accounted(owner, endpoint['id'])} of {this_month} requests",
    )
    return str(endpoint["id"])


def _sign_in_ms(stack: Stack) -> float:
    begun = time.perf_counter()
    stack.sign_in(TENANT.owner).client.close()
    return (time.perf_counter() - begun) * 1000


def _quote(owner: Session, path: str) -> Callable[[], httpx.Response]:
    """Give the call by which the order form asks for its price."""
    page = owner.client.get(path).text
    token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', page)
    if token is None:
        raise RuntimeError("the order page has no form")
    typed = {
        "csrfmiddlewaretoken": token.group(1),
        "model": "berth-docs-ngram",
        "project": "default",
        "slo_class": "interactive",
        "residency": "zone:EU",
        "requests_per_second": "2",
        "input_tokens": "100",
        "output_tokens": "80",
        "name": "priced",
    }
    headers = {"HX-Request": "true", "Referer": str(owner.client.base_url)}
    return lambda: owner.client.post(f"{path}/quote", data=typed, headers=headers)


def _timed(name: str, call: Callable[[], httpx.Response]) -> Figures:
    spent_ms = []
    for number in range(WARM_UPS + REPEATS):
        begun = time.perf_counter()
        answer = call()
        if number >= WARM_UPS:
            spent_ms.append((time.perf_counter() - begun) * 1000)
        if answer.status_code != 200 or "/accounts/login" in str(answer.url):
            raise RuntimeError(f"{answer.request.method} {answer.url} answered {answer.status_code}")
    return {**quantiles(name, spent_ms, "ms"), f"{name}_kib": len(answer.content) / 1024}


def _paints(portal: str, pages: Mapping[str, tuple[Session, str]]) -> Figures:
    executable = shutil.which(CHROMIUM)
    if executable is None:
        return {"largest_paint": f"not measured: no {CHROMIUM}"}
    figures: Figures = {}
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        try:
            figures["sign_in_largest_paint_ms"] = _paint_ms(browser, f"{portal}/accounts/login/", [])
            for name, (session, path) in pages.items():
                cookies = [
                    {"name": cookie.name, "value": cookie.value, "url": portal}
                    for cookie in session.client.cookies.jar
                ]
                figures[f"{name}_largest_paint_ms"] = _paint_ms(browser, f"{portal}{path}", cookies)
        finally:
            browser.close()
    return figures


def _paint_ms(browser: Browser, url: str, cookies: list[Any]) -> float:
    found = []
    for _ in range(LOADS):
        with browser.new_context() as context:
            context.add_cookies(cookies)
            page = context.new_page()
            page.goto(url, wait_until="load")
            found.append(float(page.evaluate(LARGEST_PAINT, SETTLE_MS)))
    return sorted(found)[LOADS // 2]
