"""Making room for a new revision out of an endpoint's own replicas, one by one, where no GPUs are free.

What is let go stays reserved for the endpoint until the new revision takes it, or the old one has it back.
"""

from __future__ import annotations

import dataclasses
import itertools
import math

from clusters.endpoints import placement
from clusters.endpoints.history import record
from clusters.endpoints.planning import Market, OrderTerms
from clusters.endpoints.pools import released
from clusters.endpoints.rollouts.policy import RolloutPolicy
from clusters.inventory.capacity import capacities
from clusters.models import Endpoint, Replica, Reservation, Revision, Rollout, RolloutWay
from clusters.planning.placement.nodes import nodes_for

_HOLDING = (Replica.Phase.STARTING, Replica.Phase.READY, Replica.Phase.DRAINING)


def needed_at(weight: int, replicas: int) -> int:
    """Give how many of ``replicas`` a new revision needs for its share of the requests, in percent."""
    return min(replicas, max(1, math.ceil(replicas * weight / 100)))


def make_room(endpoint: Endpoint, rollout: Rollout) -> str:
    """Place the new revision if there is room for what its first step needs, else let a replica go.

    Returns why it can never be placed so, or nothing. The caller holds tenant and endpoint.
    """
    market = Market.read(tenant=endpoint.tenant, besides=endpoint, lock=True)
    before = rollout.before
    plan = dataclasses.replace(market, pools=released(market.pools, before)).plan(OrderTerms.of(endpoint))
    chosen = plan.configuration
    if chosen is None or chosen.pool != str(before.pool):
        return (
            plan.message
            if chosen is None
            else f"It would have to run in {chosen.pool}, not in {before.pool}."
        )
    steps = RolloutPolicy.from_document(rollout.policy).steps
    needed = needed_at(steps[0] if steps else 1, chosen.replicas)
    nodes = _nodes_in_surplus(before, needed, chosen.gpus_per_replica)
    if nodes is None:
        return (
            ""
            if _lend(endpoint, rollout)
            else f"{before.pool} has no room for it beside one replica of what runs."
        )
    small = dataclasses.replace(chosen, replicas=needed, nodes=nodes)
    revision = placement.settle(endpoint, dataclasses.replace(plan, configuration=small), market.capacities)
    assert revision is not None
    placement.begin_change(endpoint)
    rollout.revision, rollout.replicas = revision, chosen.replicas
    rollout.save(update_fields=["revision", "replicas"])
    return ""


def has_room(endpoint: Endpoint, rollout: Rollout, weight: int) -> bool:
    """Say whether the new revision has the replicas for its share; where it borrows them, get one more if not."""
    new, wanted = rollout.revision, rollout.replicas
    if rollout.way != RolloutWay.BORROW or new is None or not wanted:
        return True
    if new.replicas >= needed_at(weight, wanted):
        return True
    nodes = _nodes_in_surplus(rollout.before, 1, new.gpus_per_replica)
    if nodes is None:
        return not _lend(endpoint, rollout)  # with the last one it goes on as it is
    _grow(endpoint, new, nodes)
    return False


def take_over(endpoint: Endpoint, rollout: Rollout) -> None:
    """Give a promoted revision the replicas that it is still to get: they start as the old ones let go."""
    new, wanted = rollout.revision, rollout.replicas or 0
    if new is None or new.replicas >= wanted:
        return
    held = Reservation.objects.held().select_for_update().filter(revision=rollout.before).first()
    kept = list(held.nodes) if held else []
    if held is not None:
        held.nodes = []
        held.save(update_fields=["nodes"])
    pool = capacities(lock=True, pool_ids=[new.pool_id])[0]
    for more in range(wanted - new.replicas, 0, -1):
        nodes = nodes_for(
            pool.free_per_node, new.gpus_per_replica, more, gpus_per_node=pool.pool.gpus_per_node
        )
        if nodes is not None:
            _grow(endpoint, new, nodes)
            break
    if held is not None:
        held.nodes = kept
        held.save(update_fields=["nodes"])


def _nodes_in_surplus(before: Revision, replicas: int, gpus: int) -> tuple[tuple[int, ...], ...] | None:
    """Find nodes for replicas of the new revision in what is free and what the old one has let go, and take that."""
    held = Reservation.objects.held().select_for_update().filter(revision=before).first()
    kept = list(held.nodes) if held else []
    if held is not None:
        surplus = held.replicas - max(before.replicas, _holding(before))
        held.nodes = kept[: len(kept) - max(0, surplus) * held.span]
        held.save(update_fields=["nodes"])
    pool = capacities(lock=True, pool_ids=[before.pool_id])[0]
    nodes = nodes_for(pool.free_per_node, gpus, replicas, gpus_per_node=pool.pool.gpus_per_node)
    if nodes is None and held is not None:
        held.nodes = kept
        held.save(update_fields=["nodes"])
    return nodes


def _lend(endpoint: Endpoint, rollout: Rollout) -> bool:
    """Let one more replica of what runs go, if those before have; say whether any can still make room."""
    before = rollout.before
    if _holding(before) > before.replicas:
        return True
    if before.replicas <= 1:
        return False
    before.replicas -= 1
    before.grown_from = before.shrunk_at = None
    before.save(update_fields=["replicas", "grown_from", "shrunk_at"])
    rollout.lent += 1
    rollout.save(update_fields=["lent"])
    record(
        endpoint,
        "rollout",
        f"Revision {before.number} lets a replica go to make room; {before.replicas} serve.",
    )
    return True


def _grow(endpoint: Endpoint, revision: Revision, nodes: tuple[tuple[int, ...], ...]) -> None:
    held = Reservation.objects.held().select_for_update().get(revision=revision)
    held.nodes = [*held.nodes, *itertools.chain.from_iterable(nodes)]
    held.save(update_fields=["nodes"])
    revision.grown_from = min(
        revision.replicas, revision.replicas if revision.grown_from is None else revision.grown_from
    )
    revision.replicas += len(nodes)
    revision.shrunk_at = None
    revision.save(update_fields=["replicas", "grown_from", "shrunk_at"])
    placement.claim_for(endpoint, revision, refuse=False)


def _holding(revision: Revision) -> int:
    return Replica.objects.filter(revision=revision, gone_at=None, phase__in=_HOLDING).count()
