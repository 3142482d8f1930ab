"""Triton's python backend entry for TensorRT-LLM's LLM API. Runs in the engine's container.

Tensor names and meaning follow TensorRT-LLM's classic front model: pieces of text as they come, with the
engine's own token counts. One decoupled model, because Triton passes a client's departure only to a model
called directly. Prompts and answers are never logged.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import json
import os
import threading
from pathlib import Path
from typing import Any

import triton_python_backend_utils as pb_utils  # type: ignore[import-not-found]
import yaml

from .gauges import Gauges
from .job import Job
from .tensors import Ask, InvalidRequest, send_error
from .vitality import Vitality, end

LOOK_S = 0.1
"""How often each request is asked whether its client is still there."""
STATISTICS_S = 1.0
LAST_WORDS_S = 0.5
"""Until the answers of requests that failed with the engine are on their way."""


class TritonPythonModel:
    """What Triton's stub looks for in this file."""

    def initialize(self, args: dict[str, str]) -> None:
        """Load the model that model.yaml beside this file describes; limits come from the configuration."""
        parameters = {
            name: entry["string_value"]
            for name, entry in json.loads(args["model_config"])["parameters"].items()
        }
        self._context_tokens = int(parameters["context_tokens"])
        self._max_output_tokens = int(parameters["max_output_tokens"])
        options = yaml.safe_load((Path(__file__).parent / "model.yaml").read_text("utf-8"))
        options.pop("triton_config", None)
        self._llm = _load(options)
        self._bos = getattr(getattr(self._llm.tokenizer, "tokenizer", None), "bos_token", None)
        self._salts = "cache_salt" in inspect.signature(self._llm.generate_async).parameters
        self._jobs: set[Job] = set()
        self._vitality = Vitality(self._llm)
        self._server = os.getppid()
        self._stopping = threading.Event()
        self._loop = asyncio.new_event_loop()
        gauges = Gauges(args["model_name"], args["model_version"])
        self._threads = [
            threading.Thread(target=self._loop.run_forever, name="requests", daemon=True),
            threading.Thread(target=self._look, name="departures", daemon=True),
            threading.Thread(target=self._watch, name="vitality", daemon=True),
            threading.Thread(target=self._show, args=(gauges,), name="statistics", daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def execute(self, requests: list[Any]) -> None:
        """Take requests in; answers go through each request's own sender."""
        for request in requests:
            sender = request.get_response_sender()
            try:
                ask = Ask.read(request)
                if ask.max_tokens > self._max_output_tokens:
                    raise InvalidRequest(
                        f"max_tokens must be at most {self._max_output_tokens}, got {ask.max_tokens}"
                    )
            except InvalidRequest as error:
                send_error(sender, str(error), pb_utils.TritonError.INVALID_ARG)
                continue
            asyncio.run_coroutine_threadsafe(self._serve(Job(ask, sender)), self._loop)

    def finalize(self) -> None:
        """Fail what is left and unload; Triton calls this when its requests are done or out of time."""
        self._stopping.set()
        for job in tuple(self._jobs):
            job.fail("the engine is shutting down", pb_utils.TritonError.UNAVAILABLE)
        self._loop.call_soon_threadsafe(self._loop.stop)
        for thread in self._threads:
            thread.join(timeout=5)
        self._llm.shutdown()

    async def _serve(self, job: Job) -> None:
        self._jobs.add(job)
        try:
            ids = await self._loop.run_in_executor(None, self._encode, job.ask)
            job.result = self._generate(job.ask, ids)
            async for result in job.result:
                self._vitality.heard()
                if job.departed:
                    break
                if not job.take(result):
                    self._vitality.answered()
                    break
            if job.departed:
                pb_utils.Logger.log_info(f"request cancelled after {job.generated} tokens")
                job.fail("Request cancelled by client", pb_utils.TritonError.CANCELLED)
        except InvalidRequest as error:
            job.fail(str(error), pb_utils.TritonError.INVALID_ARG)
        except Exception as error:  # noqa: BLE001 - one request's fault must not end the others
            self._vitality.failed(error)
            # The engine's own message may quote a prompt.
            pb_utils.Logger.log_error(f"request failed: {type(error).__name__}")
            job.fail(f"the engine failed: {type(error).__name__}", pb_utils.TritonError.INTERNAL)
        finally:
            self._jobs.discard(job)
            if job.result is not None and not job.result.finished:
                job.result.abort()

    def _encode(self, ask: Ask) -> list[int]:
        # A chat template often writes the first token itself, and twice is once too often.
        has_bos = bool(self._bos) and ask.prompt.startswith(self._bos)
        ids = list(self._llm.tokenizer.encode(ask.prompt, add_special_tokens=not has_bos))
        if not ids:
            raise InvalidRequest("text_input must hold at least one token")
        if len(ids) + ask.max_tokens > self._context_tokens:
            raise InvalidRequest(
                f"context_length_exceeded: this model's context is {self._context_tokens} tokens;"
                f" the prompt has {len(ids)} and max_tokens asks for {ask.max_tokens}"
            )
        return ids

    def _generate(self, ask: Ask, ids: list[int]) -> Any:
        if ask.cache_salt and not self._salts:
            raise InvalidRequest("cache_salt: this engine cannot keep prefix caches apart")
        extra = {"cache_salt": ask.cache_salt} if ask.cache_salt else {}
        return self._llm.generate_async(
            {"prompt_token_ids": ids},
            sampling_params=_sampling_params(ask),
            # Also for answers given whole: departures are seen, and stop texts end the work.
            streaming=True,
            **extra,
        )

    def _look(self) -> None:
        while not self._stopping.wait(LOOK_S):
            for job in tuple(self._jobs):
                if job.look():
                    self._loop.call_soon_threadsafe(_abort, job)

    def _watch(self) -> None:
        while not self._stopping.wait(STATISTICS_S):
            if cause := self._vitality.death(working=bool(self._jobs)):
                pb_utils.Logger.log_error(f"the engine is dead: {cause}")
                for job in tuple(self._jobs):
                    job.fail("the engine has died", pb_utils.TritonError.UNAVAILABLE)
                self._stopping.wait(LAST_WORDS_S)
                end(self._server)

    def _show(self, gauges: Gauges) -> None:
        while not self._stopping.wait(STATISTICS_S):
            # Statistics are for people: without them requests are served all the same.
            with contextlib.suppress(Exception):
                if found := list(self._llm.get_stats(timeout=0.5)):
                    gauges.show(found[-1])
                elif not self._jobs:
                    gauges.idle()


def _abort(job: Job) -> None:
    """End a departed client's request in the engine, which ends its answer too."""
    if job.result is not None:
        job.result.abort()


def _load(options: dict[str, Any]) -> Any:
    backend = options.pop("backend", "pytorch")
    if backend == "tensorrt":
        from tensorrt_llm._tensorrt_engine import LLM  # type: ignore[import-not-found]
    else:
        from tensorrt_llm import LLM  # type: ignore[import-not-found]
    from tensorrt_llm.llmapi.llm_utils import (  # type: ignore[import-not-found]
        update_llm_args_with_extra_dict,
    )

    return LLM(**update_llm_args_with_extra_dict({}, options))


def _sampling_params(ask: Ask) -> Any:
    from tensorrt_llm import SamplingParams  # type: ignore[import-not-found]

    greedy = ask.temperature == 0
    return SamplingParams(
        max_tokens=ask.max_tokens,
        min_tokens=ask.min_tokens or None,
        temperature=None if greedy else ask.temperature,
        top_k=1 if greedy else ask.top_k or None,
        top_p=None if greedy else ask.top_p,
        seed=ask.seed,
        presence_penalty=ask.presence_penalty or None,
        frequency_penalty=ask.frequency_penalty or None,
    )
