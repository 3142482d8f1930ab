"""The model inside a real tritonserver, over HTTP, as a gateway sees it."""

from __future__ import annotations

import json
import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from clusters.triton import health
from clusters.triton.errors import EngineUnavailable
from clusters.triton.front import INPUTS, OUTPUTS
from clusters.triton.server import ADMIN_HEADER
from embedded import processes

from .conftest import ADMIN_KEY

COUNTED = {"return_num_input_tokens": True, "return_num_output_tokens": True}
REQUEST = {"text_input": "What is a replica?\n\n", "max_tokens": 30, "temperature": 0.0, **COUNTED}


def whole(engine, **fields) -> dict:
    answer = httpx.post(engine.generate, json=REQUEST | fields, timeout=30)
    assert answer.status_code == 200, answer.text
    return answer.json()


def stream(engine, **fields) -> list[dict]:
    answer = httpx.post(engine.generate_stream, json=REQUEST | {"stream": True} | fields, timeout=30)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("text/event-stream")
    return [json.loads(line.removeprefix("data: ")) for line in answer.text.split("\n\n") if line]


def text(chunks: list[dict]) -> str:
    return "".join(chunk["text_output"] for chunk in chunks)


def test_triton_reads_the_configuration_as_it_was_meant(engine):
    config = httpx.get(
        f"{engine.url}/v2/models/ensemble/config", headers={ADMIN_HEADER: ADMIN_KEY}, timeout=10
    ).json()
    assert config["model_transaction_policy"] == {"decoupled": True}
    inputs = [(i["name"], i["data_type"], *i["dims"], i["optional"]) for i in config["input"]]
    assert tuple(inputs) == INPUTS
    assert tuple((o["name"], o["data_type"], *o["dims"]) for o in config["output"]) == OUTPUTS
    assert config["parameters"]["token_delay_ms"] == {"string_value": "3"}


def test_streamed_and_whole_say_and_count_the_same(engine):
    one, many = whole(engine), stream(engine)
    assert text(many) == one["text_output"]
    assert len(many) > 10
    assert sum(chunk["num_output_tokens"] for chunk in many) == one["num_output_tokens"] == 30
    assert {chunk["num_input_tokens"] for chunk in many} == {one["num_input_tokens"]}
    assert {chunk["num_cached_tokens"] for chunk in many} == {one["num_cached_tokens"]} == {0}
    assert [chunk.get("finish_reason") for chunk in many] == [None] * (len(many) - 1) + ["length"]
    assert one["finish_reason"] == "length"


def test_an_answer_that_ends_by_itself_says_stop(engine):
    one = whole(engine, max_tokens=300)
    assert one["finish_reason"] == "stop"
    assert one["num_output_tokens"] < 300
    assert one["text_output"].startswith("A replica is one complete running copy")


def test_counts_come_only_when_asked_for(engine):
    plain = whole(engine, return_num_input_tokens=False, return_num_output_tokens=False)
    assert not {"num_input_tokens", "num_output_tokens", "num_cached_tokens"} & set(plain)


def test_the_prompt_is_given_back_only_when_asked_for(engine):
    echoed = whole(engine, exclude_input_in_output=False)
    assert echoed["text_output"] == REQUEST["text_input"] + whole(engine)["text_output"]
    assert echoed["num_output_tokens"] == 30


def test_a_seed_repeats_an_answer(engine):
    settings = {"temperature": 4.0, "min_tokens": 30}
    first = whole(engine, seed=2**64 - 1, **settings)
    assert text(stream(engine, seed=2**64 - 1, **settings)) == first["text_output"]
    assert whole(engine, seed=7, **settings)["text_output"] != first["text_output"]


def test_stop_words_end_the_answer(engine):
    told = text(stream(engine, stop_words=["running copy of", "absent"]))
    assert told == "A replica is one complete "


def test_a_request_beyond_the_context_names_the_numbers(engine):
    answer = httpx.post(engine.generate, json=REQUEST | {"text_input": "token " * 600}, timeout=10)
    assert answer.status_code == 400
    assert answer.json()["error"].startswith("context_length_exceeded: this model's context is 512 tokens")
    streamed = httpx.post(
        engine.generate_stream, json=REQUEST | {"max_tokens": 401, "stream": True}, timeout=10
    )
    assert streamed.status_code == 400
    assert "max_tokens must be at most 400, got 401" in streamed.text


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"temperature": -1}, "temperature must be from 0 to 100"),
        ({"top_p": 2}, "top_p must be from 0 to 1"),
        ({"max_tokens": 0}, "max_tokens must be at least 1"),
        ({"stop_words": [""]}, "every text in stop_words"),
        ({"text_input": ["a", "b"]}, "text_input"),
    ],
)
def test_bad_settings_are_refused(engine, fields, says):
    answer = httpx.post(engine.generate, json=REQUEST | fields, timeout=10)
    assert answer.status_code == 400
    assert says in answer.json()["error"]


def test_a_client_that_leaves_stops_its_generation(engine):
    before = len(cancellations(engine))
    fields = REQUEST | {"stream": True, "max_tokens": 400, "min_tokens": 400}
    with httpx.stream("POST", engine.generate_stream, json=fields, timeout=10) as answer:
        next(answer.iter_lines())
    deadline = time.monotonic() + 10
    while len(cancellations(engine)) == before:
        assert time.monotonic() < deadline, "the engine went on"
        time.sleep(0.02)
    assert cancellations(engine)[-1] < 400


def cancellations(engine) -> list[int]:
    """After how many tokens each cancelled request stopped, by the engine's log."""
    return [int(n) for n in re.findall(r"request cancelled after (\d+) tokens", engine.log.read_text())]


def test_sixteen_streams_at_once_are_each_whole(engine):
    """Four more than the engine batches, so that some have to wait for a place."""
    alone = text(stream(engine, seed=0, temperature=1.0, max_tokens=40, min_tokens=40))

    def one(number: int) -> list[dict]:
        return stream(engine, seed=number % 2, temperature=1.0, max_tokens=40, min_tokens=40)

    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(one, range(16)))
    assert all(sum(chunk["num_output_tokens"] for chunk in chunks) == 40 for chunks in answers)
    assert {text(chunks) for chunks in answers[::2]} == {alone}


def test_health_and_statistics(engine):
    assert health.is_live(engine.url)
    assert health.is_ready(engine.url)
    before = health.statistics(engine.url, admin_key=ADMIN_KEY)
    whole(engine, max_tokens=1)
    deadline = time.monotonic() + 30
    while (after := health.statistics(engine.url, admin_key=ADMIN_KEY)).requests == before.requests:
        assert time.monotonic() < deadline  # Triton counts a request once its answer is away
        time.sleep(0.01)
    assert after.requests == before.requests + 1


def test_the_load_counts_running_and_waiting_requests(engine):
    """Fourteen clients, each with a stream at any time, on a batch of twelve."""
    seen = threading.Event()
    deadline = time.monotonic() + 60

    def keep_asking() -> None:
        while not seen.is_set() and time.monotonic() < deadline:
            stream(engine, max_tokens=200, min_tokens=200)

    with ThreadPoolExecutor(14) as pool:
        clients = [pool.submit(keep_asking) for _ in range(14)]
        while health.load(engine.metrics_url) != health.Load(active=12, waiting=2):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        seen.set()
        for client in clients:
            client.result()
    while health.load(engine.metrics_url) != health.Load(active=0, waiting=0):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_what_administers_the_server_needs_the_key(engine):
    with pytest.raises(EngineUnavailable, match="restricted"):
        health.statistics(engine.url, admin_key="wrong")
    for path in ("/v2/repository/index", "/v2/repository/models/ensemble/unload", "/v2/logging"):
        assert httpx.post(engine.url + path, json={}, timeout=10).status_code == 403
    assert health.is_ready(engine.url)


def test_no_answer_is_no_error_of_ours():
    url = f"http://127.0.0.1:{processes.free_port()}"
    assert not health.is_live(url)
    assert not health.is_ready(url)
    with pytest.raises(EngineUnavailable, match="did not answer"):
        health.statistics(url, admin_key=ADMIN_KEY, timeout_s=0.5)
    with pytest.raises(EngineUnavailable, match="no load"):
        health.load(url)


def test_texts_of_requests_are_not_in_the_log(engine):
    whole(engine, text_input="a very private question")
    assert "private" not in engine.log.read_text()
