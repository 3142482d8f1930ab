"""Bad input is refused in OpenAI's shape, names what is wrong, and is metered once."""

from __future__ import annotations

from typing import Any

import openai
import pytest

from tests.gateway.conftest import Bench
from tests.gateway.world import EXPIRED_KEY, KEY, OTHER_PROJECT_KEY, OTHER_TENANT_KEY, UNKNOWN_KEY

MESSAGES = [{"role": "user", "content": "hi"}]
CHAT: dict[str, Any] = {"model": "docs", "messages": MESSAGES}
TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]
DEEP: dict[str, Any] = {}
for _ in range(70):
    DEEP = {"properties": DEEP}
COMPLETION: dict[str, Any] = {"model": "docs", "prompt": "hi"}

# Body changes; the param and code of the refusal; words of its message.
CHAT_TABLE = [
    ({"colour": 1}, "colour", "unknown_parameter", "Unknown field: colour"),
    ({"top_k": 3}, "top_k", "unknown_parameter", "top_k"),
    ({"stream_options": {"x": 1}, "stream": True}, "stream_options.x", "unknown_parameter", "x"),
    ({"temperature": "hot"}, "temperature", "invalid_type", "expected float"),
    ({"temperature": 2.5}, "temperature", None, "from 0 to 2"),
    ({"top_p": -0.1}, "top_p", None, "from 0 to 1"),
    ({"n": 9}, "n", None, "from 1 to 8"),
    ({"n": 0}, "n", None, "from 1 to 8"),
    ({"tools": TOOLS}, "tools", "unsupported_parameter", "tools is not supported by Triton (generate)"),
    ({"tools": [{"type": "function"}]}, "tools[0].function", "missing_required_parameter", "tools[0].function"),
    ({"tools": [{"type": "web_search"}]}, "tools[0].type", "invalid_type", "web_search"),
    ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools[0].function.name", None, "1 to 64"),
    ({"tools": TOOLS * 129}, "tools", None, "at most 128"),
    ({"tools": TOOLS, "tool_choice": {"type": "function", "function": {"name": "other"}}}, "tool_choice", None,
     "not in tools"),
    ({"tool_choice": "required"}, "tool_choice", None, "no tools"),
    ({"tool_choice": "any"}, "tool_choice", "invalid_type", "any"),
    ({"tools": [{"type": "function", "function": {"name": "f", "parameters": DEEP}}]},
     "tools[0].function.parameters", None, "64 levels"),
    ({"response_format": {"type": "json_object"}}, "response_format", "unsupported_parameter",
     "response_format is not supported by Triton (generate), the engine of endpoint docs"),
    ({"response_format": {"type": "json_schema"}}, "response_format.json_schema", "missing_required_parameter",
     "json_schema"),
    ({"response_format": "json"}, "response_format", "invalid_type", "expected object"),
    ({"logprobs": True}, "logprobs", "unsupported_parameter", "logprobs is not supported by Triton (generate)"),
    ({"top_logprobs": 2}, "top_logprobs", None, "logprobs: true"),
    ({"logprobs": True, "top_logprobs": 21}, "top_logprobs", None, "from 0 to 20"),
    ({"logit_bias": {"7": 1}}, "logit_bias", "unsupported_parameter", "by Triton (generate)"),
    ({"logit_bias": {"word": 1}}, "logit_bias", None, "ids of tokens"),
    ({"logit_bias": {"7": 101}}, "logit_bias", None, "from -100 to 100"),
    ({"stop": "x" * 257}, "stop", None, "1 to 256 characters"),
    ({"metadata": 3}, "metadata", "invalid_type", "expected object"),
    ({"lora_path": "/x"}, "lora_path", "unknown_parameter", "lora_path"),
    ({"cache_salt": "x"}, "cache_salt", "unknown_parameter", "cache_salt"),
    ({"priority": 1}, "priority", "unknown_parameter", "priority"),
    ({"functions": [{"name": "f"}]}, "functions", "unsupported_parameter", "functions"),
    ({"store": True}, "store", "unsupported_parameter", "store"),
    ({"max_tokens": 33}, "max_tokens", "max_tokens_too_large",
     "max_tokens is 33 but endpoint docs allows at most 32 (context 64)"),
    ({"max_completion_tokens": 99}, "max_completion_tokens", "max_tokens_too_large", "is 99"),
    ({"max_tokens": 0}, "max_tokens", None, "at least 1"),
    ({"max_tokens": 1, "max_completion_tokens": 2}, "max_tokens", None, "contradict"),
    ({"stream_options": {"include_usage": True}}, "stream_options", None, "stream: true"),
    ({"stop": ["a", "b", "c", "d", "e"]}, "stop", None, "at most 4"),
    ({"stop": [1]}, "stop[0]", "invalid_type", "expected str"),
    ({"seed": 2**65}, "seed", None, "64 bits"),
    ({"messages": []}, "messages", None, "at least one"),
    ({"messages": MESSAGES * 4097}, "messages", None, "at most 4096"),
    ({"messages": [{"role": "robot", "content": "x"}]}, "messages[0].role", "invalid_type", "robot"),
    ({"messages": [{"role": "user"}]}, "messages[0].content", None, "string"),
    ({"messages": [{"role": "tool", "content": "x", "tool_call_id": "1"}]}, "messages[0]",
     "unsupported_parameter", "messages[0] is not supported by Triton"),
    ({"messages": [{"role": "assistant", "function_call": {"name": "f"}}]}, "messages[0]",
     "unsupported_parameter", "tool_calls"),
    ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]},
     "messages[0].content[0].type", "unsupported_value", "image_url"),
    ({"messages": "hi"}, "messages", "invalid_type", "expected array"),
    ({"model": ""}, "model", None, "model"),
]  # fmt: skip
COMPLETION_TABLE = [
    ({"prompt": ["a", "b"]}, "prompt", "unsupported_value", "one string"),
    ({"prompt": [1, 2]}, "prompt", "unsupported_value", "token ids"),
    ({"echo": True}, "echo", "unsupported_parameter", "echo"),
    ({"prompt": ""}, "prompt", None, "empty"),
    ({"suffix": "x"}, "suffix", "unsupported_parameter", "suffix"),
    ({"best_of": 3}, "best_of", "unsupported_parameter", "best_of"),
    ({"logprobs": 0}, "logprobs", "unsupported_parameter", "by Triton (generate)"),
    ({"logprobs": 6}, "logprobs", None, "from 0 to 5"),
    ({"messages": MESSAGES}, "messages", "unknown_parameter", "messages"),
]


async def assert_refused(
    bench: Bench, path: str, body: object, *, param: str | None, code: str | None, words: str
) -> None:
    async with bench.post(path, body) as response:
        document = await response.json()
    assert response.status == 400, document
    assert set(document) == {"error"}
    error = document["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert (error["param"], error["code"], error["type"]) == (param, code, "invalid_request_error")
    assert words in error["message"]
    assert response.headers["x-should-retry"] == "false"
    assert response.headers["x-request-id"]


@pytest.mark.parametrize(("change", "param", "code", "words"), CHAT_TABLE)
async def test_chat_refuses(
    bench: Bench, change: dict[str, Any], param: str, code: str | None, words: str
) -> None:
    await assert_refused(
        bench, "/v1/chat/completions", {**CHAT, **change}, param=param, code=code, words=words
    )
    assert bench.totals()["refused"]["requests"] == 1
    assert bench.triton.calls == []


@pytest.mark.parametrize(("change", "param", "code", "words"), COMPLETION_TABLE)
async def test_completion_refuses(
    bench: Bench, change: dict[str, Any], param: str, code: str | None, words: str
) -> None:
    await assert_refused(
        bench, "/v1/completions", {**COMPLETION, **change}, param=param, code=code, words=words
    )


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", "malformed_json"),
        (b"NaN", "malformed_json"),
        (b'{"model": "docs", "messages": [], "temperature": NaN}', "malformed_json"),
        (b'{"model": "docs", "messages": [], "temperature": 1e999}', "invalid_type"),
        (b'{"model": "docs", "messages": [], "seed": ' + b"9" * 5000 + b"}", "invalid_type"),
        (b'{"model": "docs", "messages": [{"role": "user", "content": "\\ud800"}]}', "malformed_json"),
        (b'{"model": "docs", "model": 7, "messages": []}', "invalid_type"),
        (b"{", "malformed_json"),
        (b'{"model": "docs", "messages": []} trailing', "malformed_json"),
        (b'{"model": "\xff"}', "malformed_json"),
        (b'{"model": "docs", "messages": [], "metadata": {"a": ' + b"[" * 40_000, "malformed_json"),
        (b"[1]", "malformed_json"),
        (b'{"messages": []}', "missing_required_parameter"),
        (b'{"model": "docs"}', "missing_required_parameter"),
    ],
)
async def test_what_is_no_request_at_all(bench: Bench, content: bytes, code: str) -> None:
    async with bench.post("/v1/chat/completions", data=content) as response:
        error = (await response.json())["error"]

    assert response.status == 400
    assert error["code"] == code
    assert bench.totals()["refused"]["requests"] == 1


async def test_fields_that_change_nothing_are_accepted(bench: Bench) -> None:
    body = {
        **CHAT,
        "n": 1, "user": "u", "metadata": {"a": "b"}, "store": False, "logprobs": False, "tools": [],
        "tool_choice": "auto", "response_format": {"type": "text"}, "modalities": ["text"],
        "service_tier": "auto", "logit_bias": {}, "temperature": None, "stop": None, "max_tokens": None,
        "parallel_tool_calls": True, "prompt_cache_key": "k", "safety_identifier": "s",
        "messages": [{"role": "assistant", "content": "x", "refusal": None, "tool_calls": None}, *MESSAGES],
    }  # fmt: skip

    async with bench.post("/v1/chat/completions", body) as response:
        assert response.status == 200, await response.text()


@pytest.mark.parametrize(
    ("key", "code"),
    [
        (None, "missing_api_key"),
        ("sk-something", "malformed_api_key"),
        (KEY[:-1] + ("0" if KEY[-1] != "0" else "1"), "malformed_api_key"),
        (UNKNOWN_KEY, "invalid_api_key"),
        (EXPIRED_KEY, "expired_api_key"),
    ],
)
async def test_keys_that_do_not_open(bench: Bench, key: str | None, code: str) -> None:
    for path in ("/v1/chat/completions", "/v1/completions"):
        async with bench.post(path, CHAT, key=key) as response:
            assert response.status == 401
            assert (await response.json())["error"]["code"] == code
            assert response.headers["x-should-retry"] == "false"
    headers = {"authorization": f"Bearer {key}"} if key else {}
    assert (await bench.http.get(f"{bench.url}/v1/models", headers=headers)).status == 401
    # Only a key that is known can be held to account.
    assert bench.totals() == (
        {"refused": {"requests": 2, "input_tokens": 0, "output_tokens": 0, "cached_tokens": 0}}
        if key == EXPIRED_KEY
        else {}
    )


@pytest.mark.parametrize("key", [OTHER_PROJECT_KEY, OTHER_TENANT_KEY])
async def test_endpoints_of_other_projects_and_tenants_do_not_exist(bench: Bench, key: str) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        await bench.openai(key).chat.completions.create(**CHAT)

    assert caught.value.code == "model_not_found"
    assert bench.triton.calls == []
    assert bench.totals()["refused"]["requests"] == 1


async def test_a_body_over_the_limit(idle: Bench) -> None:
    await idle.ready(BERTH_GATEWAY_BODY_LIMIT_BYTES="2048")

    async def chunks():
        for _ in range(40):
            yield b"x" * 100

    for data in (b"x" * 4_000, chunks()):
        async with idle.post("/v1/chat/completions", data=data) as response:
            assert response.status == 413
            error = (await response.json())["error"]
            assert error["code"] == "request_too_large"
            assert "2048" in error["message"]
    assert idle.totals()["refused"]["requests"] == 2


async def test_a_template_may_turn_messages_away(bench: Bench) -> None:
    bench.publish(chat_template="{{ raise_exception('roles must alternate') }}")
    await bench.settled()

    await assert_refused(
        bench, "/v1/chat/completions", CHAT, param="messages", code=None, words="roles must alternate"
    )


@pytest.mark.parametrize("template", ["{% broken", "{{ ''.__class__.__mro__[1] }}", "{{ 1 / 0 }}"])
async def test_a_template_that_cannot_be_used_is_the_endpoints_fault(bench: Bench, template: str) -> None:
    bench.publish(chat_template=template)
    await bench.settled()

    async with bench.post("/v1/chat/completions", CHAT) as response:
        assert response.status == 500
        assert (await response.json())["error"]["code"] == "chat_template_error"
    assert bench.triton.calls == []


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/embeddings"),
        ("POST", "/v1/responses"),
        ("GET", "/v1/chat/completions"),
        ("POST", "/v2/models/front/generate"),
        ("POST", "/v2/repository/index"),
        ("GET", "/"),
    ],
)
async def test_other_paths_do_not_exist(bench: Bench, method: str, path: str) -> None:
    response = await bench.http.request(method, bench.url + path)

    assert response.status == 404
    assert (await response.json())["error"]["code"] == "unknown_url"


async def test_no_door_that_takes_a_body_escapes_the_meter(bench: Bench) -> None:
    assert bench.server is not None
    # Files and batches answer nothing themselves: their lines pass the same seam, which their own tests show.
    rest = ("/v1/files", "/v1/batches")
    routes = bench.server.routes()
    paths = [each.path for each in routes if each.method == "POST" and not each.path.startswith(rest)]

    for path in paths:
        async with bench.post(path, {"nonsense": True}) as response:
            assert response.status == 400

    assert set(paths) == {"/v1/chat/completions", "/v1/completions", "/v1/embeddings"}
    assert bench.totals()["refused"]["requests"] == len(paths)
