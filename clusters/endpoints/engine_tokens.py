"""The tokens that replicas' engines counted themselves, handed to billing for comparison."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable

from billing.metering.engines import Reading, engine_tokens_add
from clusters.endpoints.snapshot import served_endpoints, served_replicas
from clusters.models import Gateway, Replica
from clusters.triton.tokens import RUNTIMES, tokens_of
from gateway.contract import ReplicaReport
from tenants import scope


def keep_engine_tokens(*, gateway: Gateway, reports: Iterable[ReplicaReport], now: dt.datetime) -> None:
    """Note what the gateway reports of the replicas in its region and snapshot whose runtime counts truly."""
    shown = {report.replica_id: report.metrics for report in reports if "token" in report.metrics}
    if not shown:
        return
    with scope.platform(f"engine counters of gateway {gateway.name}"):
        there = Replica.objects.filter(
            replica_id__in=shown, gone_at=None, revision__runtime__in=RUNTIMES
        ).values("endpoint_id")
        replicas = (
            served_replicas(served_endpoints(gateway, id__in=there))
            .filter(replica_id__in=shown, revision__cluster__region_id=gateway.region_id)
            .select_related("revision")
        )
        readings = []
        for replica in replicas:
            found = tokens_of(shown[replica.replica_id], replica.revision.runtime)
            if found is not None:
                readings.append(Reading(replica.replica_id, replica.endpoint_id, found.input, found.output))
        engine_tokens_add(readings=readings, now=now)
