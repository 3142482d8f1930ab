"""Hours of GPU time for tests, as the platform keeps them."""

from __future__ import annotations

import datetime as dt
import uuid
from decimal import Decimal

from billing.models import HeldHour
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
    with scope.tenant(project.tenant_id):
        HeldHour.objects.create(
            tenant_id=project.tenant_id, bucket=at.replace(minute=0, second=0, microsecond=0), cluster="berlin",
            region=region, pool="main", gpu_type=gpu_type, project_id=project.id, endpoint_id=endpoint_id,
            revision_id=uuid.UUID(int=4), serving=Decimal(serving), idle=Decimal(idle), held=Decimal(serving + idle),
        )  # fmt: skip
