"""When something that could not be sent is tried again. Plain Python."""

from __future__ import annotations

import datetime as dt
import random
from typing import Final

#: Whoever takes something to send has so long for it; then another may.
LEASE: Final = dt.timedelta(minutes=2)
#: So long something is tried again.
KEEP_TRYING: Final = dt.timedelta(days=3)
_FIRST: Final = dt.timedelta(seconds=5)
_GROWS: Final = 4
_LONGEST: Final = dt.timedelta(hours=12)
_JITTER: Final = 0.2


def next_attempt(
    attempts: int,
    *,
    since: dt.datetime,
    now: dt.datetime,
    at_least: dt.timedelta = dt.timedelta(0),
    luck: random.Random | None = None,
) -> dt.datetime | None:
    """Give when to try again after ``attempts`` that failed, the first at ``since``; None: no more.

    The wait grows from 5 s by the factor 4 to 12 h, and differs by up to a fifth, so that what failed together does
    not come again together. ``at_least`` is what the other side asked for.
    """
    if now - since >= KEEP_TRYING:
        return None
    wait = min(_FIRST * _GROWS ** min(attempts - 1, 10), _LONGEST)
    spread = 1 + _JITTER * (2 * (luck or random).random() - 1)
    return min(now + max(wait * spread, min(at_least, _LONGEST)), since + KEEP_TRYING)
