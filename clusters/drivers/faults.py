"""What the fault injector asks of a driver: a plan of what is done, and of what takes it back, before anything is."""

from __future__ import annotations

import dataclasses
import enum
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from embedded.faults.errors import Refused
from embedded.faults.journal import Fault

__all__ = ["FaultDriver", "Kind", "Plan", "Refused", "Wish"]


class Kind(enum.StrEnum):
    """The faults that can be practised."""

    KILL = "kill"
    PAUSE = "pause"
    CUT = "cut"
    SLOW = "slow"
    FILL = "fill-disk"
    GPU = "gpu-fault"
    REGION = "region-lost"

    @property
    def lasts(self) -> bool:
        """Whether it is a state that ends, and no single act."""
        return self is not Kind.KILL


@dataclasses.dataclass(frozen=True, kw_only=True)
class Wish:
    """What is to be done to what. ``target`` is a word and, after a colon, a name; see ``manage.py fault --help``.

    ``seconds`` is how long it lasts, ``delay_s`` how late a slow wire is. ``whole`` means all that the target names,
    not one of it picked by ``rng``.
    """

    kind: Kind
    target: str
    seconds: float
    delay_s: float = 0.2
    whole: bool = False
    rng: random.Random = dataclasses.field(default_factory=random.Random, compare=False)

    @property
    def word(self) -> str:
        return self.target.partition(":")[0]

    @property
    def name(self) -> str:
        return self.target.partition(":")[2]

    def among(self, found: Sequence[Any]) -> list[Any]:
        """Give all that was found, or one of it."""
        return list(found) if self.whole else [self.rng.choice(found)]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """``told`` says for people what happens; ``do`` does it; ``undo`` is what :meth:`FaultDriver.undo` takes back.

    ``hold`` is called again and again while it lasts, where somebody puts right what was done.
    """

    told: str
    do: Callable[[], None]
    undo: Sequence[Mapping[str, Any]] = ()
    hold: Callable[[], None] | None = None


class FaultDriver(Protocol):
    """One kind of cluster, or this machine."""

    def plan(self, wish: Wish) -> Plan:
        """Say how a fault would be done; nothing is done yet.

        Raises:
            Refused: it cannot be done here; the message says why and what to do instead.
        """

    def undo(self, fault: Fault) -> None:
        """Take back what a plan's steps say, as far as it is there. May be repeated."""
