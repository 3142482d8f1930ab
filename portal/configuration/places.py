"""Where documents belong: the platform, or a tenant; and what was applied there before."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import uuid
from collections.abc import Iterator, Mapping
from typing import Any

from django.utils import timezone

from clusters.models import AppliedObject, AppliedPlatformObject
from portal.configuration.applier import Applier
from portal.configuration.documents import Document
from portal.configuration.writing import plain
from tenants import scope


@dataclasses.dataclass(frozen=True)
class Place:
    """A tenant by slug and id, or with neither the platform."""

    tenant: str = ""
    tenant_id: uuid.UUID | None = None

    @property
    def records(self) -> Any:
        """What was applied here."""
        return (AppliedObject if self.tenant_id else AppliedPlatformObject).objects

    @contextlib.contextmanager
    def opened(self) -> Iterator[None]:
        """Work here for the length of the block."""
        # The platform's scope is open already: through the audited door, or by a command.
        with scope.tenant(self.tenant_id) if self.tenant_id else contextlib.nullcontext():
            yield

    def record_of(self, kind: str, name: str, row: Any) -> Any | None:
        """Give what is kept of an object: by its row, else by its name, unless that is of an object that is gone."""
        records, id = self.records.filter(kind=kind), row_id(row)
        if id is not None and (found := records.filter(object_id=id).first()):
            return found
        named = records.filter(name=name).first()
        return None if named is None or is_of_another(named, row) else named

    def remember(self, document: Document, row: Any, *, record: Any | None, owner: str, by: Applier) -> None:
        """Keep that a document was applied; what was kept already, ``record``, is left alone."""
        facts = {
            "name": document.name,
            "owner": owner or (record.owner if record else ""),
            "digest": digest(document),
            "object_id": row_id(row),
        }
        if record is not None and all(getattr(record, name) == value for name, value in facts.items()):
            return
        if record is None or record.name != document.name:
            # What is left of an object of this name that is gone.
            self.records.filter(kind=document.kind, name=document.name).delete()
        record = record or self.records.model(kind=document.kind)
        for name, value in facts.items():
            setattr(record, name, value)
        record.applied_at, record.applied_as = timezone.now(), by.actor[:120]
        record.save()


def row_id(row: Any) -> uuid.UUID | None:
    """Give the id by which an object is known again; None of what holds without a row, as the advisor's policy may."""
    unsaved = getattr(getattr(row, "_state", None), "adding", False)  # its id would be another each time
    return None if unsaved else getattr(row, "id", None)


def is_of_another(record: Any, row: Any) -> bool:
    """Whether what is kept is of another object than the one that has its name now."""
    id = row_id(row)
    return record.object_id is not None and id is not None and record.object_id != id


def digest(document: Document) -> str:
    """Give the digest of what a document says, however it is written."""
    said: Mapping[str, Any] = {
        "kind": document.kind, "name": document.name, "project": document.project, "spec": plain(document.spec),
    }  # fmt: skip
    text = json.dumps(said, sort_keys=True, separators=(",", ":"), default=_number)
    return hashlib.sha256(text.encode()).hexdigest()


def _number(value: Any) -> float:
    return float(value)
