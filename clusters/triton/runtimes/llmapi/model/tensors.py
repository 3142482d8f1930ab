"""A request's tensors as Python values, and back. Messages never hold what a client wrote."""

from __future__ import annotations

import contextlib
import dataclasses
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils  # type: ignore[import-not-found]

FINAL = pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL


class InvalidRequest(ValueError):
    """The request cannot be served as it is; the message is for its client."""


@dataclasses.dataclass(frozen=True)
class Ask:
    """What one request asks for."""

    prompt: str
    max_tokens: int
    min_tokens: int
    stream: bool
    temperature: float
    top_k: int
    top_p: float
    seed: int | None
    stops: tuple[str, ...]
    presence_penalty: float
    frequency_penalty: float
    echo: bool
    count_input: bool
    count_output: bool
    cache_salt: str | None

    @classmethod
    def read(cls, request: Any) -> Ask:
        """Read the tensors of a Triton request.

        Raises:
            InvalidRequest: a value is missing or out of its range.
        """
        inputs = _Inputs(request)
        ask = cls(
            prompt=inputs.text("text_input"),
            max_tokens=inputs.number("max_tokens", 0),
            min_tokens=inputs.number("min_tokens", 0),
            stream=bool(inputs.number("stream", False)),
            temperature=inputs.number("temperature", 1.0),
            top_k=inputs.number("top_k", 0),
            top_p=inputs.number("top_p", 1.0),
            seed=inputs.number("seed", None),
            stops=inputs.texts("stop_words"),
            presence_penalty=inputs.number("presence_penalty", 0.0),
            frequency_penalty=inputs.number("frequency_penalty", 0.0),
            echo=not inputs.number("exclude_input_in_output", True),
            count_input=bool(inputs.number("return_num_input_tokens", False)),
            count_output=bool(inputs.number("return_num_output_tokens", False)),
            cache_salt=next(iter(inputs.texts("cache_salt")), None) or None,
        )
        ask.check()
        return ask

    def check(self) -> None:
        """Check the ranges.

        Raises:
            InvalidRequest: a value is out of its range.
        """
        rules = (
            ("max_tokens", self.max_tokens, self.max_tokens >= 1, "at least 1"),
            ("min_tokens", self.min_tokens, 0 <= self.min_tokens <= self.max_tokens, "from 0 to max_tokens"),
            ("temperature", self.temperature, 0 <= self.temperature <= 2, "from 0 to 2"),
            ("top_k", self.top_k, self.top_k >= 0, "at least 0"),
            ("top_p", self.top_p, 0 < self.top_p <= 1, "above 0 and at most 1"),
            ("presence_penalty", self.presence_penalty, abs(self.presence_penalty) <= 2, "from -2 to 2"),
            ("frequency_penalty", self.frequency_penalty, abs(self.frequency_penalty) <= 2, "from -2 to 2"),
        )
        for name, value, good, rule in rules:
            if not good:
                raise InvalidRequest(f"{name} must be {rule}, got {value}")


class _Inputs:
    def __init__(self, request: Any) -> None:
        self._request = request

    def values(self, name: str) -> list[Any]:
        tensor = pb_utils.get_input_tensor_by_name(self._request, name)
        return [] if tensor is None else tensor.as_numpy().reshape(-1).tolist()

    def number(self, name: str, default: Any) -> Any:
        return next(iter(self.values(name)), default)

    def texts(self, name: str) -> tuple[str, ...]:
        try:
            return tuple(v.decode() if isinstance(v, bytes) else v for v in self.values(name))
        except UnicodeDecodeError:
            raise InvalidRequest(f"{name} must be UTF-8") from None

    def text(self, name: str) -> str:
        texts = self.texts(name)
        if len(texts) != 1:
            raise InvalidRequest(f"{name} must hold one text, got {len(texts)}")
        return texts[0]


def string(name: str, text: str) -> Any:
    """Make a tensor of one text."""
    return pb_utils.Tensor(name, np.array([text.encode("utf-8", "replace")], dtype=np.object_))


def int32(name: str, value: int) -> Any:
    """Make a tensor of one number."""
    return pb_utils.Tensor(name, np.array([value], dtype=np.int32))


def send_error(sender: Any, message: str, code: int) -> None:
    """End a request with an error."""
    error = pb_utils.TritonError(message, code)
    # A sender that has sent its last response raises; then there is nobody left to tell.
    with contextlib.suppress(pb_utils.TritonModelException):
        sender.send(pb_utils.InferenceResponse(error=error), flags=FINAL)
