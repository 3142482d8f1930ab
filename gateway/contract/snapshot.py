"""Everything one gateway needs to serve without the control plane."""

from __future__ import annotations

import hashlib
from typing import Any, Final

import msgspec

from gateway.contract.base import Message
from gateway.contract.budgets import Budget
from gateway.contract.owners import Key, Project, Tenant
from gateway.contract.serving import Elsewhere, Endpoint, NamedRoute, SloClass

SCHEMA: Final = 3

SNAPSHOT_PATH: Final = "/api/gateway/v1/snapshot"


class Snapshot(Message, frozen=True):
    """What one gateway serves from.

    ``version`` is a digest of the content: equal content gives an equal version, and a long poll
    that names the version it holds is answered 304 when nothing changed within its wait. ``gateways`` counts the
    processes that share the limits of all owners, ``gateways_here`` those of them in this region. ``zones`` are
    the zones that ``region`` belongs to: an endpoint whose residency allows neither is not served.
    """

    schema: int
    version: str
    gateway: str
    region: str
    keys: tuple[Key, ...]
    endpoints: tuple[Endpoint, ...]
    classes: tuple[SloClass, ...]
    tenants: tuple[Tenant, ...] = ()
    projects: tuple[Project, ...] = ()
    budgets: tuple[Budget, ...] = ()
    named_routes: tuple[NamedRoute, ...] = ()
    elsewhere: tuple[Elsewhere, ...] = ()
    zones: tuple[str, ...] = ()
    gateways: int = 1
    gateways_here: int = 1
    allowed_origins: tuple[str, ...] = ()  # browsers that may call (the portal's playground)

    @classmethod
    def build(cls, *, gateway: str, region: str, **content: Any) -> Snapshot:
        """Make a snapshot whose version is the digest of what it holds."""
        draft = cls(schema=SCHEMA, version="", gateway=gateway, region=region, **content)
        digest = hashlib.sha256(msgspec.json.encode(draft)).hexdigest()[:32]
        return msgspec.structs.replace(draft, version=digest)
