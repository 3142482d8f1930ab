"""Asking a running server how it is, through tritonclient."""

from __future__ import annotations

import contextlib
import dataclasses
import http.client
import re
import urllib.request
from collections.abc import Iterator
from typing import Final
from urllib.parse import urlsplit

import tritonclient.http  # type: ignore[import-untyped]
from tritonclient.utils import InferenceServerException  # type: ignore[import-untyped]

from clusters.triton import ENGINE_MODEL
from clusters.triton.errors import EngineUnavailable
from clusters.triton.server import ADMIN_HEADER

_REQUESTS: Final = re.compile(
    r'^nv_trt_llm_request_metrics\{.*?request_type="(\w+)".*?\} (\S+)$', re.MULTILINE
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Statistics:
    """Triton's own counters of the front model.

    For a decoupled model Triton counts a request as a success whatever came of it and measures
    only how long it took to be taken in, so these are for diagnosis and never for money.
    """

    requests: int
    failures: int
    last_request_ms: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Load:
    """How many requests the engine is generating for, and how many wait for a place in its batch."""

    active: int
    waiting: int


def is_live(url: str, *, timeout_s: float = 1.0) -> bool:
    """Tell whether the server at ``url`` answers at all."""
    try:
        with _client(url, timeout_s) as client:
            return bool(client.is_server_live())
    except EngineUnavailable:
        return False


def is_ready(url: str, *, timeout_s: float = 1.0) -> bool:
    """Tell whether the front model at ``url`` takes requests; False when nothing answers in time."""
    try:
        with _client(url, timeout_s) as client:
            return bool(client.is_model_ready(ENGINE_MODEL))
    except EngineUnavailable:
        return False


def statistics(url: str, *, admin_key: str, timeout_s: float = 2.0) -> Statistics:
    """Read the front model's counters.

    Raises:
        EngineUnavailable: the server does not answer, or refuses.
    """
    with _client(url, timeout_s) as client:
        answer = client.get_inference_statistics(ENGINE_MODEL, headers={ADMIN_HEADER: admin_key})
    model = answer["model_stats"][0]
    return Statistics(
        requests=int(model["inference_stats"]["success"].get("count", 0)),
        failures=int(model["inference_stats"]["fail"].get("count", 0)),
        last_request_ms=int(model.get("last_inference", 0)),
    )


def load(metrics_url: str, *, timeout_s: float = 1.0) -> Load:
    """Read the engine's own gauges, named and labelled as TensorRT-LLM's are.

    Raises:
        EngineUnavailable: nothing answers, or what answers has no such gauges.
    """
    try:
        with urllib.request.urlopen(f"{metrics_url}/metrics", timeout=timeout_s) as answer:  # noqa: S310
            found = dict(_REQUESTS.findall(answer.read().decode()))
        return Load(active=int(float(found["active"])), waiting=int(float(found["waiting"])))
    except (OSError, KeyError, ValueError, http.client.HTTPException) as error:
        raise EngineUnavailable(f"no load to be read at {metrics_url}: {error!r}") from error


@contextlib.contextmanager
def _client(url: str, timeout_s: float) -> Iterator[tritonclient.http.InferenceServerClient]:
    """Open a client for one call; it must not be shared between threads."""
    client = tritonclient.http.InferenceServerClient(
        urlsplit(url).netloc, connection_timeout=timeout_s, network_timeout=timeout_s
    )
    try:
        yield client
    except (InferenceServerException, OSError) as error:
        raise EngineUnavailable(f"the engine at {url} did not answer: {str(error)[:200]}") from error
    finally:
        client.close()
