"""Berth's front model for the LLM API in the real tritonserver, with an engine that stands in for the GPU's.

The model repository is laid out as a kubelet lays out a ConfigMap: hidden folders and links.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import http.client
import json
import signal
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from clusters.specs import ReplicaMemory
from clusters.triton.memory import memory_of
from clusters.triton.runtimes import engine_of
from clusters.triton.server import Installation
from embedded import processes
from embedded.datadir import DataDir
from tests.clusters.triton.specs import llmapi

FAKE = Path(__file__).parent / "fake_engine"


@dataclasses.dataclass(frozen=True)
class Served:
    url: str
    metrics_url: str
    engine_log: Path
    server_log: Path
    process: processes.ProcessRecord

    def heard(self) -> list[dict[str, Any]]:
        """What the engine was asked, oldest first."""
        return [json.loads(line) for line in self.engine_log.read_text().splitlines()]

    def asked(self) -> dict[str, Any]:
        """The last request that reached the engine."""
        return [entry for entry in self.heard() if "params" in entry][-1]

    def until(self, name: str, before: int) -> Any:
        """Wait for an entry called ``name`` that comes after the first ``before``."""
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            for entry in self.heard()[before:]:
                if name in entry:
                    return entry[name]
            time.sleep(0.02)
        raise AssertionError(f"nothing called {name} came: {self.heard()[before:]}")


def as_kubelet_does(files: dict[str, str], folder: Path) -> None:
    data = folder / "..2026_01_01_00_00_00.000000001"
    for path, text in files.items():
        (data / path).parent.mkdir(parents=True, exist_ok=True)
        (data / path).write_text(text, "utf-8")
    (folder / "..data").symlink_to(data.name)
    for name in {path.partition("/")[0] for path in files}:
        (folder / name).symlink_to(f"..data/{name}")


@pytest.fixture(scope="module")
def served(tmp_path_factory) -> Iterator[Served]:
    with serving(tmp_path_factory.mktemp("llmapi"), "tested-llmapi") as found:
        yield found


@contextlib.contextmanager
def serving(root: Path, name: str) -> Iterator[Served]:
    """A server of the front model, with the engine's stand-in."""
    data_dir = DataDir(root / "data")
    container = engine_of(llmapi(context_tokens=64, max_output_tokens=60))
    # The stub takes no PYTHONPATH; it looks beside the model.
    stand_in = {
        f"repository/tensorrt_llm/1/{path.relative_to(FAKE)}": path.read_text("utf-8")
        for path in FAKE.rglob("*.py")
    }
    as_kubelet_does({**container.files, **stand_in}, root / "files")
    installation = Installation.find()
    port, metrics_port = processes.free_ports(2)
    command = installation.command(
        repository=root / "files" / "repository",
        backends=installation.prepare_backends(root / "triton"),
        port=port,
        metrics_port=metrics_port,
        admin_key="closed",
        shm_prefix=processes.shm_prefix(data_dir, name),
        exit_timeout_s=2,
    )
    log, engine_log = root / "server.log", root / "engine.jsonl"
    env = {**command.env, "FAKE_ENGINE_LOG": str(engine_log)}
    process = processes.spawn(name, command.argv, data_dir=data_dir, env=env, log_path=log)
    url = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 60
        while not ready(url + container.readiness_path):
            assert processes.alive(process), log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
        yield Served(url, f"http://127.0.0.1:{metrics_port}/metrics", engine_log, log, process)
    finally:
        processes.stop(process, grace_s=5, first_signal=signal.SIGTERM)
        processes.reap_matching(data_dir, processes.PROCESS, name)


def ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=1) as answer:
            return answer.status == 200
    except OSError:
        return False


def events(served: Served, **fields: Any) -> list[dict[str, Any]]:
    """All events of one streamed answer."""
    body = {"stream": True, "return_num_input_tokens": True, "return_num_output_tokens": True, **fields}
    request = urllib.request.Request(
        f"{served.url}/v2/models/tensorrt_llm/generate_stream",
        data=json.dumps(body).encode(),
        headers={"Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            text = answer.read()
    except urllib.error.HTTPError as error:
        with error:
            text = error.read()
    found = [part.removeprefix(b"data:") for part in text.split(b"\n\n") if part.strip()]
    return [json.loads(part) for part in found]


def text_of(found: list[dict[str, Any]]) -> str:
    return "".join(event["text_output"] for event in found)


def test_pieces_are_new_text_and_counts_are_the_engines(served):
    found = events(served, text_input="count 5 please", max_tokens=20)
    assert len(found) > 2
    assert text_of(found) == "1 2 3 4 5"
    assert {event["num_input_tokens"] for event in found} == {4}
    assert found[-1]["num_cached_tokens"] == 2
    assert sum(event["num_output_tokens"] for event in found) == 5
    assert [event.get("finish_reason", "") for event in found] == [""] * (len(found) - 1) + ["stop"]


def test_the_limit_ends_an_answer_as_length(served):
    found = events(served, text_input="repeat na", max_tokens=7)
    assert text_of(found) == " ".join(["na"] * 7)
    assert found[-1]["finish_reason"] == "length"
    assert sum(event["num_output_tokens"] for event in found) == 7


def test_a_stop_text_ends_the_answer_before_it_and_the_work_in_the_engine(served):
    before = len(served.heard())
    found = events(served, text_input="count 30", max_tokens=40, stop_words=["7 8"])
    assert text_of(found) == "1 2 3 4 5 6 "
    assert found[-1]["finish_reason"] == "stop"
    assert sum(event["num_output_tokens"] for event in found) == 8
    assert served.until("aborted_after", before) == 8


def test_an_answer_given_whole_repeats_the_prompt_only_if_asked(served):
    body = {"text_input": "count 3", "max_tokens": 9, "return_num_output_tokens": True}
    for more, text in (({}, "1 2 3"), ({"exclude_input_in_output": False}, "count 31 2 3")):
        (event,) = events(served, **{**body, "stream": False, **more})
        assert event["text_output"] == text
        assert event["num_output_tokens"] == 3


def test_a_first_token_in_the_prompt_is_not_added_again(served):
    assert events(served, text_input="<s>count 2", max_tokens=5)[-1]["num_input_tokens"] == 2
    assert events(served, text_input="count 2", max_tokens=5)[-1]["num_input_tokens"] == 3


def test_what_is_asked_reaches_the_engine(served):
    events(
        served, text_input="count 1", max_tokens=3, temperature=0.5, top_p=0.25, top_k=3, seed=7,
        min_tokens=2, presence_penalty=0.5, frequency_penalty=-0.5, cache_salt="tenant-1",
    )  # fmt: skip
    asked = served.asked()
    assert asked["salt"] == "tenant-1"
    assert asked["streaming"] is True
    assert asked["params"] == {
        "max_tokens": 3, "min_tokens": 2, "temperature": 0.5, "top_k": 3, "top_p": 0.25, "seed": 7,
        "presence_penalty": 0.5, "frequency_penalty": -0.5,
    }  # fmt: skip
    events(served, text_input="count 1", max_tokens=3, temperature=0.0)
    assert served.asked()["params"]["top_k"] == 1
    assert served.asked()["params"]["temperature"] is None
    assert served.heard()[0]["options"]["tensor_parallel_size"] == 1
    assert "triton_config" not in served.heard()[0]["options"]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"text_input": "count 5", "max_tokens": 0}, "max_tokens must be at least 1, got 0"),
        ({"text_input": "count 5", "max_tokens": 61}, "max_tokens must be at most 60, got 61"),
        ({"text_input": "count 5", "max_tokens": 5, "temperature": 3.0}, "temperature must be from 0 to 2"),
        ({"text_input": "  ", "max_tokens": 5}, "text_input must hold at least one token"),
        (
            {"text_input": "a " * 20, "max_tokens": 60},
            "context_length_exceeded: this model's context is 64 tokens",
        ),
    ],
)
def test_what_cannot_be_served_is_said(served, fields, message):
    (event,) = events(served, **fields)
    assert message in event["error"]


def test_an_engines_failure_tells_nothing_of_the_prompt(served):
    (event,) = events(served, text_input="fail my-secret", max_tokens=5)
    assert event["error"] == "the engine failed: RuntimeError"
    assert "my-secret" not in served.server_log.read_text()
    assert text_of(events(served, text_input="count 2", max_tokens=5)) == "1 2"


def test_who_leaves_frees_the_engine(served):
    before = len(served.heard())
    parts = urlsplit(served.url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=10)
    body = json.dumps({"text_input": "repeat on", "max_tokens": 60, "stream": True})
    connection.request(
        "POST", "/v2/models/tensorrt_llm/generate_stream", body, {"Content-Type": "application/json"}
    )
    with contextlib.closing(connection):
        connection.getresponse().fp.readline()
    assert served.until("aborted_after", before) < 60


def test_many_at_once_keep_their_own_answers(served):
    def ask(number: int) -> tuple[str, int]:
        found = events(served, text_input=f"count {number}" + " x" * number, max_tokens=30)
        return text_of(found), sum(event["num_output_tokens"] for event in found)

    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(ask, range(1, 25)))
    assert answers == [(" ".join(map(str, range(1, n + 1))), n) for n in range(1, 25)]


def test_the_cache_is_told_in_blocks(served):
    deadline = time.monotonic() + 15
    memory = ReplicaMemory()
    while not memory.kv_max:
        assert time.monotonic() < deadline
        with urllib.request.urlopen(served.metrics_url, timeout=2) as answer:
            text = answer.read().decode()
        memory = memory_of(text, "triton-llmapi", weights=1000, kv_bytes_per_token=10)
        time.sleep(0.05)
    assert (memory.kv_used, memory.kv_max, memory.weights) == (40 * 32 * 10, 100 * 32 * 10, 1000)


def test_a_dead_engine_takes_its_server_with_it(tmp_path):
    with serving(tmp_path, "tested-death") as served:
        found = events(served, text_input="die now", max_tokens=60)
        assert found
        assert found[-1].get("error", "") in ("", "the engine has died")
        deadline = time.monotonic() + 15
        while processes.alive(served.process):
            assert time.monotonic() < deadline, served.server_log.read_text()
            time.sleep(0.05)
        assert not ready(served.url + "/v2/models/tensorrt_llm/ready")
        assert "the engine is dead: it has shut down" in served.server_log.read_text()
