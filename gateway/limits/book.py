"""Which limits a request meets, and how much of each is this gateway's to give."""

from __future__ import annotations

import enum
from typing import NamedTuple

from gateway.contract import Endpoint, Key, Owner, RateLimits, Snapshot


class Unit(enum.StrEnum):
    """What a limit counts."""

    REQUESTS = "requests"
    TOKENS = "tokens"


class Limit(NamedTuple):
    """``number`` units a minute for an owner over all gateways.

    ``here`` is what the gateways of this region may let through together, ``alone`` what one gateway may that
    counts by itself. Both are rounded down, so that all of them together stay within ``number``; but never below
    1, so that of a number smaller than that of the gateways each region, or each gateway alone, lets one through.
    """

    owner: Owner
    name: str
    unit: Unit
    number: int
    here: int
    alone: int
    counter: str


class LimitBook:
    """The limits of one snapshot after the other."""

    def __init__(self) -> None:
        self._rates: dict[tuple[Owner, str], tuple[str, RateLimits]] = {}
        self._gateways = self._here = 1
        self._found: dict[tuple[str, str], tuple[Key, Endpoint, tuple[Limit, ...]]] = {}

    def use(self, snapshot: Snapshot) -> None:
        """Take the limits of ``snapshot``."""
        self._gateways = max(1, snapshot.gateways)
        self._here = min(max(1, snapshot.gateways_here), self._gateways)
        projects = {(Owner.PROJECT, each.project_id): (each.name, each.rates) for each in snapshot.projects}
        tenants = {(Owner.TENANT, each.tenant_id): (each.name, each.rates) for each in snapshot.tenants}
        self._rates = {**projects, **tenants}
        self._found = {}

    def limits(self, key: Key, endpoint: Endpoint) -> tuple[Limit, ...]:
        """Give the limits that a request of ``key`` to ``endpoint`` meets; mostly there are none."""
        pair = (key.key_id, endpoint.endpoint_id)
        found = self._found.get(pair)
        # A request that began under the snapshot before still has that one's key and endpoint.
        if found is None or found[0] is not key or found[1] is not endpoint:
            found = self._found[pair] = (key, endpoint, self._find(key, endpoint))
        return found[2]

    def _find(self, key: Key, endpoint: Endpoint) -> tuple[Limit, ...]:
        owners = [(Owner.KEY, key.line[0], key.name, key.rates)]
        for owner, owner_id in ((Owner.PROJECT, key.project_id), (Owner.TENANT, key.tenant_id)):
            if (known := self._rates.get((owner, owner_id))) is not None:
                owners.append((owner, owner_id, *known))
        owners.append((Owner.ENDPOINT, endpoint.endpoint_id, endpoint.name, endpoint.rates))
        return tuple(
            Limit(
                owner=owner,
                name=name,
                unit=unit,
                number=number,
                here=max(1, number * self._here // self._gateways),
                alone=max(1, number // self._gateways),
                counter=f"berth:limits:{owner}:{owner_id}:{unit}",
            )
            for owner, owner_id, name, rates in owners
            for unit, number in (
                (Unit.REQUESTS, rates.requests_per_minute),
                (Unit.TOKENS, rates.tokens_per_minute),
            )
            if number is not None
        )
