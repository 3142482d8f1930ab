"""How endpoints of a class change what they run: the class's policy, as each rollout keeps it."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Mapping
from typing import Any, Final

from clusters.endpoints.rollouts.judging import Tolerances
from clusters.models import OnLittleTraffic, SloClass

_WEEK: Final = (0, 1, 2, 3, 4, 5, 6)
_HOUR: Final = dt.timedelta(hours=1)
_DAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")


@dataclasses.dataclass(frozen=True, kw_only=True)
class RolloutPolicy:
    """The policy of a class at one moment; see the fields ``rollout_*`` of :class:`clusters.models.SloClass`."""

    ways: tuple[str, ...]
    days: tuple[int, ...] = ()
    from_hour: int = 0
    until_hour: int = 24
    steps: tuple[int, ...] = ()
    step_s: int = 0
    requests: int = 200
    patience_s: int = 3600
    little_traffic: str = OnLittleTraffic.HOLD
    start_s: int = 3600
    ttft_factor: float | None = None
    itl_factor: float | None = None
    error_points: float | None = None
    cost_factor: float | None = None
    ttft_p95_ms: int | None = None
    itl_p95_ms: int | None = None

    @classmethod
    def of(cls, slo_class: SloClass) -> RolloutPolicy:
        """Read the policy of a class."""
        own = {"ttft_p95_ms", "itl_p95_ms"}
        values = {
            field.name: getattr(slo_class, field.name if field.name in own else f"rollout_{field.name}")
            for field in dataclasses.fields(cls)
        }
        return cls(**{name: tuple(v) if isinstance(v, list) else v for name, v in values.items()})

    def to_document(self) -> dict[str, Any]:
        """Give it as JSON-ready builtins."""
        return {name: list(v) if isinstance(v, tuple) else v for name, v in dataclasses.asdict(self).items()}

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> RolloutPolicy:
        """Read what :meth:`to_document` gave; what an earlier version did not know is as by default."""
        known = {field.name for field in dataclasses.fields(cls)}
        return cls(**{n: tuple(v) if isinstance(v, list) else v for n, v in document.items() if n in known})

    @property
    def tolerances(self) -> Tolerances:
        return Tolerances(
            requests=self.requests,
            ttft_factor=self.ttft_factor,
            itl_factor=self.itl_factor,
            error_points=self.error_points,
            cost_factor=self.cost_factor,
            ttft_target_ms=self.ttft_p95_ms,
            itl_target_ms=self.itl_p95_ms,
        )

    def is_open(self, now: dt.datetime) -> bool:
        """Say whether what runs may be replaced with an outage at ``now``."""
        moment = now.astimezone(dt.UTC)
        days, hour = self.days or _WEEK, moment.hour
        if self.from_hour < self.until_hour:
            return moment.weekday() in days and self.from_hour <= hour < self.until_hour
        if hour >= self.from_hour:
            return moment.weekday() in days
        # After midnight the window is still that of the day before.
        return hour < self.until_hour and (moment.weekday() - 1) % 7 in days

    def opens_at(self, now: dt.datetime) -> dt.datetime:
        """Give when the window is open next: ``now`` if it is."""
        if self.is_open(now):
            return now
        moment = now.astimezone(dt.UTC).replace(minute=0, second=0, microsecond=0) + _HOUR
        while not self.is_open(moment):
            moment += _HOUR
        return moment

    @property
    def window(self) -> str:
        """Say when what runs may be replaced with an outage."""
        whole_day = (self.from_hour, self.until_hour) == (0, 24)
        days = ", ".join(_DAYS[day] for day in sorted(self.days)) if self.days else "every day"
        if whole_day:
            return "at any time" if not self.days else days
        return f"{days}, {self.from_hour:02d}:00 to {self.until_hour:02d}:00 UTC"
