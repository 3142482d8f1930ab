"""A snapshot made ready for look-ups. Immutable: a new snapshot makes a new directory."""

from __future__ import annotations

import datetime as dt
import hmac
import logging
from collections.abc import Collection, Iterator, Mapping
from types import MappingProxyType
from typing import Final

import msgspec

from gateway import errors, keys, routing
from gateway.contract import SCHEMA, Elsewhere, Endpoint, Key, NamedRoute, SloClass, Snapshot, Tenant


class BadSnapshot(Exception):
    """A snapshot that must not be used; the message says why."""


_log = logging.getLogger(__name__)
_decoder = msgspec.json.Decoder(Snapshot)
_NONE: Mapping[str, Endpoint] = MappingProxyType({})
_FILES_DAYS: Final = Tenant(tenant_id="", name="").files_days
_NO_ROUTES: Mapping[str, NamedRoute] = MappingProxyType({})


class Directory:
    """Keys by digest and by id; endpoints and named routes by tenant, project and name; classes by name."""

    def __init__(self, snapshot: Snapshot, *, peppers: Mapping[int, bytes]) -> None:
        self.snapshot = snapshot
        self.allowed_origins = frozenset(snapshot.allowed_origins)
        self._peppers = peppers
        self._classes = {slo_class.name: slo_class for slo_class in snapshot.classes}
        self._lowest = max(snapshot.classes, key=lambda each: each.priority, default=None)
        self.keys_by_id = {key.key_id: key for key in snapshot.keys}
        self._keys: keys.KeyIndex = {(key.pepper_id, key.digest): key for key in snapshot.keys}
        self._tenants = {tenant.tenant_id: tenant for tenant in snapshot.tenants}
        self._elsewhere = {(each.tenant_id, each.project_id, each.name): each for each in snapshot.elsewhere}
        self._shared_elsewhere = {each.name: each for each in snapshot.elsewhere if each.shared}
        self._salts: dict[str, str] = {}
        self._by_id: dict[str, Endpoint] = {}
        self._shared: dict[str, Endpoint] = {}
        self._endpoints: dict[tuple[str, str], dict[str, Endpoint]] = {}
        for endpoint in self._served_here():
            self._by_id[endpoint.endpoint_id] = endpoint
            owner = (endpoint.tenant_id, endpoint.project_id)
            self._endpoints.setdefault(owner, {})[endpoint.name] = endpoint
            if endpoint.shared:
                self._shared[endpoint.name] = endpoint
        self._routes: dict[tuple[str, str], dict[str, NamedRoute]] = {}
        for route in snapshot.named_routes:
            self._routes.setdefault((route.tenant_id, route.project_id), {})[route.name] = route

    def _served_here(self) -> Iterator[Endpoint]:
        """Give the endpoints that may pass this region; any other that is among them is called elsewhere."""
        region, zones = self.snapshot.region, self.snapshot.zones
        for endpoint in self.snapshot.endpoints:
            if routing.allows(endpoint.residency, region=region, zones=zones):
                yield endpoint
                continue
            _log.error(
                "endpoint %s is not served: its residency %s does not allow region %s",
                endpoint.endpoint_id, endpoint.residency, region,
            )  # fmt: skip
            self._elsewhere.setdefault(
                (endpoint.tenant_id, endpoint.project_id, endpoint.name),
                Elsewhere(
                    tenant_id=endpoint.tenant_id,
                    project_id=endpoint.project_id,
                    name=endpoint.name,
                    residency=endpoint.residency,
                ),
            )

    def key(self, authorization: str | None) -> Key:
        """Find the key of an ``Authorization`` header, expired ones too.

        Raises:
            ApiError: none, malformed, or unknown (401).
        """
        return keys.find(keys.bearer(authorization), peppers=self._peppers, keys=self._keys)

    def endpoints(self, key: Key) -> Mapping[str, Endpoint]:
        """Give what ``key`` may call, by name: its own project's endpoints, then shared ones of other names."""
        owner = (key.tenant_id, key.project_id)
        shared = {name: it for name, it in self._shared.items() if (*owner, name) not in self._elsewhere}
        found = {**shared, **self._endpoints.get(owner, _NONE)}
        return {name: _as_bound(endpoint, key) for name, endpoint in found.items()}

    def endpoint(self, key: Key, name: str) -> Endpoint:
        """Find one endpoint that ``key`` may call, with the terms of the revision that the key is bound to.

        Raises:
            ApiError: there is none, or it is another's (404), or it may not be served in this region (421).
        """
        endpoint = self._endpoints.get((key.tenant_id, key.project_id), _NONE).get(name)
        if endpoint is None:
            # Not even a shared one stands in for one's own that must stay elsewhere.
            own = self._elsewhere.get((key.tenant_id, key.project_id, name))
            endpoint = None if own else self._shared.get(name)
            if endpoint is None:
                raise self._not_here(name, own or self._shared_elsewhere.get(name))
        return _as_bound(endpoint, key)

    def _not_here(self, name: str, elsewhere: Elsewhere | None) -> errors.ApiError:
        """There is no endpoint of this name (404), or only other regions may serve it (421)."""
        if elsewhere is None:
            return errors.model_not_found(name)
        urls = tuple(filter(_goes_into_a_header, elsewhere.urls))
        return errors.wrong_region(
            name, region=self.snapshot.region, residency=elsewhere.residency, urls=urls
        )

    def tenant(self, key: Key) -> Tenant | None:
        """Give the tenant of ``key``, None where the snapshot says nothing of it."""
        return self._tenants.get(key.tenant_id)

    def tenants(self) -> Collection[Tenant]:
        """Give all tenants of which the snapshot says something."""
        return self._tenants.values()

    def files_days(self, tenant_id: str) -> int:
        """Give how many days a tenant's files and batches are kept; as a new tenant's where nothing is said."""
        tenant = self._tenants.get(tenant_id)
        return _FILES_DAYS if tenant is None else tenant.files_days

    def has_class(self, name: str) -> bool:
        """Say whether there is a class of this name."""
        return name in self._classes

    def by_id(self, endpoint_id: str) -> Endpoint | None:
        """Find one endpoint, whoever may call it."""
        return self._by_id.get(endpoint_id)

    def callable_by(self, key: Key, endpoint_id: str) -> Endpoint | None:
        """Find one endpoint by its id, as :meth:`endpoint` gives it; None if there is none that ``key`` may call."""
        endpoint = self._by_id.get(endpoint_id)
        if endpoint is None:
            return None
        own = (endpoint.tenant_id, endpoint.project_id) == (key.tenant_id, key.project_id)
        return _as_bound(endpoint, key) if own or endpoint.shared else None

    def named_routes(self, key: Key) -> Mapping[str, NamedRoute]:
        """Give the named routes of ``key``'s project, by name."""
        return self._routes.get((key.tenant_id, key.project_id), _NO_ROUTES)

    def knows(self, key: Key) -> bool:
        """Say whether ``key``, which an earlier directory found, is still among the keys."""
        return (key.pepper_id, key.digest) in self._keys

    def cache_salt(self, tenant_id: str) -> str:
        """Give what keeps the tenant's prefix caches apart from others': the same on every gateway."""
        salt = self._salts.get(tenant_id)
        if salt is None:
            pepper = self._peppers[min(self._peppers)]
            digest = hmac.digest(pepper, f"berth prefix cache of tenant {tenant_id}".encode(), "sha256")
            salt = self._salts[tenant_id] = digest.hex()[:32]
        return salt

    def slo_class(self, endpoint: Endpoint, *asked: str) -> SloClass:
        """Give the class of a request: the lowest of ``endpoint``'s and of those ``asked`` that are not empty.

        One that is not known is taken for the lowest there is.
        """
        found = self._classes[endpoint.slo_class]
        for name in asked:
            if name:
                other = self._classes.get(name) or self._lowest
                if other is not None and other.priority > found.priority:
                    found = other
        return found


def _as_bound(endpoint: Endpoint, key: Key) -> Endpoint:
    """Give the endpoint with the terms of the revision that alone answers ``key``, where it has its own."""
    if not key.revision_id:
        return endpoint
    terms = next((each.terms for each in endpoint.routes if each.revision_id == key.revision_id), None)
    return endpoint if terms is None else msgspec.structs.replace(endpoint, **msgspec.structs.asdict(terms))


def _goes_into_a_header(url: str) -> bool:
    return url.isascii() and url.isprintable() and not set(url) & set(' ,;<>"')


def read_snapshot(content: bytes, *, gateway: str, region: str) -> Snapshot:
    """Decode and check a snapshot meant for this gateway.

    Raises:
        BadSnapshot: it does not follow the contract, is for another gateway, or contradicts itself.
    """
    try:
        snapshot = _decoder.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadSnapshot(f"it does not follow the contract: {error}") from error
    if snapshot.schema != SCHEMA:
        raise BadSnapshot(f"its schema is {snapshot.schema}, this gateway speaks {SCHEMA}")
    if (snapshot.gateway, snapshot.region) != (gateway, region):
        raise BadSnapshot(
            f"it is for gateway {snapshot.gateway!r} in region {snapshot.region!r},"
            f" this is {gateway!r} in {region!r}"
        )
    if not snapshot.version:
        raise BadSnapshot("it has no version")
    _check_names(snapshot)
    _check_named_routes(snapshot)
    _check_classes(snapshot)
    _check_times(snapshot)
    return snapshot


def _check_names(snapshot: Snapshot) -> None:
    seen: set[tuple[str, str, str]] = set()
    for endpoint in snapshot.endpoints:
        name = (endpoint.tenant_id, endpoint.project_id, endpoint.name)
        if name in seen:
            raise BadSnapshot(f"two endpoints of project {endpoint.project_id} are named {endpoint.name!r}")
        seen.add(name)
        if endpoint.shared and ("", "", endpoint.name) in seen:
            raise BadSnapshot(f"two shared endpoints are named {endpoint.name!r}")
        if endpoint.shared:
            seen.add(("", "", endpoint.name))
        if any(route.weight < 0 for route in endpoint.routes):
            raise BadSnapshot(f"endpoint {endpoint.endpoint_id} has a route of negative weight")


def _check_named_routes(snapshot: Snapshot) -> None:
    taken = {(endpoint.tenant_id, endpoint.project_id, endpoint.name) for endpoint in snapshot.endpoints}
    endpoints = {endpoint.endpoint_id: endpoint for endpoint in snapshot.endpoints}
    for route in snapshot.named_routes:
        name = (route.tenant_id, route.project_id, route.name)
        if name in taken:
            raise BadSnapshot(
                f"project {route.project_id} has two things named {route.name!r}, one of them a named route"
            )
        taken.add(name)
        for target in (target for rule in route.rules for target in rule.targets):
            if target.weight < 0:
                raise BadSnapshot(f"named route {route.route_id} has a target of negative weight")
            endpoint = endpoints.get(target.endpoint_id)
            # One that is not here is served by gateways of other regions only.
            if endpoint is not None and endpoint.tenant_id != route.tenant_id and not endpoint.shared:
                raise BadSnapshot(f"named route {route.route_id} has a target of another tenant")


def _check_classes(snapshot: Snapshot) -> None:
    known = {slo_class.name for slo_class in snapshot.classes}
    for endpoint in snapshot.endpoints:
        if endpoint.slo_class not in known:
            raise BadSnapshot(
                f"endpoint {endpoint.endpoint_id} is of the class {endpoint.slo_class!r}, which it does not have"
            )


def _check_times(snapshot: Snapshot) -> None:
    times: list[dt.datetime | None] = [key.expires_at for key in snapshot.keys]
    times += [endpoint.created_at for endpoint in snapshot.endpoints]
    times += [route.created_at for route in snapshot.named_routes]
    if any(time is not None and time.tzinfo is None for time in times):
        raise BadSnapshot("it holds a time without a zone")
