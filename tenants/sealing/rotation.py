"""Rotation of the sealing keys while Berth serves: every sealed value is wrapped under the newest key, batch by batch.

A batch is one transaction. Rows that somebody holds are passed over and come again in the next round, so that nobody
waits for the rotation and it waits for nobody; killed, it goes on where it was, for the values themselves say under
which key they rest.
"""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Callable, Iterator
from typing import Any, Final

from django.db.models import F
from django.utils import timezone

from tenants import scope
from tenants.audit import audit
from tenants.errors import Conflict
from tenants.locks import claimed
from tenants.models import SealingRotation
from tenants.sealing.envelope import Head, newest_head, rewrap, seal, unseal
from tenants.sealing.errors import CannotOpen, KeyGone
from tenants.sealing.fields import SealedField
from tenants.sealing.places import Place, SealedValue, head_read, places
from tenants.sealing.providers import provider_of, providers

log = logging.getLogger(__name__)

BATCH: Final = 200
_ROUNDS: Final = 5
_PAUSE_S: Final = 1.0


@dataclasses.dataclass(frozen=True)
class Progress:
    """One batch: of which column, how many were wrapped, and what did not open."""

    column: str
    wrapped: int
    broken: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Rested:
    """How many values of a column rest under one key; ``opens`` says whether the key is there."""

    column: str
    head: Head | None
    values: int
    opens: bool


def secrets_rotate(
    *,
    batch: int = BATCH,
    with_data: bool = False,
    tell: Callable[[Progress], None] = lambda _: None,
) -> SealingRotation:
    """Wrap all that does not rest under the newest key; ``with_data`` encrypts it anew, too.

    Raises:
        Conflict: another rotation runs.
        KeysAway: the sealing keys cannot be had now; what was wrapped stays.
    """
    with claimed("secrets-rotate") as mine:
        if not mine:
            raise Conflict("Another rotation runs; wait until it has ended.")
        return _rotate(batch, with_data, tell)


def secrets_status() -> list[Rested]:
    """Say of each column how many values rest under which key; ``head`` is None for those of an older version."""
    found: list[Rested] = []
    opens: dict[Head | None, bool] = {None: False}
    with scope.platform("count sealed values by key"):
        for place in places():
            for head, count in place.heads().items():
                if head not in opens:
                    opens[head] = head is not None and _holds(head)
                found.append(Rested(place.name, head, count, opens[head]))
    return found


def keys_held() -> list[Head]:
    """Give every key that is set up, those of the sealing provider last and the newest at the end.

    Raises:
        KeysAway: a provider cannot be asked.
    """
    newest = newest_head()
    heads = [Head(each.name, key_id) for each in providers() for key_id in each.key_ids()]
    return [*(head for head in heads if head != newest), newest]


def _rotate(batch: int, with_data: bool, tell: Callable[[Progress], None]) -> SealingRotation:
    newest = newest_head()
    run = SealingRotation.objects.create(provider=newest.provider, key_id=newest.key_id, with_data=with_data)
    left = 0
    for place in places():
        rows = _Rows(place, None if with_data else newest, batch)
        for progress in rows.work():
            if progress.wrapped:
                SealingRotation.objects.filter(id=run.id).update(wrapped=F("wrapped") + progress.wrapped)
            tell(progress)
        left += rows.left
    SealingRotation.objects.filter(id=run.id).update(left=left, ended_at=timezone.now())
    run.refresh_from_db()
    audit(None, "secrets.rotate", key=str(newest), wrapped=run.wrapped, left=run.left, with_data=with_data)
    log.info("sealed values wrapped under %s: %s, left as they are: %s", newest, run.wrapped, run.left)
    return run


class _Rows:
    """The rows of one place that are to be wrapped; without ``newest`` all are, and their values encrypted anew."""

    def __init__(self, place: Place, newest: Head | None, batch: int) -> None:
        self._place, self._newest, self._batch = place, newest, batch
        self._held: list[Any] = []
        self._broken = 0

    @property
    def left(self) -> int:
        """How many rows others held to the end, or hold what does not open."""
        return len(self._held) + self._broken

    def work(self) -> Iterator[Progress]:
        for ids in self._batches():
            yield self._wrap(ids)
        for _ in range(_ROUNDS):
            again, self._held = self._held, []
            if not again:
                return
            time.sleep(_PAUSE_S)
            for start in range(0, len(again), self._batch):
                yield self._wrap(again[start : start + self._batch])

    def _batches(self) -> Iterator[list[Any]]:
        last = None
        while True:
            with scope.platform("wrap sealed values under the newest sealing key"):
                rows = self._place.wanting(self._newest).order_by("pk")
                if last is not None:
                    rows = rows.filter(pk__gt=last)
                ids = list(rows.values_list("pk", flat=True)[: self._batch])
            if not ids:
                return
            yield ids
            last = ids[-1]

    def _wrap(self, ids: list[Any]) -> Progress:
        broken, wrapped = [], 0
        with scope.platform("wrap sealed values under the newest sealing key"):
            wanting = self._place.wanting(self._newest).filter(pk__in=ids)
            rows = list(wanting.select_for_update(skip_locked=True, no_key=True))
            values = [value for row in rows for value in self._place.values(row) if self._stale(value)]
            fresh = self._anew([(value.sealed, value.field) for value in values])
            for value, sealed in zip(values, fresh, strict=True):
                if isinstance(sealed, CannotOpen):
                    broken.append(f"{self._place.table} {value.row.pk}: {sealed}")
                else:
                    self._place.write(value, sealed)
                    wrapped += 1
            done = {row.pk for row in rows}
            self._held += [pk for pk in wanting.values_list("pk", flat=True) if pk not in done]
        self._broken += len(broken)
        return Progress(self._place.name, wrapped, tuple(broken))

    def _stale(self, value: SealedValue) -> bool:
        return self._newest is None or head_read(value.sealed) != self._newest

    def _anew(self, values: list[tuple[bytes, SealedField]]) -> list[bytes | CannotOpen]:
        if self._newest is not None:
            return rewrap(values)
        done: list[bytes | CannotOpen] = []
        for sealed, field in values:
            try:
                done.append(seal(unseal(sealed, field=field), field=field))
            except CannotOpen as error:
                done.append(error)
        return done


def _holds(head: Head) -> bool:
    try:
        return provider_of(head.provider).holds(head.key_id)
    except KeyGone:
        return False
