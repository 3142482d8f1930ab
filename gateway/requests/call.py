"""A checked request, whatever door it came through."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from gateway import errors
from gateway.contract import Endpoint
from gateway.engines.base import EngineRequest


class ChatMessage(msgspec.Struct, frozen=True):
    """One message as the chat template sees it."""

    role: str
    content: str


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """A checked request. Exactly one of ``messages`` and ``prompt`` is set.

    ``needs`` are the features that its engine must have, each with the parameter that asks for it. Where the engine
    makes the prompt itself, ``prompt`` is all the text that goes into it, and ``overhead_tokens`` are the most that
    the engine may add; ``inputs`` is into how many prompts the text is divided.
    """

    model: str
    stream: bool
    include_usage: bool
    max_tokens: int | None
    max_tokens_field: str
    sampling: EngineRequest  # its prompt and max_tokens are still to be filled in
    messages: tuple[ChatMessage, ...] | None = None
    prompt: str | None = None
    needs: Mapping[str, str] = {}
    overhead_tokens: int = 0
    inputs: int = 1

    @property
    def is_chat(self) -> bool:
        """Whether the answer is a message."""
        return self.messages is not None or self.sampling.chat is not None

    def output_limit(self, endpoint: Endpoint, *, room: int = 0) -> int:
        """Give the tokens that may be generated for each choice.

        Where the client named no number it is the endpoint's output cap, cut to ``room``, what the context surely
        leaves beside the prompt, but not below the endpoint's default: where the prompt's tokens are not counted
        exactly, more may fit than is sure.

        Raises:
            ApiError: more were asked for than ``endpoint`` allows (400).
        """
        if self.sampling.embedding is not None:
            return 0
        allowed = min(endpoint.max_output_tokens, endpoint.context_tokens)
        if self.max_tokens is None:
            return max(min(endpoint.default_max_tokens, allowed), min(allowed, room))
        if self.max_tokens > allowed:
            raise errors.invalid(
                f"{self.max_tokens_field} is {self.max_tokens} but endpoint {endpoint.name} allows at most"
                f" {allowed} (context {endpoint.context_tokens}).",
                param=self.max_tokens_field,
                code="max_tokens_too_large",
            )
        return self.max_tokens
