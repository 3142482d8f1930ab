"""One request under way: from the engine's growing answer to Triton's responses."""

from __future__ import annotations

import threading
from typing import Any

import triton_python_backend_utils as pb_utils  # type: ignore[import-not-found]

from .tensors import FINAL, Ask, int32, send_error, string
from .text import StreamedText

#: The engine's words for an end that is an answer; every other is a failure.
ANSWERED = ("stop", "length")


class Job:
    """A request and the sender of its answer.

    The event loop and the thread that looks for departed clients share it: once the last response is
    sent, the sender must not be touched again.
    """

    def __init__(self, ask: Ask, sender: Any) -> None:
        self.ask = ask
        self.result: Any = None
        self.departed = False
        self._sender = sender
        self._text = StreamedText(ask.stops)
        self._pending: list[str] = []
        self._counted = 0
        self._unsent_tokens = 0
        self._closed = False
        self._lock = threading.Lock()

    def look(self) -> bool:
        """Ask Triton once whether the client has left; True the first time that it has."""
        with self._lock:
            if self._closed or self.departed or not self._sender.is_cancelled():
                return False
            self.departed = True
            return True

    def take(self, result: Any) -> bool:
        """Send what is new in the engine's ``result``; False when that was the last.

        Raises:
            RuntimeError: the engine ended the request without an answer.
        """
        output = result.outputs[0]
        reason = output.finish_reason if result.finished else None
        if result.finished and reason not in ANSWERED:
            raise RuntimeError(f"the engine ended the request as {reason}")
        tokens = len(output.token_ids)
        # A stop text may take tokens back in the engine's list; they were generated all the same.
        self._unsent_tokens += max(0, tokens - self._counted)
        self._counted = max(self._counted, tokens)
        piece = self._text.advance(output.text, last=result.finished)
        if self._text.stopped:
            reason = "stop"
        if piece:
            self._pending.append(piece)
        if reason is not None or (self.ask.stream and self._pending):
            self._send(result, reason)
        return reason is None

    def fail(self, message: str, code: int) -> None:
        """End it with an error."""
        with self._lock:
            if not self._closed:
                self._closed = True
                send_error(self._sender, message, code)

    @property
    def generated(self) -> int:
        """How many tokens the engine has generated for it."""
        return self._counted

    def _send(self, result: Any, reason: str | None) -> None:
        text = "".join(self._pending)
        if self.ask.echo and not self.ask.stream:
            text = self.ask.prompt + text
        tensors = [string("text_output", text)]
        if self.ask.count_input:
            tensors.append(int32("num_input_tokens", len(result.prompt_token_ids)))
            tensors.append(int32("num_cached_tokens", int(getattr(result, "cached_tokens", 0) or 0)))
        if self.ask.count_output:
            tensors.append(int32("num_output_tokens", self._unsent_tokens))
        if reason is not None:
            tensors.append(string("finish_reason", reason))
        with self._lock:
            if self._closed:
                return
            self._closed = reason is not None
            self._sender.send(
                pb_utils.InferenceResponse(output_tensors=tensors), flags=FINAL if reason is not None else 0
            )
        self._pending.clear()
        self._unsent_tokens = 0
