"""Keeping the gateways that Berth runs in clusters as they were ordered, until they are to go."""

from __future__ import annotations

import datetime as dt
import logging
import uuid
from typing import Final, NamedTuple

from django.conf import settings
from django.utils import timezone

from clusters.drivers.base import Away, GiveUp, TryLater
from clusters.inventory.drivers import driver_of
from clusters.inventory.gateways import control_plane_url, gateway_forget, gateway_token, pinned_image
from clusters.models import Gateway
from clusters.specs import GatewaySpec, GatewayStatus
from tenants.errors import Invalid
from tenants.locks import claimed
from tenants.sealing import CannotOpen, KeysAway

log = logging.getLogger(__name__)

MOVING_S: Final = 2.0
PARTIAL_S: Final = 5.0
FAILED_S: Final = 30.0
LONGEST_REASON: Final = 300


class _Outcome(NamedTuple):
    state: str
    reason: str
    ready: int
    look_again: float | None = None


def reconcile_gateway(gateway_id: uuid.UUID | str) -> float | None:
    """Run one pass over a deployed gateway; return in how many seconds to look again, None when it is settled.

    A gateway that another pass holds is left to that pass. A settled one costs no write, neither to the database
    nor to the cluster.
    """
    with claimed(f"gateway:{gateway_id}") as mine:
        if not mine:
            return None
        gateway = (
            Gateway.objects.select_related("region", "cluster__region")
            .filter(id=gateway_id)
            .exclude(cluster=None)
            .first()
        )
        if gateway is None:
            return None
        outcome = _remove(gateway) if gateway.state == Gateway.State.REMOVING else _keep(gateway)
        if outcome is None:
            log.info("gateway %s is gone from %s", gateway.name, gateway.cluster)
            gateway_forget(gateway)
            return None
        return _conclude(gateway, outcome)


def spec_of(gateway: Gateway) -> GatewaySpec:
    """Give what the cluster is to run for a gateway.

    Raises:
        Invalid: its image is not pinned, or the control plane's own address is not set.
        GiveUp: its token cannot be opened any more.
        TryLater: its token cannot be opened now.
    """
    return GatewaySpec(
        name=gateway.name,
        region=gateway.region.code,
        replicas=gateway.replicas,
        image=pinned_image(),
        control_plane_url=control_plane_url(),
        storage_gib=gateway.storage_gib,
        labels={"gateway-id": str(gateway.id), "region": gateway.region.code},
        token=_token(gateway),
        peppers={number: pepper.hex() for number, pepper in settings.KEY_PEPPERS.items()},
        files_claim=settings.GATEWAY_FILES_CLAIM,
        files_secret=settings.GATEWAY_FILES_SECRET,
        redis_url=settings.GATEWAY_REDIS_URL,
        trusted_proxies=tuple(map(str, settings.GATEWAY_TRUSTED_PROXIES)),
    )


def _token(gateway: Gateway) -> str:
    try:
        return gateway_token(gateway)
    except KeysAway as error:
        raise TryLater(error.message) from error
    except CannotOpen as error:
        raise GiveUp(
            f"The token of gateway {gateway.name} cannot be opened. {error} Give it a new one."
        ) from error


def _keep(gateway: Gateway) -> _Outcome:
    try:
        driver = driver_of(gateway.cluster)
        driver.apply_gateway(spec_of(gateway))
        return _judge(gateway, driver.observe_gateway(gateway.name))
    except TryLater as error:
        state = Gateway.State.UNREACHABLE if isinstance(error, Away) else gateway.state
        return _Outcome(state, str(error), gateway.ready_replicas, error.delay)
    except (GiveUp, Invalid) as error:
        return _Outcome(Gateway.State.FAILED, str(error), gateway.ready_replicas, FAILED_S)


def _judge(gateway: Gateway, status: GatewayStatus | None) -> _Outcome:
    ready = status.ready if status else 0
    message = status.message if status else ""
    reason = f"{ready} of {gateway.replicas} pods are ready. {message}".strip()
    if status is not None and ready == status.wanted == gateway.replicas and not message:
        return _Outcome(Gateway.State.RUNNING, reason, ready)
    if ready:
        return _Outcome(Gateway.State.RUNNING, reason, ready, PARTIAL_S)
    if message:
        return _Outcome(Gateway.State.FAILED, reason, ready, FAILED_S)
    return _Outcome(Gateway.State.DEPLOYING, reason, ready, MOVING_S)


def _remove(gateway: Gateway) -> _Outcome | None:
    """Ask for its end; None once its cluster shows nothing of it."""
    state, ready = Gateway.State.REMOVING, gateway.ready_replicas
    try:
        driver = driver_of(gateway.cluster)
        if driver.delete_gateway(gateway.name):
            return None
        status = driver.observe_gateway(gateway.name)
    except TryLater as error:
        return _Outcome(state, str(error), ready, error.delay)
    except GiveUp as error:
        return _Outcome(state, str(error), ready, FAILED_S)
    return _Outcome(state, gateway.state_reason, status.ready if status else 0, MOVING_S)


def _conclude(gateway: Gateway, outcome: _Outcome) -> float | None:
    """Write what changed. Whoever ordered its removal, or moved its due time, during the pass wins."""
    due_at = None
    if outcome.look_again is not None:
        due_at = timezone.now() + dt.timedelta(seconds=outcome.look_again)
    seen = {
        "state": outcome.state,
        "state_reason": outcome.reason[:LONGEST_REASON],
        "ready_replicas": outcome.ready,
    }
    changes = {name: value for name, value in seen.items() if value != getattr(gateway, name)}
    if changes and not Gateway.objects.filter(id=gateway.id, state=gateway.state).update(**changes):
        return 0
    if due_at != gateway.due_at:
        # Apart from the rest: a pass may take longer than the sweep's lease, and is to be heard all the same.
        Gateway.objects.filter(id=gateway.id, due_at=gateway.due_at).update(due_at=due_at)
    return outcome.look_again
