"""The terms of an order as rollouts and revisions keep them, and taking them back into the order."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping
from typing import Any, Final

from clusters.endpoints.planning import OrderTerms
from clusters.models import CatalogModel, Cluster, Endpoint, Rollout

#: What no change of an endpoint touches: gateways, labels and prices go by it.
FIXED: Final = ("slo_class", "residency", "certifications")
#: What engines are started with, and what an earlier revision is run again with.
OF_ENGINES: Final = ("model", "context_tokens", "output_limit", "pins", "approved_precisions")


def terms_document(endpoint: Endpoint) -> dict[str, Any]:
    """Give the terms of an order that changes may touch, as JSON-ready builtins."""
    values = OrderTerms.of(endpoint).to_fields()
    return {
        name: value.name if isinstance(value, CatalogModel | Cluster) else value
        for name, value in values.items()
        if name not in FIXED
    }


def terms_take(endpoint: Endpoint, document: Mapping[str, Any]) -> list[str]:
    """Set the terms of an order to kept ones; give the fields that changed. It is not saved.

    What is in the catalog or the estate no more stays as it is.
    """
    known = {field.name for field in dataclasses.fields(OrderTerms)} - set(FIXED)
    changed = []
    for name, kept in document.items():
        if name not in known:
            continue
        value = kept
        if name == "model":
            value = CatalogModel.objects.filter(name=kept).first()
            if value is None:
                continue
        elif name == "cluster" and kept is not None:
            value = Cluster.objects.present().filter(name=kept).first()
        if getattr(endpoint, name) != value:
            setattr(endpoint, name, value)
            changed.append(name)
    return changed


def terms_running(endpoint: Endpoint) -> dict[str, Any]:
    """Give the terms of what serves: those before a change that is under way, else the order's."""
    active = Rollout.objects.active().filter(endpoint=endpoint).first()
    return active.back if active else terms_document(endpoint)


def as_served(endpoint: Endpoint, rollout: Rollout | None) -> Endpoint:
    """Give the endpoint, unsaved, as gateways are to tell of it: as what serves until a rollout is promoted."""
    if rollout is None:
        return endpoint
    before = {
        name: rollout.back[name] for name in ("model", "context_tokens", "output_limit") if rollout.back
    }
    now = terms_document(endpoint)
    if all(now[name] == kept for name, kept in before.items()):
        return endpoint
    shown = copy.copy(endpoint)
    terms_take(shown, before)
    return shown
