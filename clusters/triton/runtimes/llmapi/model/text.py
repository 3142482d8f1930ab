"""From all text so far to what may be sent now: stop texts and their beginnings are held back."""

from __future__ import annotations

from collections.abc import Sequence


class StreamedText:
    """Takes the whole text again and again as it grows; gives each piece once.

    The engine's own stop words are matched as tokens, so that a text spelled by other tokens goes
    through; here the text itself is searched.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stop for stop in stops if stop)
        self._sent = 0
        self.stopped = False

    def advance(self, text: str, *, last: bool) -> str:
        """Give what is new in ``text``; after a stop text, set :attr:`stopped` and give nothing more."""
        if self.stopped:
            return ""
        end = self._first_stop(text)
        if end is not None:
            self.stopped = True
        elif last:
            end = len(text)
        else:
            # A character may still be incomplete, a stop text may have begun.
            whole = text.rstrip("\ufffd")
            end = len(whole) - max((_overlap(whole, stop) for stop in self._stops), default=0)
        piece = text[self._sent : end]
        self._sent = max(self._sent, end)
        return piece

    def _first_stop(self, text: str) -> int | None:
        # What was sent held no stop text and none that had begun.
        found = [at for stop in self._stops if (at := text.find(stop, self._sent)) >= 0]
        return min(found, default=None)


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of ``text`` that begins ``stop``."""
    for length in range(min(len(text), len(stop) - 1), 0, -1):
        if text.endswith(stop[:length]):
            return length
    return 0
