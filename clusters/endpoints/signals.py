"""How endpoints stand at gateways right now: taken as these tell it, and added up for who looks."""

from __future__ import annotations

import dataclasses
import datetime as dt
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import zip_longest
from typing import Final

import msgspec
from django.db import connection
from django.db.models import Q
from django.utils import timezone

from billing.metering.rollups import quantile_ms
from clusters.models import Endpoint, EndpointScaling, EndpointSignal, Gateway, Wanted
from clusters.planning.residency import residency_allows
from gateway import contract
from tenants import scope
from tenants.models import Tenant

FRESH: Final = dt.timedelta(seconds=contract.SIGNAL_STALE_S)
#: Rows that nobody writes any more, of processes that are gone, stay no longer than this.
FORGOTTEN: Final = dt.timedelta(hours=1)

#: So soon an endpoint is looked at that a gateway tells of.
LOOK_WITHIN: Final = dt.timedelta(seconds=5)

_TOLD: Final = tuple(field for field in contract.EndpointSignal.__struct_fields__ if field != "endpoint_id")


@dataclasses.dataclass(frozen=True, kw_only=True)
class EndpointNow:
    """One endpoint over all gateways: now, and the last minute. ``signals`` are those of each process.

    ``oldest_wait_s``, ``shed`` and the percentiles are of requests of its own class, everything else of all.
    Times are None where no request tells one, ``heard_at`` where no gateway told anything.
    """

    heard_at: dt.datetime | None
    in_flight: int
    queued: dict[str, int]
    oldest_wait_s: float
    requests: int
    shed: int
    refused: int
    failed: int
    input_tokens: int
    output_tokens: int
    cached_tokens: int
    ttft_p95_ms: float | None
    itl_p95_ms: float | None
    queue_mean_ms: float | None
    prefill_mean_ms: float | None
    decode_mean_ms: float | None
    kv_pressure: int
    signals: tuple[EndpointSignal, ...]


def keep_signals(*, gateway: Gateway, message: contract.EndpointSignals, now: dt.datetime) -> int:
    """Keep the newest signal of each endpoint that may pass the gateway's region; return how many those were.

    One statement writes them all. Signals of any other endpoint are left: it may have gone meanwhile.
    """
    instance = message.gateway.partition("/")[2]
    told = {found: signal for signal in message.signals if (found := _uuid(signal.endpoint_id))}
    with scope.platform(f"signals of gateway {gateway.name}"):
        rows = [
            {**msgspec.structs.asdict(told[endpoint_id]), "endpoint_id": endpoint_id, "tenant_id": tenant_id}
            for endpoint_id, tenant_id in _served(gateway, list(told))
        ]
        if rows:
            _look_at(rows, now)
            _write(rows, gateway=gateway.name, instance=instance, region=gateway.region.code, heard_at=now)
    return len(rows)


def _write(rows: list[dict[str, object]], **same: object) -> None:
    """Write rows in one statement with one parameter: as many thousands of parameters it takes ten times as long."""
    told = ["tenant_id", "endpoint_id", *_TOLD]
    kinds = {name: EndpointSignal._meta.get_field(name).db_type(connection) for name in told}
    statement = f"""
        INSERT INTO {EndpointSignal._meta.db_table}
            (id, created_at, {", ".join(same)}, {", ".join(told)})
        SELECT gen_random_uuid(), now(), {", ".join(["%s"] * len(same))}, {", ".join(told)}
        FROM jsonb_to_recordset(%s::jsonb) AS told({", ".join(f"{name} {kinds[name]}" for name in told)})
        ON CONFLICT (tenant_id, endpoint_id, gateway, instance) DO UPDATE
        SET {", ".join(f"{name} = excluded.{name}" for name in ("heard_at", "region", *_TOLD))}
    """  # noqa: S608 - names of columns only
    with connection.cursor() as cursor:
        cursor.execute(statement, [*same.values(), msgspec.json.encode(rows).decode()])


def _look_at(rows: list[dict[str, object]], now: dt.datetime) -> None:
    """Have those looked at whose replicas Berth chooses: one at rest is not, until a gateway tells of it."""
    soon = now + LOOK_WITHIN
    EndpointScaling.objects.filter(
        Q(due_at=None) | Q(due_at__gt=soon), enabled=True, endpoint__in=[row["endpoint_id"] for row in rows]
    ).update(due_at=soon)


def endpoint_now(endpoint: Endpoint) -> EndpointNow:
    """Add up what gateways told of an endpoint in the last minute; nothing but zeros where none had requests."""
    rows = EndpointSignal.objects.filter(endpoint=endpoint, heard_at__gt=timezone.now() - FRESH)
    signals = tuple(rows.order_by("gateway", "instance"))
    queued: Counter[str] = Counter()
    for signal in signals:
        queued.update(signal.queued)
    ttft, itl = _added([s.ttft_ms for s in signals]), _added([s.itl_ms for s in signals])
    prefills = sum(signal.prefills for signal in signals)

    def total(name: str) -> int:
        return sum(getattr(signal, name) for signal in signals)

    def mean_ms(name: str) -> float | None:
        return 1000 * sum(getattr(signal, name) for signal in signals) / prefills if prefills else None

    return EndpointNow(
        heard_at=max((signal.heard_at for signal in signals), default=None),
        queued=dict(sorted(queued.items())),
        oldest_wait_s=max((signal.oldest_wait_s for signal in signals), default=0.0),
        ttft_p95_ms=quantile_ms(ttft, 0.95, bounds=contract.LATENCY_BOUNDS_MS),
        itl_p95_ms=quantile_ms(itl, 0.95, bounds=contract.ITL_BOUNDS_MS),
        queue_mean_ms=mean_ms("queue_s"),
        prefill_mean_ms=mean_ms("prefill_s"),
        decode_mean_ms=mean_ms("decode_s"),
        signals=signals,
        **{
            name: total(name)
            for name in (
                "in_flight", "requests", "shed", "refused", "failed", "input_tokens", "output_tokens",
                "cached_tokens", "kv_pressure",
            )
        },
    )  # fmt: skip


def tried_again(endpoint: Endpoint) -> Counter[str]:
    """Give how many requests each revision of an endpoint failed that were then tried again.

    The sums are those of all gateways' processes, each since it began; one that began anew starts at 0 again.
    """
    found: Counter[str] = Counter()
    for told in EndpointSignal.objects.filter(endpoint=endpoint).values_list("tried_again", flat=True):
        found.update(told)
    return found


def forget_signals(*, now: dt.datetime) -> int:
    """Remove what processes told that are long silent; return how many rows that were."""
    with scope.platform("forget old signals"):
        return EndpointSignal.objects.filter(heard_at__lt=now - FORGOTTEN).delete()[0]


def _served(gateway: Gateway, ids: list[uuid.UUID]) -> Iterator[tuple[uuid.UUID, uuid.UUID]]:
    """Give those of ``ids`` whose requests may pass the gateway's region, each with its tenant."""
    region = gateway.region
    found = (
        Endpoint.objects.live()
        .exclude(wanted=Wanted.DELETED)
        .filter(id__in=ids, tenant__state=Tenant.State.ACTIVE)
        .order_by("id")
        .values_list("id", "tenant_id", "residency")
    )
    for endpoint_id, tenant_id, residency in found:
        if residency_allows(residency, region.code, frozenset(region.zones)):
            yield endpoint_id, tenant_id


def _added(histograms: Sequence[Sequence[int]]) -> list[int]:
    return [sum(column) for column in zip_longest(*histograms, fillvalue=0)]


def _uuid(text: str) -> uuid.UUID | None:
    try:
        return uuid.UUID(text)
    except ValueError:
        return None
