"""A tenant and an operator walk through their screens in a real browser."""

from __future__ import annotations

import re
import uuid

import pytest
from playwright.sync_api import expect

from portal.demo import accounts
from tests.scenarios import browser
from tests.scenarios.browser import Visitor

pytestmark = [
    pytest.mark.browser,
    pytest.mark.xdist_group("stack"),
    pytest.mark.timeout(600),
    pytest.mark.skipif(
        not browser.CHROMIUM, reason="NO BROWSER: install Debian's package chromium to run this test"
    ),
]

READY_MS = 90_000


@pytest.fixture
def visitor(stack):
    """Somebody at a fresh browser, whose page must not complain."""
    with browser.chromium() as chromium:
        context = chromium.new_context()
        context.set_default_timeout(20_000)
        visitor = Visitor(context, stack.portal)
        yield visitor
        context.close()
    assert visitor.complaints == []


@pytest.fixture
def budgets_removed(owner):
    """A budget holds up what has no price per token, and other scenarios order such endpoints."""
    yield
    for budget in owner.get("/budgets")["results"]:
        owner.delete(f"/budgets/{budget['id']}")


@pytest.mark.usefixtures("budgets_removed")
def test_a_tenant_orders_calls_and_sees_the_cost(visitor):
    page, name = visitor.page, f"walk-{uuid.uuid4().hex[:6]}"
    visitor.page.goto(f"{visitor.portal}/accounts/login/")
    visitor.look("sign-in")
    visitor.sign_in(accounts.TENANTS[0].owner)
    tenant = f"/t/{accounts.TENANTS[0].slug}"

    visitor.open(f"{tenant}/catalog")
    visitor.look("catalog")
    visitor.open(f"{tenant}/order?model=berth-docs-ngram")
    page.get_by_label("Interactive").check()
    page.get_by_label("EU", exact=False).first.check()
    page.locator("[name=profile][value=batch]").check()
    expect(page.get_by_label("Input tokens")).to_have_value("824")
    page.get_by_label("Input tokens").fill("100")
    expect(page.get_by_label("My own numbers")).to_be_checked()
    # 0.45 for each of two L4, the class keeps a spare one, times 1.25 for the class
    expect(page.locator("#quote")).to_contain_text("1.125")
    with page.expect_response("**/order/quote*"):  # leaving would break it off
        page.get_by_label("Name").fill(name)
    visitor.look("order")
    page.get_by_role("button", name="Place order").click()

    page.wait_for_url(re.compile(r"/endpoints/[0-9a-f-]{36}"))
    expect(page.locator("main .badge").first).to_have_text("Ready", timeout=READY_MS)
    visitor.look("endpoint")

    page.goto(page.url.split("?")[0] + "/playground")
    page.locator("#playground-prompt").fill("What is an SLO class?")
    page.locator("#playground-temperature").fill("0")
    page.get_by_role("button", name="Send").click()
    expect(page.locator("[data-log] [data-meta]").last).to_contain_text("tokens", timeout=30_000)
    visitor.look("playground")
    # The gateway answers 401 until the new key has reached it; the page tries again by itself.
    visitor.complaints = [each for each in visitor.complaints if "401" not in each]

    visitor.open(f"{tenant}/keys/new")
    page.get_by_label("Name").fill(f"browser {name}")
    visitor.look("key-new")
    page.get_by_role("button", name="Make the key").click()
    expect(page.locator("#secret")).to_contain_text("berth_")
    visitor.look("key-made")

    for path, shot in [
        ("/", "endpoints"),
        ("/keys", "keys"),
        ("/usage", "usage"),
        ("/statements", "statements"),
        ("/members", "members"),
        ("/projects", "projects"),
        ("/settings", "settings"),
        ("/settings/webhooks", "webhooks"),
        ("/settings/webhooks/new", "webhook-new"),
        ("/routes", "routes"),
        ("/budgets", "budgets"),
        ("/commitments", "commitments"),
    ]:
        visitor.open(f"{tenant}{path}")
        visitor.look(shot)

    visitor.open(f"{tenant}/statements")
    page.locator("tbody a").first.click()
    expect(page.locator("main")).to_contain_text("What the total is made of")
    visitor.look("statement-month")

    visitor.open(f"{tenant}/budgets/new")
    page.get_by_label("Name").fill(f"budget {name}")
    page.get_by_label("Limit").fill("25")
    visitor.look("budget-new")
    page.get_by_role("button", name="Make the budget").click()
    expect(page.locator("main")).to_contain_text("of 25.00 EUR")
    visitor.look("budget")

    visitor.open(f"{tenant}/routes/new")
    page.get_by_label("Name").fill(f"route-{name}")
    page.get_by_label("Prompt of at most").fill("200")
    page.get_by_label("Endpoint", exact=True).select_option(label=name)
    page.get_by_role("button", name="Add a rule").click()
    page.get_by_label("Endpoint", exact=True).last.select_option(label=name)
    visitor.look("route-new")
    page.get_by_role("button", name="Save").last.click()
    expect(page.locator("main")).to_contain_text("the prompt has at most 200 tokens")
    visitor.look("route")

    visitor.open(f"{tenant}/")
    page.get_by_role("link", name=name, exact=True).first.click()
    page.get_by_role("link", name="Change limits and fallback").click()
    page.get_by_label("Requests a minute").fill("600")
    visitor.look("endpoint-limits")
    page.get_by_role("button", name="Save").click()
    expect(page.locator("main")).to_contain_text("600 requests a minute")
    page.get_by_role("link", name="Delete").click()
    page.get_by_label("Type").fill(name)
    visitor.look("delete")
    page.get_by_role("button", name="Delete").click()
    expect(page.locator("main")).to_contain_text(f"{name} is being deleted")


def test_a_tenant_changes_what_serves(visitor, owner):
    page = visitor.page
    endpoint = owner.order(f"walk-{uuid.uuid4().hex[:6]}", slo_class="batch", context_tokens=512)
    owner.await_state(endpoint["id"], "ready")
    visitor.sign_in(accounts.TENANTS[0].owner)
    at = f"/t/{accounts.TENANTS[0].slug}/endpoints/{endpoint['id']}"
    for tab in ("rollouts", "evaluations"):
        visitor.open(f"{at}/{tab}")
        visitor.look(f"empty-{tab}")

    visitor.open(f"{at}/replicas")
    visitor.look("empty-replicas")
    page.get_by_label("Never more than").fill("3")
    page.get_by_role("checkbox").first.check()
    page.get_by_role("button", name="Save").click()
    expect(page.locator("main")).to_contain_text("follow its load now")
    page.get_by_role("link", name="Add a schedule").click()
    page.get_by_label("Name").fill("Office hours")
    visitor.look("schedule-new")
    page.get_by_role("button", name="Add the schedule").click()
    expect(page.locator("tbody")).to_contain_text("Office hours")
    visitor.look("replicas")

    visitor.open(f"{at}/evaluation-sets/new")
    page.get_by_label("Name").fill("Says it")
    page.get_by_role("textbox", name="Prompts with checks").fill(
        "- prompt: Berth is\n  max_tokens: 8\n  checks:\n    - contains: never said by any engine\n"
    )
    visitor.look("evaluation-set-new")
    page.get_by_role("button", name="Make the set").click()
    expect(page.locator("main")).to_contain_text("Says it")

    visitor.open(f"{at}/change")
    page.get_by_label("Longest request with its answer").fill("1024")
    page.get_by_role("button", name="See what comes of it").click()
    expect(page.locator("main")).to_contain_text("What would come of it")
    visitor.look("change")
    page.get_by_role("button", name="Change it").click()
    owner.await_state(endpoint["id"], "update-failed", READY_MS / 1000)
    for tab in ("", "/rollouts", "/evaluations"):
        visitor.open(f"{at}{tab}")
        expect(page.locator("main")).to_contain_text("Says it")
        visitor.look(f"failed{tab.replace('/', '-')}")
    page.get_by_role("link", name="Revision 2").first.click()
    visitor.look("evaluation")
    owner.delete(f"/endpoints/{endpoint['id']}")


def test_the_documentation_is_served_with_its_runbooks(visitor):
    for path in ("runbooks", "runbooks/gpu-fault", "rollouts", "configuration"):
        visitor.open(f"/docs/{path}")
        visitor.look(f"docs-{path.replace('/', '-')}")


def test_an_empty_tenant_is_told_what_to_do_next(visitor):
    visitor.sign_in(accounts.TENANTS[1].owner)
    tenant = f"/t/{accounts.TENANTS[1].slug}"
    for path, shot in [
        ("/", "endpoints"),
        ("/usage", "usage"),
        ("/statements", "statements"),
        ("/budgets", "budgets"),
        ("/commitments", "commitments"),
        ("/settings/webhooks", "webhooks"),
    ]:
        visitor.open(f"{tenant}{path}")
        visitor.look(f"empty-{shot}")


def test_an_operator_walks_the_console(visitor):
    visitor.sign_in(accounts.OPERATOR)
    for path, shot in [
        ("/console/", "dashboard"),
        ("/console/clusters", "clusters"),
        ("/console/clusters/frankfurt-a", "cluster"),
        ("/console/endpoints", "endpoints"),
        ("/console/advisor", "advisor"),
        ("/console/advisor/policy", "advisor-policy"),
        ("/console/catalog", "catalog"),
        ("/console/slo-classes", "slo-classes"),
        ("/console/slo-classes/batch", "slo-class"),
        ("/console/prices", "prices"),
        ("/console/prices/books", "price-books"),
        ("/console/prices/books/new", "price-book-new"),
        ("/console/prices/rerate", "price-rerate"),
        ("/console/asset-rates", "asset-rates"),
        ("/console/asset-rates/add", "asset-rate-add"),
        ("/console/reports/utilization", "report-utilization"),
        ("/console/reports/utilization?by=tenant&range=7d", "report-utilization-tenants"),
        ("/console/reports/throughput", "report-throughput"),
        ("/console/reports/costs", "report-costs"),
        ("/console/reports/savings", "report-savings"),
        ("/console/reports/fragmentation", "report-fragmentation"),
        ("/console/reconciliation", "reconciliation"),
        ("/console/tenants", "tenants"),
        ("/console/statements", "statements"),
        (f"/console/tenants/{accounts.TENANTS[0].slug}", "tenant"),
        (f"/console/tenants/{accounts.TENANTS[0].slug}/limits", "tenant-limits"),
        (f"/console/tenants/{accounts.TENANTS[0].slug}/commitments", "tenant-commitments"),
        (f"/console/tenants/{accounts.TENANTS[0].slug}/commitments/add", "tenant-commitment-add"),
        (f"/console/tenants/{accounts.TENANTS[0].slug}/credits/grant", "tenant-credit-grant"),
        ("/console/gateways", "gateways"),
        (f"/console/gateways/{accounts.GATEWAY}", "gateway"),
    ]:
        visitor.open(path)
        visitor.look(f"console-{shot}")
    visitor.open("/console/clusters/ashburn-a/cordon")
    visitor.page.get_by_label("Reason").fill("a new driver is being installed")
    visitor.page.get_by_role("button", name=re.compile("Cordon")).click()
    expect(visitor.page.locator("main")).to_contain_text("a new driver is being installed")
    visitor.page.get_by_role("button", name=re.compile("back into use|Uncordon", re.IGNORECASE)).click()
    expect(visitor.page.locator("main")).not_to_contain_text("a new driver is being installed")


def test_a_strangers_page_reads_as_missing(visitor):
    visitor.sign_in(accounts.TENANTS[1].owner)
    answer = visitor.page.goto(f"{visitor.portal}/t/{accounts.TENANTS[0].slug}/")
    assert answer is not None
    assert answer.status == 404
    visitor.complaints.clear()  # the browser reports the 404 itself
