"""A gateway serves only what may pass its region; of the rest it says where, and keeps nothing."""

from __future__ import annotations

import json
import logging
from typing import Any

import openai
import pytest

from gateway.contract import Elsewhere
from tests.gateway.conftest import Bench, eventually
from tests.gateway.world import KEY, OTHER_PROJECT_KEY

SECRET = "xylophone-secret"
URLS = ("https://us.example/v1", "https://us2.example/v1")


def chat(model: str) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": SECRET}]}


async def publish(bench: Bench, *elsewhere: Elsewhere, **changes: object) -> None:
    bench.world.more["elsewhere"] = elsewhere
    bench.publish(**changes)
    await bench.settled()


def in_the_us(urls: tuple[str, ...] = URLS) -> Elsewhere:
    return Elsewhere(tenant_id="t1", project_id="p1", name="us-docs", residency="zone:US", urls=urls)


async def test_a_model_of_another_region_is_answered_with_the_right_urls(bench: Bench) -> None:
    await publish(bench, in_the_us())

    async with bench.post("/v1/chat/completions", chat("us-docs")) as response:
        body = await response.json()
    assert response.status == 421
    error = body["error"]
    assert (error["type"], error["code"], error["param"]) == (
        "invalid_request_error",
        "wrong_region",
        "model",
    )
    for said in ("us-docs", "zone:US", "eu-de-1", *URLS):
        assert said in error["message"]
    assert response.headers["x-should-retry"] == "false"
    assert response.headers["x-berth-region-urls"] == ", ".join(URLS)
    assert response.headers["link"] == ", ".join(f'<{url}>; rel="alternate"' for url in URLS)

    await eventually(lambda: bench.control.requests() == {"refused": 1})
    assert bench.triton.calls == []
    kept = b"".join(path.read_bytes() for path in bench.folder.rglob("*") if path.is_file())
    assert SECRET.encode() not in kept


async def test_a_shared_one_is_every_tenants(bench: Bench) -> None:
    theirs = {"tenant_id": "t9", "project_id": "p9", "residency": "zone:US", "urls": URLS}
    await publish(bench, Elsewhere(name="shared", shared=True, **theirs), Elsewhere(name="private", **theirs))
    for key in (KEY, OTHER_PROJECT_KEY):
        async with bench.post("/v1/chat/completions", chat("shared"), key=key) as response:
            assert response.status == 421
        async with bench.post("/v1/chat/completions", chat("private"), key=key) as response:
            assert response.status == 404


async def test_the_official_client_is_told_once(bench: Bench) -> None:
    await publish(bench, in_the_us())
    client = bench.openai().with_options(max_retries=2)
    with pytest.raises(openai.APIStatusError) as caught:
        await client.chat.completions.create(**chat("us-docs"))
    assert (caught.value.status_code, caught.value.code) == (421, "wrong_region")
    await eventually(lambda: bench.control.requests() == {"refused": 1})


async def test_it_is_not_among_the_models_and_another_project_does_not_learn_of_it(bench: Bench) -> None:
    await publish(bench, in_the_us())
    headers = {"authorization": f"Bearer {KEY}"}
    async with bench.http.get(f"{bench.url}/v1/models", headers=headers) as response:
        assert [model["id"] for model in (await response.json())["data"]] == ["docs"]
    async with bench.http.get(f"{bench.url}/v1/models/us-docs", headers=headers) as response:
        assert response.status == 421
    async with bench.post("/v1/chat/completions", chat("us-docs"), key=OTHER_PROJECT_KEY) as response:
        assert response.status == 404
        assert "zone:US" not in await response.text()


async def test_urls_that_are_none_go_nowhere(bench: Bench) -> None:
    await publish(
        bench, in_the_us(("https://us.example/v1\r\nset-cookie: a=b", "https://a b", "https://ü.example"))
    )
    async with bench.post("/v1/chat/completions", chat("us-docs")) as response:
        assert response.status == 421
        assert "x-berth-region-urls" not in response.headers
        assert "no public address" not in (await response.json())["error"]["message"]
        assert "public address" in (await response.json())["error"]["message"]


@pytest.mark.parametrize("residency", ["region:eu-fi-1", "zone:US", "zone:", "nonsense", ""])
async def test_what_is_in_the_snapshot_by_mistake_is_not_served(
    bench: Bench, residency: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR):
        await publish(bench, residency=residency)

    async with bench.post("/v1/chat/completions", chat("docs")) as response:
        assert response.status == 421
    async with bench.http.get(
        f"{bench.url}/v1/models", headers={"authorization": f"Bearer {KEY}"}
    ) as response:
        assert json.loads(await response.read())["data"] == []
    assert bench.triton.calls == []
    assert "endpoint e1 is not served" in caplog.text


@pytest.mark.parametrize("residency", ["region:eu-de-1", "zone:EU", "global"])
async def test_what_may_pass_the_region_is_served(bench: Bench, residency: str) -> None:
    await publish(bench, residency=residency)
    assert await bench.http_status("/v1/chat/completions", chat("docs")) == 200


async def test_a_gateway_that_knows_none_of_its_zones_serves_none_of_them(bench: Bench) -> None:
    bench.world.more["zones"] = ()
    await publish(bench)
    assert await bench.http_status("/v1/chat/completions", chat("docs")) == 421
