"""The gateway of an installation counts prompts as its engine does, and shares limits through its Redis."""

from __future__ import annotations

import uuid

import httpx
import openai
import pytest

from tests.scenarios.stack import wait

pytestmark = [pytest.mark.xdist_group("stack"), pytest.mark.timeout(400)]


def test_the_gateway_counts_as_the_engine_does(stack, owner):
    name = owner.await_state(owner.order(f"counts-{uuid.uuid4().hex[:6]}")["id"], "ready")["name"]
    client = openai.OpenAI(base_url=f"{stack.gateway}/v1", api_key=owner.inference_key(), max_retries=0)

    def context() -> int:
        try:
            return next(model.max_model_len for model in client.models.list() if model.id == name)
        except (openai.AuthenticationError, StopIteration):
            return 0

    def counted(prompt: str) -> int:
        return client.completions.create(model=name, prompt=prompt, max_tokens=1).usage.prompt_tokens

    wait(lambda: context() > 0, 15, lambda: "the gateway does not know the key")
    text = "How many GPUs does <|endoftext|> a revision need? "
    prompt = text * (10 * (context() - 20) // counted(text * 10))
    tokens = counted(prompt)
    assert tokens > context() // 2

    def told() -> str:
        with pytest.raises(openai.BadRequestError) as refused:
            client.completions.create(model=name, prompt=prompt, max_tokens=context() - tokens + 1)
        return refused.value.message

    # The engine's own words are others: it is asked until the tokenizer is here.
    wait(lambda: f"The prompt has {tokens} tokens" in told(), 60, told)


def test_limits_are_shared(stack):
    def how() -> str:
        return httpx.get(f"{stack.gateway}/readyz").json()["limits"]

    wait(lambda: how() == "shared", 30, how)
