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

    def remember(self, document: Document, row: Any, *, owner: str, by: Applier) -> None:
        """Keep that a document was applied; what was kept already is left alone."""
        record = self.records.filter(kind=document.kind, name=document.name).first()
        facts = {"owner": owner or (record.owner if record else ""), "digest": digest(document)}
        # Of what holds without a row, the policy of the advisor for one, an id would be another each time.
        unsaved = getattr(getattr(row, "_state", None), "adding", False)
        facts["object_id"] = None if unsaved else getattr(row, "id", None)
        if record is not None and all(getattr(record, name) == value for name, value in facts.items()):
            return
        record = record or self.records.model(kind=document.kind, name=document.name)
        for name, value in facts.items():
            setattr(record, name, value)
        record.applied_at, record.applied_as = timezone.now(), by.actor[:120]
        record.save()


def digest(document: Document) -> str:
    """Give the digest of what a document says, however it is written."""
    said: Mapping[str, Any] = {
        "kind": document.kind, "name": document.name, "project": document.project, "spec": plain(document.spec),
    }  # fmt: skip
    text = json.dumps(said, sort_keys=True, separators=(",", ":"), default=_number)
    return hashlib.sha256(text.encode()).hexdigest()


def _number(value: Any) -> float:
    return float(value)
