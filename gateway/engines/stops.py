"""Stop texts cut exactly, wherever they begin and end: for engines that match them as tokens."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.engines.base import Delta, EngineStream


class StopCut:
    """An answer up to its first stop text, of each of ``choices``.

    What may be the beginning of one is held back until the next piece tells. An answer whose choices have all met
    one ends there, and the engine is let go.
    """

    def __init__(self, stream: EngineStream, stops: Sequence[str], *, choices: int) -> None:
        self._stream = stream
        self._stops = stops
        self._choices = choices
        self._held: dict[int, str] = {}
        self._stopped: set[int] = set()
        self._last: Delta | None = None

    def __aiter__(self) -> StopCut:
        return self

    async def __anext__(self) -> Sequence[Delta]:
        if len(self._stopped) == self._choices:
            raise StopAsyncIteration
        try:
            deltas = [self._cut(delta) for delta in await self._stream.__anext__()]
        except StopAsyncIteration:
            # An engine that gives no reason to end leaves what was held back.
            held, self._held = self._held, {}
            if not held or self._last is None:
                raise
            return [
                self._last._replace(text=text, output_tokens=0, choice=index, more=None, logprobs=None)
                for index, text in held.items()
            ]
        if len(self._stopped) == self._choices:
            self._stream.close()
        self._last = deltas[-1]
        return deltas

    def close(self) -> None:
        """Let go of the engine at once."""
        self._stream.close()

    def _cut(self, delta: Delta) -> Delta:
        index = delta.choice
        if index in self._stopped:
            return delta._replace(text="", finish_reason=None, more=None, logprobs=None)
        text = self._held.pop(index, "") + delta.text
        # The first to be complete, which does not depend on how the text is cut into pieces.
        found = [(at + len(stop), at) for stop in self._stops if (at := text.find(stop)) >= 0]
        if found:
            self._stopped.add(index)
            return delta._replace(text=text[: min(found)[1]], finish_reason="stop")
        if delta.finish_reason is None and (keep := max(overlap(text, stop) for stop in self._stops)):
            self._held[index] = text[-keep:]
            text = text[:-keep]
        return delta._replace(text=text)


def overlap(text: str, stop: str) -> int:
    """Give the length of the longest end of ``text`` that begins ``stop`` without being all of it."""
    for length in range(min(len(text), len(stop) - 1), 0, -1):
        if text.endswith(stop[:length]):
            return length
    return 0
