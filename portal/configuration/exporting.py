"""What there is, as documents."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from portal.configuration.applier import Applier
from portal.configuration.kinds import KINDS
from portal.configuration.places import Place, row_id
from portal.configuration.writing import document


def configuration_export(*, place: Place, by: Applier, kinds: Collection[str] = ()) -> list[dict[str, Any]]:
    """Give the documents of a place that ``by`` may read, in the order in which they can be applied; of all kinds, or
    of those named. Applying them changes nothing."""
    found = []
    with place.opened():
        kept = place.records.values_list("kind", "object_id", "name", "owner")
        owners = {(kind, object_id or name): owner for kind, object_id, name, owner in kept}
        for kind in KINDS.values():
            if kind.of_tenants != bool(place.tenant_id) or (kinds and kind.name not in kinds):
                continue
            if not by.may(kind.view):
                continue
            for row in kind.rows():
                name = kind.name_of(row)
                metadata = {
                    "name": name,
                    "tenant": place.tenant,
                    "project": kind.project_of(row),
                    "owner": owners.get((kind.name, row_id(row))) or owners.get((kind.name, name), ""),
                }
                found.append(document(kind.name, metadata, kind.spec(row)))
    return found
