"""Which value of which row is sealed: what it is bound to, and the register of all sealed columns."""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import Iterator
from typing import Any

from django.apps import apps
from django.db import models

_NO_TENANT = "platform"
_SEPARATOR = "|"


@dataclasses.dataclass(frozen=True)
class SealedField:
    """One value in the database; ``tenant`` is None for rows of the platform."""

    tenant: uuid.UUID | str | None
    table: str
    row: uuid.UUID | str | int
    field: str

    @classmethod
    def of(cls, row: models.Model, field: str) -> SealedField:
        """Give the column ``field`` of a row, which need not be saved yet."""
        tenant = getattr(row, "tenant_id", None)
        return cls(tenant, row._meta.db_table, row.pk, field)

    @property
    def binding(self) -> bytes:
        """What a sealed value is bound to: tenant | table | row | field.

        Raises:
            ValueError: a part is missing, or would run into the next one.
        """
        parts = [str(self.tenant or _NO_TENANT), self.table, str(self.row), self.field]
        if self.row is None or any(not part or _SEPARATOR in part for part in parts):
            raise ValueError(f"Nothing can be bound to {self}.")
        return _SEPARATOR.join(parts).encode()


class SealedBinaryField(models.BinaryField):
    """A column of sealed values. In the database it is plain bytes."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **{"editable": False} | options)

    def deconstruct(self) -> tuple[str, str, Any, Any]:
        name, _, args, options = super().deconstruct()
        return name, "django.db.models.BinaryField", args, options


def sealed_columns() -> Iterator[tuple[type[models.Model], str]]:
    """Give model and field of every sealed column of this installation."""
    for model in sorted(apps.get_models(), key=lambda model: model._meta.db_table):
        for field in model._meta.local_fields:
            if isinstance(field, SealedBinaryField):
                yield model, field.column
