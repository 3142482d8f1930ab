"""Order, call, pay, delete: through the doors, on real parts."""

from __future__ import annotations

import uuid
from decimal import Decimal

import httpx
import openai
import pytest

from tests.scenarios.stack import wait
from tests.scenarios.usage import Sum, accounted

pytestmark = [pytest.mark.xdist_group("stack"), pytest.mark.timeout(400)]


@pytest.fixture(scope="module")
def endpoint(owner):
    """An endpoint that was ordered and became ready."""
    ordered = owner.order(f"main-{uuid.uuid4().hex[:6]}")
    return owner.await_state(ordered["id"], "ready")


@pytest.fixture(scope="module")
def client(stack, owner, endpoint):
    """The official client with a fresh inference key that the gateway knows."""
    client = openai.OpenAI(
        base_url=f"{stack.gateway}/v1", api_key=owner.inference_key(), timeout=60, max_retries=0
    )

    def known() -> bool:
        try:
            return any(model.id == endpoint["name"] for model in client.models.list())
        except openai.AuthenticationError:
            return False

    wait(known, 15, lambda: "the gateway does not know the key")
    return client


def test_order_to_answer_to_statement_to_release(stack, owner, stranger, endpoint, client):
    streamed, usage = [], None
    for chunk in client.chat.completions.create(
        model=endpoint["name"],
        messages=[{"role": "user", "content": "What is a revision?"}],
        max_tokens=40,
        seed=3,
        stream=True,
        stream_options={"include_usage": True},
    ):
        streamed += [chunk.choices[0].delta.content or ""] if chunk.choices else []
        usage = chunk.usage or usage
    assert len([piece for piece in streamed if piece]) > 3, "it did not stream"
    sent = Sum.of_answer(usage)

    whole = client.chat.completions.create(
        model=endpoint["name"],
        messages=[{"role": "user", "content": "What is a revision?"}],
        max_tokens=40,
        seed=3,
    )
    assert whole.choices[0].message.content == "".join(streamed)
    assert whole.usage.completion_tokens == usage.completion_tokens
    sent += Sum.of_answer(whole.usage)

    again = client.completions.create(model=endpoint["name"], prompt="GPUs are", max_tokens=10, temperature=0)
    assert again.usage.completion_tokens <= 10
    sent += Sum.of_answer(again.usage)

    wait(
        lambda: accounted(owner, endpoint["id"]) == sent,
        30,
        lambda: f"{accounted(owner, endpoint['id'])} != {sent}",
    )

    statement = owner.get("/statements/current")
    all_lines = owner.get(f"/statements/{statement['id']}/lines", page_size=200)["results"]
    lines = [line for line in all_lines if line["endpoint_id"] == endpoint["id"]]
    by_sku = {line["sku"].split(":")[0]: line for line in lines}
    assert Decimal(by_sku["output-tokens"]["quantity"]) in (
        sent.output_tokens,
        Decimal(sent.output_tokens) / 10**6,
    )
    charged = sum(Decimal(line["amount"]) for line in all_lines if line["charged"])
    assert charged == Decimal(statement["total"])

    assert stranger.client.get(f"/api/v1/endpoints/{endpoint['id']}").status_code == 404

    owner.delete(f"/endpoints/{endpoint['id']}")
    wait(
        lambda: (
            owner.client.get(f"/api/v1/endpoints/{endpoint['id']}").status_code == 404
            or owner.endpoint(endpoint["id"])["state"] == "deleted"
        ),
        60,
        lambda: str(owner.endpoint(endpoint["id"])),
    )
    allocations = [
        each for each in owner.get("/allocations")["results"] if each["endpoint_id"] == endpoint["id"]
    ]
    assert allocations
    assert all(each["ended_at"] for each in allocations)
    with pytest.raises(openai.NotFoundError):
        wait(lambda: not client.completions.create(model=endpoint["name"], prompt="x", max_tokens=1), 15, str)


def test_bad_keys_are_refused_with_their_reason(stack, owner, stranger):
    def refusal(key: str) -> dict:
        answer = httpx.post(
            f"{stack.gateway}/v1/completions",
            json={"model": "any", "prompt": "x"},
            headers={"Authorization": f"Bearer {key}"},
        )
        return {"status": answer.status_code, **answer.json()["error"]}

    assert refusal("sk-wrong")["status"] == 401
    typo = owner.inference_key()[:-1] + "!"
    assert refusal(typo)["status"] == 401


def test_a_strangers_key_cannot_see_the_endpoint(stack, owner, stranger):
    ordered = owner.order(f"mine-{uuid.uuid4().hex[:6]}")
    owner.await_state(ordered["id"], "ready")
    client = openai.OpenAI(base_url=f"{stack.gateway}/v1", api_key=stranger.inference_key(), max_retries=0)

    def known() -> bool:
        try:
            client.models.list()
        except openai.AuthenticationError:
            return False
        return True

    wait(known, 15, lambda: "the gateway does not know the key")
    with pytest.raises(openai.NotFoundError) as missing:
        client.completions.create(model="no-such-endpoint", prompt="x")
    with pytest.raises(openai.NotFoundError) as theirs:
        client.completions.create(model=ordered["name"], prompt="x")
    assert theirs.value.body["code"] == missing.value.body["code"]
    owner.delete(f"/endpoints/{ordered['id']}")
