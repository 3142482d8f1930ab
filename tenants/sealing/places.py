"""Where sealed values rest: columns, and texts within JSON of applications that are not ours."""

from __future__ import annotations

import base64
import binascii
import collections
import dataclasses
from collections.abc import Iterator
from typing import Any, Final, Protocol

from django.apps import apps
from django.db import models
from django.db.models import F, Func, Value

from tenants.sealing.envelope import LONGEST_HEAD, Head, head_of
from tenants.sealing.errors import CannotOpen
from tenants.sealing.fields import SealedField, sealed_columns

_CHUNK: Final = 2_000


@dataclasses.dataclass(frozen=True)
class SealedValue:
    """One value: of which row, and under which key of its JSON, "" in a column."""

    row: models.Model
    sealed: bytes
    field: SealedField
    key: str = ""


class Place(Protocol):
    """Rows that hold sealed values; everything is read and written within an open scope."""

    name: str
    table: str

    def heads(self) -> collections.Counter[Head | None]:
        """Count the values by what they rest under; None: they are of an older version, or broken."""

    def wanting(self, newest: Head | None) -> models.QuerySet[Any]:
        """Give rows that may hold a value which does not rest under ``newest``; all for None."""

    def values(self, row: models.Model) -> Iterator[SealedValue]:
        """Give the values of a row."""

    def write(self, value: SealedValue, sealed: bytes) -> None:
        """Put another sealed value in the place of one."""


def places() -> list[Place]:
    """Give every place of this installation."""
    texts = [
        JsonTexts(label, *rest) for label, rest in _TEXTS.items() if label.split(".")[0] in apps.app_configs
    ]
    return [*(Column(model, field) for model, field in sealed_columns()), *texts]


def texts_are_sealed(label: str, column: str, keys: tuple[str, ...], field: SealedField) -> None:
    """Tell of a model whose JSON holds sealed values as base64 under ``keys``, all bound to the same ``field``."""
    _TEXTS[label] = (column, keys, field)


_TEXTS: dict[str, tuple[str, tuple[str, ...], SealedField]] = {}


class Column:
    """A column of sealed values."""

    def __init__(self, model: type[models.Model], field: str) -> None:
        self._model, self._field = model, field
        self.table = model._meta.db_table
        self.name = f"{self.table}.{field}"

    def heads(self) -> collections.Counter[Head | None]:
        starts = self._rows().values_list(self._start(LONGEST_HEAD), flat=True)
        return collections.Counter(head_read(bytes(start)) for start in starts.iterator(chunk_size=_CHUNK))

    def wanting(self, newest: Head | None) -> models.QuerySet[Any]:
        if newest is None:
            return self._rows()
        head = newest.packed()
        return self._rows().alias(head=self._start(len(head))).exclude(head=head)

    def values(self, row: models.Model) -> Iterator[SealedValue]:
        yield SealedValue(row, bytes(getattr(row, self._field)), SealedField.of(row, self._field))

    def write(self, value: SealedValue, sealed: bytes) -> None:
        self._model._base_manager.filter(pk=value.row.pk).update(**{self._field: sealed})

    def _rows(self) -> models.QuerySet[Any]:
        wanted = {
            "pk",
            self._field,
            *({"tenant_id"} & {each.attname for each in self._model._meta.local_fields}),
        }
        return self._model._base_manager.exclude(**{self._field: None}).order_by().only(*wanted)

    def _start(self, length: int) -> Func:
        return Func(
            F(self._field), Value(1), Value(length), function="substring", output_field=models.BinaryField()
        )


class JsonTexts:
    """Sealed values as base64 within a JSON column."""

    def __init__(self, label: str, column: str, keys: tuple[str, ...], field: SealedField) -> None:
        self._model, self._column, self._keys, self._field = apps.get_model(label), column, keys, field
        self.table = self._model._meta.db_table
        self.name = f"{self.table}.{column}"

    def heads(self) -> collections.Counter[Head | None]:
        rows = self.wanting(None).iterator(chunk_size=_CHUNK)
        return collections.Counter(head_read(value.sealed) for row in rows for value in self.values(row))

    def wanting(self, newest: Head | None) -> models.QuerySet[Any]:
        return self._model._base_manager.filter(**{f"{self._column}__has_any_keys": self._keys})

    def values(self, row: models.Model) -> Iterator[SealedValue]:
        for key in self._keys:
            text = getattr(row, self._column).get(key)
            if isinstance(text, str):
                yield SealedValue(row, _decoded(text), self._field, key)

    def write(self, value: SealedValue, sealed: bytes) -> None:
        content = getattr(value.row, self._column)
        content[value.key] = base64.b64encode(sealed).decode()
        self._model._base_manager.filter(pk=value.row.pk).update(**{self._column: content})


def head_read(start: bytes) -> Head | None:
    """Read a head, None where it is none."""
    try:
        return head_of(start)
    except CannotOpen:
        return None


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        return b""
