"""GPU time of endpoints for tests, as the platform keeps it."""

from __future__ import annotations

import datetime as dt
import uuid
from decimal import Decimal

from billing.models import HeldDay, HeldHour
from tenants import scope


def held_hour(
    project,
    endpoint_id: uuid.UUID,
    at: dt.datetime,
    *,
    idle: int = 0,
    serving: int = 0,
    gpu_type: str = "h100_sxm",
    region: str = "de-1",
) -> None:
    """Keep what an endpoint did with its GPUs in the hour of ``at``, in GPU-seconds."""
    hour = at.replace(minute=0, second=0, microsecond=0)
    facts = {
        "tenant_id": project.tenant_id, "cluster": "berlin", "region": region, "pool": "main", "gpu_type": gpu_type,
        "project_id": project.id, "endpoint_id": endpoint_id, "revision_id": uuid.UUID(int=4),
    }  # fmt: skip
    with scope.tenant(project.tenant_id):
        for model, bucket in ((HeldHour, hour), (HeldDay, hour.replace(hour=0))):
            row = model.objects.filter(**facts, bucket=bucket).first() or model(**facts, bucket=bucket)
            row.serving += Decimal(serving)
            row.idle += Decimal(idle)
            row.held += Decimal(serving + idle)
            row.save()
