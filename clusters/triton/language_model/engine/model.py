"""Triton's python backend entry: tensors in, tensors out, nothing else.

Tensor names and meaning follow TensorRT-LLM's classic front model (``ensemble``). It is one
decoupled model because Triton passes a client's departure only to a model called directly.
"""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils  # type: ignore[import-not-found]

from .generation import Delta, Generation, LanguageModel
from .sampling import InvalidRequest, SamplingParams
from .scheduler import Scheduler

FINAL = pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL


class TritonPythonModel:
    """What Triton's stub looks for in this file."""

    def initialize(self, args: dict[str, str]) -> None:
        """Load the language model beside this file; limits come from the model configuration."""
        parameters = {
            name: entry["string_value"]
            for name, entry in json.loads(args["model_config"])["parameters"].items()
        }
        self._model = LanguageModel(
            Path(__file__).parent,
            context_tokens=int(parameters["context_tokens"]),
            max_output_tokens=int(parameters["max_output_tokens"]),
        )
        self._scheduler = Scheduler(
            max_batch_size=int(parameters["max_batch_size"]),
            token_delay_s=float(parameters["token_delay_ms"]) / 1000,
            on_load=LoadGauges(args["model_name"], args["model_version"]),
        )
        self._scheduler.start()

    def execute(self, requests: list[Any]) -> None:
        """Take requests in; answers go through each request's own sender."""
        for request in requests:
            sender = request.get_response_sender()
            try:
                self._scheduler.submit(TritonJob(self._model, request, sender))
            except InvalidRequest as error:
                _send_error(sender, str(error), pb_utils.TritonError.INVALID_ARG)

    def finalize(self) -> None:
        """Stop the scheduler; Triton calls this when the model is unloaded."""
        self._scheduler.stop()


class LoadGauges:
    """How many requests run and wait, under the names that TensorRT-LLM's backend uses.

    Only one thread may call it: tritonserver 2.51 dies when two set metrics at the same time.
    """

    def __init__(self, model: str, version: str) -> None:
        family = pb_utils.MetricFamily(
            name="nv_trt_llm_request_metrics",
            description="Requests by state",
            kind=pb_utils.MetricFamily.GAUGE,
        )
        labels = {"model": model, "version": version}
        self._active = family.Metric(labels=labels | {"request_type": "active"})
        self._waiting = family.Metric(labels=labels | {"request_type": "waiting"})
        self._family = family  # the metrics end with it
        self._shown = (0, 0)

    def __call__(self, active: int, waiting: int) -> None:
        # Each set is a round trip to the server.
        if active != self._shown[0]:
            self._active.set(active)
        if waiting != self._shown[1]:
            self._waiting.set(waiting)
        self._shown = (active, waiting)


class TritonJob:
    """One Triton request, streamed or collected."""

    def __init__(self, model: LanguageModel, request: Any, sender: Any) -> None:
        inputs = Inputs(request)
        prompt = inputs.text("text_input")
        self.generation: Generation = model.start(prompt, _sampling_params(inputs))
        self._sender = sender
        self._stream = inputs.flag("stream")
        self._echo = "" if inputs.flag("exclude_input_in_output", default=True) else prompt
        self._count_input = inputs.flag("return_num_input_tokens")
        self._count_output = inputs.flag("return_num_output_tokens")
        self._text: list[str] = []
        self._tokens = 0

    def cancelled(self) -> bool:
        return bool(self._sender.is_cancelled())

    def emit(self, delta: Delta) -> None:
        """Send a chunk when streaming and there is text, everything at the end otherwise."""
        self._text.append(delta.text)
        self._tokens += delta.tokens
        last = delta.finish_reason is not None
        if not last and not (self._stream and delta.text):
            return
        text = "".join(self._text) if self._stream else self._echo + "".join(self._text)
        self._sender.send(
            pb_utils.InferenceResponse(output_tensors=self._tensors(text, delta.finish_reason)),
            flags=FINAL if last else 0,
        )
        self._text.clear()
        self._tokens = 0

    def abandon(self) -> None:
        pb_utils.Logger.log_info(f"request cancelled after {self.generation.output_tokens} tokens")
        _send_error(self._sender, "Request cancelled by client", pb_utils.TritonError.CANCELLED)

    def fail(self, error: Exception) -> None:
        pb_utils.Logger.log_error(f"request failed: {type(error).__name__}: {error}")
        _send_error(self._sender, f"the engine failed: {error}", pb_utils.TritonError.INTERNAL)

    def _tensors(self, text: str, finish_reason: str | None) -> list[Any]:
        tensors = [_string("text_output", text)]
        if self._count_input:
            tensors.append(_int32("num_input_tokens", self.generation.prompt_tokens))
            tensors.append(_int32("num_cached_tokens", 0))  # an n-gram model keeps no prompt state
        if self._count_output:
            tensors.append(_int32("num_output_tokens", self._tokens))
        if finish_reason is not None:
            tensors.append(_string("finish_reason", finish_reason))
        return tensors


class Inputs:
    """A request's tensors as Python values."""

    def __init__(self, request: Any) -> None:
        self._request = request

    def values(self, name: str) -> list[Any]:
        tensor = pb_utils.get_input_tensor_by_name(self._request, name)
        return [] if tensor is None else tensor.as_numpy().reshape(-1).tolist()

    def number(self, name: str, default: Any) -> Any:
        values = self.values(name)
        return values[0] if values else default

    def flag(self, name: str, *, default: bool = False) -> bool:
        return bool(self.number(name, default))

    def texts(self, name: str) -> tuple[str, ...]:
        try:
            return tuple(v.decode() if isinstance(v, bytes) else v for v in self.values(name))
        except UnicodeDecodeError as error:
            raise InvalidRequest(f"{name} must be UTF-8") from error

    def text(self, name: str) -> str:
        texts = self.texts(name)
        if len(texts) != 1:
            raise InvalidRequest(f"{name} must hold one text, got {len(texts)}")
        return texts[0]


def _sampling_params(inputs: Inputs) -> SamplingParams:
    return SamplingParams(
        max_tokens=inputs.number("max_tokens", 0),
        min_tokens=inputs.number("min_tokens", 0),
        temperature=inputs.number("temperature", 1.0),
        top_k=inputs.number("top_k", 0),
        top_p=inputs.number("top_p", 1.0),
        seed=inputs.number("seed", None),
        presence_penalty=inputs.number("presence_penalty", 0.0),
        frequency_penalty=inputs.number("frequency_penalty", 0.0),
        stop=inputs.texts("stop_words"),
    )


def _string(name: str, text: str) -> Any:
    return pb_utils.Tensor(name, np.array([text.encode()], dtype=np.object_))


def _int32(name: str, value: int) -> Any:
    return pb_utils.Tensor(name, np.array([value], dtype=np.int32))


def _send_error(sender: Any, message: str, code: int) -> None:
    error = pb_utils.TritonError(message, code)
    # A sender that has sent its last response raises; then there is nobody left to tell.
    with contextlib.suppress(pb_utils.TritonModelException):
        sender.send(pb_utils.InferenceResponse(error=error), flags=FINAL)
