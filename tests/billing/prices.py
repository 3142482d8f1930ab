"""Prices and GPU time for tests."""

from __future__ import annotations

import datetime as dt
import uuid
from decimal import Decimal

from billing.allocations import allocation_close, allocation_open, label_write
from billing.prices import price_set
from tenants import scope

LONG_AGO = dt.datetime(2025, 1, 1, tzinfo=dt.UTC)


def utc(text: str) -> dt.datetime:
    return dt.datetime.fromisoformat(text).replace(tzinfo=dt.UTC)


def price(kind: str, amount: str, since: dt.datetime = LONG_AGO, currency: str = "EUR", **selectors):
    return price_set(
        kind=kind,
        amount=Decimal(amount),
        currency=currency,
        effective_from=since,
        bootstrap=True,
        **selectors,
    )


def list_prices() -> None:
    """Set a small price list: 3.60 per H100-hour, 0.50 / 1.50 / 0.10 per million tokens."""
    price("gpu_hour", "3.60", gpu_type="h100_sxm")
    price("input_tokens", "0.50", model="guide")
    price("output_tokens", "1.50", model="guide")
    price("cached_tokens", "0.10", model="guide")


def hold(project, endpoint_id: uuid.UUID, start: str, end: str | None, *, gpus: int = 1, **facts):
    """Hold GPUs from ``start`` to ``end`` (UTC, None: still)."""
    replica_id = str(uuid.uuid4())
    with scope.tenant(project.tenant_id):
        allocation = allocation_open(
            project=project,
            endpoint_id=endpoint_id,
            revision_id=uuid.uuid4(),
            replica_id=replica_id,
            started_at=utc(start),
            gpus=gpus,
            **({"cluster": "berlin", "region": "de-1", "gpu_type": "h100_sxm"} | facts),
        )
        if end:
            allocation_close(replica_id=replica_id, ended_at=utc(end))
    return allocation


def label(project, name: str, model: str = "guide", slo_class: str = "standard") -> uuid.UUID:
    """Name a new endpoint and give its id."""
    endpoint_id = uuid.uuid4()
    with scope.tenant(project.tenant_id):
        label_write(project=project, endpoint_id=endpoint_id, name=name, model=model, slo_class=slo_class)
    return endpoint_id
