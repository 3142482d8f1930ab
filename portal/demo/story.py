"""What the demo does, step by step, through the doors: sign-in page, REST API, gateway."""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import datetime as dt
import io
import re
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from typing import Any

import httpx
import openai
from openai.types import CompletionUsage

from portal.demo import accounts

ENDPOINT = "guide"
PROMPT = "What is an SLO class?"
PATIENCE_S = 90.0


class StepFailed(Exception):
    """A step of the demo failed; ``logs`` names the processes whose logs tell more."""

    def __init__(self, step: str, message: str, logs: tuple[str, ...]) -> None:
        super().__init__(message)
        self.step, self.message, self.logs = step, message, logs


@dataclasses.dataclass
class Told:
    """What happened, ready to be shown. Seconds are wall clock; money is a decimal string."""

    tenant: str = ""
    endpoint: str = ""
    model: str = ""
    slo_class: str = ""
    residency: str = ""
    plan: str = ""
    refusals: list[str] = dataclasses.field(default_factory=list)
    seconds_to_ready: float = 0.0
    answer: str = ""
    first_token_ms: float = 0.0
    requests: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    usage_cost: str = ""
    allocation_cost: str = ""
    statement_total: str = ""
    statement_lines: int = 0
    focus_rows: int = 0
    focus_cost: str = ""
    currency: str = ""
    portal_url: str = ""
    gateway_url: str = ""
    accounts: dict[str, str] = dataclasses.field(default_factory=dict)


def tell(environment: Mapping[str, str], *, say: Callable[[str], None]) -> Told:
    """Carry out the main job for the demo tenant.

    Raises:
        StepFailed: a step did not succeed; the rest is not tried.
    """
    portal = f"http://127.0.0.1:{environment['WEB_PORT']}"
    gateway = f"http://127.0.0.1:{environment['GATEWAY_PORT']}"
    tenant = accounts.TENANTS[0]
    told = Told(
        tenant=tenant.name,
        portal_url=portal,
        gateway_url=f"{gateway}/v1",
        accounts={
            "tenant owner": tenant.owner,
            "developer": tenant.developer,
            "second tenant": accounts.TENANTS[1].owner,
            "operator": accounts.OPERATOR,
            "finance": accounts.FINANCE,
            "auditor": accounts.AUDITOR,
        },
    )
    with httpx.Client(base_url=portal, timeout=30, follow_redirects=True) as client:
        with _step("Portal and gateway answer", say, "web", "gateway"):
            _wait(lambda: _answers(f"{portal}/healthz"), "the portal does not answer")
            _wait(lambda: _answers(f"{gateway}/readyz"), "the gateway has no snapshot")
        with _step(f"Sign in as {tenant.owner}", say, "web"):
            _sign_in(client, tenant.owner)
        with _step("Plan the order", say, "web"):
            order = _order()
            plan = _post(client, "/api/v1/endpoints:plan", order)
            _tell_plan(told, order, plan)
        with _step("Order the endpoint", say, "web"):
            endpoint = _find_or_order(client, order)
            told.endpoint = endpoint["name"]
        with _step("A real tritonserver comes up", say, "worker", "models", "beat"):
            endpoint = _await_ready(client, endpoint["id"])
            told.seconds_to_ready = _seconds(endpoint["created_at"], endpoint["ready_at"])
        with _step("Talk to it with the openai package", say, "gateway", "models"):
            key = _post(
                client, "/api/v1/keys", {"name": "demo", "scope": "inference", "project": "assistant"}
            )["key"]
            sent = _talk(told, gateway, key)
        with _step("Usage becomes money", say, "web", "worker", "gateway", "beat"):
            _await_usage(client, endpoint["id"], sent)
            _tell_money(client, told, endpoint["id"])
    return told


def _order() -> dict[str, Any]:
    return {
        "project": "assistant",
        "model": "berth-docs-ngram",
        "slo_class": "interactive",
        "residency": "zone:EU",
        "requests_per_second": 2,
        "input_tokens": 100,
        "output_tokens": 80,
    }


def _sign_in(client: httpx.Client, email: str) -> None:
    page = client.get("/accounts/login/")
    token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', page.text)
    if token is None:
        raise RuntimeError("the sign-in page has no form")
    answer = client.post(
        "/accounts/login/",
        data={"login": email, "password": accounts.PASSWORD, "csrfmiddlewaretoken": token.group(1)},
        headers={"Referer": str(client.base_url)},
    )
    if "/accounts/login" in str(answer.url):
        raise RuntimeError(f"{email} could not sign in")


def _tell_plan(told: Told, order: Mapping[str, Any], plan: Mapping[str, Any]) -> None:
    chosen = plan["configuration"]
    if chosen is None:
        raise RuntimeError(plan["message"])
    told.model, told.slo_class, told.residency = order["model"], order["slo_class"], order["residency"]
    told.plan = (
        f"{chosen['replicas']} x {chosen['tp'] * chosen['pp']} {chosen['gpu']} in {chosen['pool']}, "
        f"{chosen['region']}; {chosen['precision']}; {_short(chosen['price_per_hour'])} {plan['currency']} per hour"
    )
    told.refusals = [f"{', '.join(refusal['pools'])}: {refusal['message']}" for refusal in plan["headlines"]]


def _find_or_order(client: httpx.Client, order: Mapping[str, Any]) -> dict[str, Any]:
    found = _get(client, "/api/v1/endpoints", name=ENDPOINT)["results"]
    if found:
        if found[0]["state"] == "paused":
            _post(client, f"/api/v1/endpoints/{found[0]['id']}:resume", {})
        return found[0]
    return _post(
        client, "/api/v1/endpoints", {**order, "name": ENDPOINT}, **{"Idempotency-Key": str(uuid.uuid4())}
    )


def _await_ready(client: httpx.Client, endpoint_id: str) -> dict[str, Any]:
    seen: dict[str, Any] = {}

    def ready() -> bool:
        seen.update(_get(client, f"/api/v1/endpoints/{endpoint_id}"))
        if seen["state"] == "failed":
            raise RuntimeError(f"the endpoint failed: {seen['reason']}")
        return seen["state"] == "ready"

    _wait(ready, lambda: f"it is still {seen.get('state')}: {seen.get('reason')}", every_s=0.2)
    return seen


def _talk(told: Told, gateway: str, key: str) -> tuple[int, int, int]:
    """Ask three times, streamed and not; return the requests and tokens that must show up as usage."""
    client = openai.OpenAI(base_url=f"{gateway}/v1", api_key=key, timeout=60)
    first: list[CompletionUsage] = []
    _wait(lambda: _first_word(client, first), "the gateway does not serve the endpoint under the new key")
    begun = time.perf_counter()
    pieces, usage = [], None
    for chunk in client.chat.completions.create(
        model=ENDPOINT,
        messages=[{"role": "user", "content": PROMPT}],
        max_tokens=60,
        temperature=0,
        seed=7,
        stream=True,
        stream_options={"include_usage": True},
    ):
        if chunk.choices and chunk.choices[0].delta.content:
            if not pieces:
                told.first_token_ms = round((time.perf_counter() - begun) * 1000, 1)
            pieces.append(chunk.choices[0].delta.content)
        usage = chunk.usage or usage
    whole = client.completions.create(model=ENDPOINT, prompt="A revision is", max_tokens=24, temperature=0)
    if usage is None or whole.usage is None:
        raise RuntimeError("an answer came without its token counts")
    told.answer = "".join(pieces).strip()
    counted = [*first, usage, whole.usage]
    told.requests = len(counted)
    told.input_tokens = sum(each.prompt_tokens for each in counted)
    told.output_tokens = sum(each.completion_tokens for each in counted)
    return told.requests, told.input_tokens, told.output_tokens


def _first_word(client: openai.OpenAI, usage: list[CompletionUsage]) -> bool:
    """Ask for one token: the key may still be on its way, and an engine found from before may be starting anew."""
    try:
        answer = client.with_options(max_retries=0).completions.create(
            model=ENDPOINT, prompt="Berth", max_tokens=1
        )
    except (openai.AuthenticationError, openai.InternalServerError):
        return False
    usage += [answer.usage] if answer.usage else []
    return True


def _await_usage(client: httpx.Client, endpoint_id: str, sent: tuple[int, int, int]) -> None:
    """Wait until at least what was sent is accounted for; earlier runs of the demo may have added to it."""
    seen: dict[str, Any] = {}

    def accounted() -> bool:
        line = _cost_line(client, endpoint_id)
        seen.update(line)
        names = ("requests", "input_tokens", "output_tokens")
        return all(line.get(name, 0) >= wanted for name, wanted in zip(names, sent, strict=True))

    _wait(accounted, lambda: f"sent {sent}, accounted for {seen}")


def _tell_money(client: httpx.Client, told: Told, endpoint_id: str) -> None:
    cost = _cost_line(client, endpoint_id)
    statement = _get(client, "/api/v1/statements/current")
    told.currency = statement["currency"]
    told.usage_cost, told.allocation_cost = cost["usage"], cost["allocation"]
    told.statement_total, told.statement_lines = statement["total"], statement["line_count"]
    export = client.get(f"/api/v1/statements/{statement['id']}/focus.csv").raise_for_status()
    costs = [Decimal(row["BilledCost"]) for row in csv.DictReader(io.StringIO(export.text))]
    told.focus_rows, told.focus_cost = len(costs), str(sum(costs, Decimal(0)))


def _cost_line(client: httpx.Client, endpoint_id: str) -> dict[str, Any]:
    (month,) = _get(client, "/api/v1/costs", group_by="endpoint_id")["data"]
    return next((line["cost"] for line in month["results"] if line["endpoint_id"] == endpoint_id), {})


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=2).status_code == 200
    except httpx.HTTPError:
        return False


def _get(client: httpx.Client, path: str, **params: str) -> dict[str, Any]:
    return _read(client.get(path, params=params))


def _post(client: httpx.Client, path: str, body: Mapping[str, Any], **headers: str) -> dict[str, Any]:
    csrf = {"X-CSRFToken": client.cookies.get("csrftoken", ""), "Referer": str(client.base_url)}
    return _read(client.post(path, json=body, headers={**csrf, **headers}))


def _read(answer: httpx.Response) -> dict[str, Any]:
    if answer.is_error:
        raise RuntimeError(
            f"{answer.request.method} {answer.request.url.path}: {answer.status_code} {answer.text}"
        )
    return answer.json()


def _wait(done: Callable[[], bool], otherwise: str | Callable[[], str], *, every_s: float = 0.25) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not done():
        if time.monotonic() > deadline:
            raise RuntimeError(otherwise if isinstance(otherwise, str) else otherwise())
        time.sleep(every_s)


@contextlib.contextmanager
def _step(title: str, say: Callable[[str], None], *logs: str) -> Iterator[None]:
    say(title)
    try:
        yield
    except (RuntimeError, httpx.HTTPError, openai.OpenAIError, KeyError, StopIteration) as error:
        raise StepFailed(title, f"{type(error).__name__}: {error}", logs) from error


def _seconds(start: str, end: str) -> float:
    return (dt.datetime.fromisoformat(end) - dt.datetime.fromisoformat(start)).total_seconds()


def _short(amount: str) -> str:
    return f"{float(amount):.2f}"
