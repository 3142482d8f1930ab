"""What a report is asked for: a span of time in buckets, what to tell apart, what to narrow to."""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
import uuid
from collections.abc import Mapping
from typing import Any, Final

from django.db.models import QuerySet

from billing.buckets import LENGTHS, Width
from billing.quantities import DAY, HOUR, round_down, round_up
from tenants.errors import Invalid
from tenants.models import Tenant

#: How long a span may be at most.
LONGEST: Final = 1_100 * DAY
LONGEST_BY: Final = {Width.HOUR: 8 * DAY, Width.DAY: 400 * DAY, Width.MONTH: LONGEST}
#: Days of all tenants' endpoints that are read one by one; past that, months are.
LONGEST_OF_ALL_BY_DAY: Final = 35 * DAY

#: UTC hours, UTC days, and calendar months of UTC.
WIDTHS: Final = (Width.HOUR, Width.DAY, Width.MONTH)

#: Groups that are told apart; the others are given as one.
USUAL_MOST: Final = 12
MOST: Final = 100
#: Buckets times groups that are told at most: every one is a row of the answer.
MOST_POINTS: Final = 1_300


class Dimension(enum.StrEnum):
    """What sums may be told apart by."""

    CLUSTER = "cluster"
    POOL = "pool"
    GPU_TYPE = "gpu_type"
    TENANT = "tenant"
    PROJECT = "project"
    ENDPOINT = "endpoint"
    MODEL = "model"
    SLO_CLASS = "slo_class"

    @property
    def label(self) -> str:
        """Give its name for people."""
        return {"gpu_type": "GPU type", "slo_class": "SLO class"}.get(self.value, self.value.capitalize())

    @property
    def columns(self) -> tuple[str, ...]:
        """Give the columns that make one of its groups."""
        return _COLUMNS.get(self, (self.value,))


_COLUMNS: Final = {
    Dimension.POOL: ("cluster", "pool"),
    Dimension.TENANT: ("tenant_id",),
    Dimension.PROJECT: ("tenant_id", "project_id"),
    Dimension.ENDPOINT: ("tenant_id", "endpoint_id"),
}
#: Columns that the rows of pools have, and those of models.
OF_POOLS: Final = frozenset({"cluster", "pool", "gpu_type"})
OF_MODELS: Final = frozenset({"model", "slo_class", "gpu_type"})
TEXTS: Final = ("cluster", "pool", "gpu_type", "model", "slo_class")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Asked:
    """A checked question. ``[start, end)`` are whole buckets; ``narrowed`` are columns and the value they must have.

    ``within`` are names of clusters beyond which nothing is told; None: of every one.
    """

    start: dt.datetime
    end: dt.datetime
    width: Width
    group_by: tuple[Dimension, ...] = ()
    narrowed: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    within: frozenset[str] | None = None
    most: int = USUAL_MOST

    @property
    def columns(self) -> tuple[str, ...]:
        """Give the columns of its groups, each once."""
        return tuple(dict.fromkeys(name for each in self.group_by for name in each.columns))

    @property
    def needed(self) -> frozenset[str]:
        """Give the columns that rows must have to answer."""
        needed = frozenset(self.columns) | frozenset(self.narrowed)
        return needed if self.within is None else needed | {"cluster"}

    @property
    def buckets(self) -> list[dt.datetime]:
        """Give the starts of its buckets."""
        found, at = [], self.start
        while at < self.end:
            found.append(at)
            at = next_bucket(at, self.width)
        return found


def ask(
    *,
    start: dt.datetime,
    end: dt.datetime,
    width: Width | str | None = None,
    group_by: tuple[Dimension, ...] = (),
    narrowed: Mapping[str, Any] | None = None,
    within: frozenset[str] | None = None,
    most: int = USUAL_MOST,
) -> Asked:
    """Check a question and round its span outward to whole buckets.

    ``width`` None chooses: hours up to two days, months where days would be too many, else days.

    Raises:
        Invalid: the span is empty or too long for its buckets; the message says what to choose instead.
    """
    narrowed = {name: value for name, value in (narrowed or {}).items() if value not in (None, "")}
    if start >= end:
        raise Invalid("The start must be before the end.", errors={"start": ["Choose an earlier start."]})
    if end - start > LONGEST:
        text = f"Ask for at most {LONGEST.days} days at once."
        raise Invalid(text, errors={"start": [text]})
    if not 1 <= most <= MOST:
        raise Invalid(f"1 to {MOST} groups are told apart.", errors={"limit": [f"Choose 1 to {MOST}."]})
    columns = {name for each in group_by for name in each.columns} | set(narrowed)
    if within is not None:
        columns.add("cluster")
    of_all = not (columns <= OF_POOLS or columns <= OF_MODELS) and not _of_one(narrowed)
    limits = _Limits(
        of_all=of_all, hourly=columns <= OF_POOLS or _of_one(narrowed), groups=most + 1 if group_by else 1
    )
    wide = _known(width) if width else limits.finest(end - start)
    limits.check(wide, end - start)
    return Asked(
        start=bucket_of(start, wide),
        end=_round_up(end, wide),
        width=wide,
        group_by=group_by,
        narrowed=narrowed,
        within=within,
        most=most,
    )


def _known(width: str) -> Width:
    if width not in WIDTHS:
        raise Invalid(
            f"{width} is no width of a bucket here; choose one of {', '.join(WIDTHS)}.",
            errors={"bucket_width": [f"Choose one of {', '.join(WIDTHS)}."]},
        )
    return Width(width)


def _of_one(narrowed: Mapping[str, Any]) -> bool:
    return "tenant_id" in narrowed


@dataclasses.dataclass(frozen=True)
class _Limits:
    """What can be told at once: ``of_all``: rows of all tenants' endpoints are read; ``hourly``: hours are known."""

    of_all: bool
    hourly: bool
    groups: int

    def finest(self, span: dt.timedelta) -> Width:
        """Give hours up to two days, else the finest width that can be told."""
        fitting = [width for width in WIDTHS if not self._complaint(width, span)]
        return next((width for width in fitting if width != Width.HOUR or span <= 2 * DAY), Width.MONTH)

    def check(self, width: Width, span: dt.timedelta) -> None:
        """Refuse what cannot be told.

        Raises:
            Invalid: the message says what to choose instead.
        """
        complaint = self._complaint(width, span)
        if complaint:
            raise Invalid(complaint, errors={"bucket_width": [complaint]})

    def _complaint(self, width: Width, span: dt.timedelta) -> str:
        if width == Width.HOUR and not self.hourly:
            return "By hour only cluster, pool and GPU type are told apart, or one tenant; choose a tenant or 1d."
        if span > LONGEST_BY[width] + HOUR:
            return f"By {width} at most {LONGEST_BY[width].days} days are given; choose a longer bucket."
        if width == Width.DAY and self.of_all and span > LONGEST_OF_ALL_BY_DAY + HOUR:
            return f"By day at most {LONGEST_OF_ALL_BY_DAY.days} days of all tenants are given; choose one, or 1M."
        if width != Width.MONTH and (span / LENGTHS[width]) * self.groups > MOST_POINTS + self.groups:
            return (
                f"At most {MOST_POINTS:,} points are told: choose a longer bucket, a shorter span, or fewer groups"
                " by limit."
            )
        return ""


def bucket_of(at: dt.datetime, width: Width) -> dt.datetime:
    """Give the start of the bucket that holds ``at``, in UTC."""
    at = at.astimezone(dt.UTC)
    if width == Width.MONTH:
        return at.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    return round_down(at, HOUR if width == Width.HOUR else DAY)


def next_bucket(at: dt.datetime, width: Width) -> dt.datetime:
    """Give the start of the bucket after the one that begins at ``at``."""
    if width == Width.MONTH:
        return (at + 32 * DAY).replace(day=1)
    return at + (HOUR if width == Width.HOUR else DAY)


def _round_up(at: dt.datetime, width: Width) -> dt.datetime:
    if width == Width.MONTH:
        begun = bucket_of(at, width)
        return begun if begun == at else next_bucket(begun, width)
    return round_up(at.astimezone(dt.UTC), HOUR if width == Width.HOUR else DAY)


def narrowed_by(given: Mapping[str, str], *, tenants: QuerySet[Tenant] | None = None) -> dict[str, Any]:
    """Give the columns to narrow to from texts as a person or script names them: a tenant by its slug.

    A project or endpoint that is named narrows to its tenant too where that is named; unknown names are refused.
    ``tenants`` are those that may be named (default: all).

    Raises:
        Invalid: a tenant is unknown, or an id is none.
    """
    found: dict[str, Any] = {name: given[name] for name in TEXTS if given.get(name)}
    errors: dict[str, list[str]] = {}
    if slug := given.get("tenant"):
        tenant = (Tenant.objects.all() if tenants is None else tenants).filter(slug=slug).first()
        if tenant is None:
            errors["tenant"] = [f"There is no tenant {slug}."]
        else:
            found["tenant_id"] = tenant.id
    for name in ("project", "endpoint"):
        if text := given.get(name):
            try:
                found[f"{name}_id"] = uuid.UUID(text)
            except ValueError:
                errors[name] = [f"{text} is no id of a {name}; copy it from its page."]
    if errors:
        raise Invalid(next(iter(errors.values()))[0], errors=errors)
    return found
