"""One request's prompt, as each endpoint that it may go to would be asked it, and how long that is."""

from __future__ import annotations

from gateway import chat_template, errors
from gateway.contract import Endpoint
from gateway.requests import Call
from gateway.tokens import Count, TokenCounter


class Prompts:
    """Renders and counts once for each endpoint."""

    def __init__(self, call: Call, counter: TokenCounter) -> None:
        self._call = call
        self._counter = counter
        self._texts: dict[str, str] = {}
        self._counts: dict[str, Count] = {}

    def text(self, endpoint: Endpoint) -> str:
        """Give the prompt in ``endpoint``'s chat template.

        Raises:
            ApiError: the template turns the messages away (400), or is itself wrong (500).
        """
        if self._call.prompt is not None:
            return self._call.prompt
        text = self._texts.get(endpoint.endpoint_id)
        if text is None:
            assert self._call.messages is not None
            text = self._texts[endpoint.endpoint_id] = chat_template.render(endpoint, self._call.messages)
        return text

    async def count(self, endpoint: Endpoint) -> Count:
        """Count the prompt with ``endpoint``'s tokenizer.

        Raises:
            ApiError: as :meth:`text` does.
        """
        count = self._counts.get(endpoint.endpoint_id)
        if count is None:
            text = self.text(endpoint)
            count = self._counts[endpoint.endpoint_id] = await self._counter.count(endpoint, text)
        return count

    async def about(self, endpoint: Endpoint) -> int:
        """Give the tokens of the prompt for rules, even where ``endpoint``'s template does not take it."""
        try:
            return (await self.count(endpoint)).tokens
        except errors.ApiError:
            plain = "\n".join(message.content for message in self._call.messages or ())
            return (await self._counter.count(endpoint, plain)).tokens
