"""Keys and endpoints for the gateway's tests: two tenants, and a second project in the first."""

from __future__ import annotations

import dataclasses
import datetime as dt
from typing import Any

import msgspec

from gateway import keys
from gateway.contract import Endpoint, EngineProtocol, Key, Replica, Route, SloClass, Snapshot, Timeouts

PEPPER = bytes.fromhex("5a" * 32)
CREATED = dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC)
TEMPLATE = (
    "{% for message in messages %}<{{ message.role }}> {{ message.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


def make_key(letter: str) -> str:
    """Make the text of a well-formed key."""
    random = (letter * 36)[:36]
    return keys.PREFIX + random + keys.checksum(random)


KEY = make_key("a")
OTHER_PROJECT_KEY = make_key("b")
OTHER_TENANT_KEY = make_key("c")
EXPIRED_KEY = make_key("d")
UNKNOWN_KEY = make_key("e")
TIMEOUTS = Timeouts(connect_s=1.0, first_token_s=5.0, between_tokens_s=5.0, total_s=20.0, attempts=2)


def key(text: str, key_id: str, *, tenant: str = "t1", project: str = "p1", **more: object) -> Key:
    """Make a key as the snapshot holds it."""
    return Key(
        key_id=key_id,
        pepper_id=7,
        digest=keys.digest(text, PEPPER),
        tenant_id=tenant,
        project_id=project,
        name=f"key {key_id}",
        **more,  # type: ignore[arg-type]
    )


def replica(url: str, *, replica_id: str = "r1", region: str = "eu-de-1", zones: tuple[str, ...] = ("EU",)):
    """Make a replica."""
    return Replica(
        replica_id=replica_id,
        url=url,
        protocol=EngineProtocol.TRITON_GENERATE,
        engine_model="front",
        region=region,
        zones=zones,
    )


@dataclasses.dataclass
class World:
    """Builds the snapshot of gateway ``gw-1``."""

    keys: tuple[Key, ...] = (
        key(KEY, "k1"),
        key(OTHER_PROJECT_KEY, "k2", project="p2"),
        key(OTHER_TENANT_KEY, "k3", tenant="t2", project="p9"),
        key(EXPIRED_KEY, "k4", expires_at=CREATED),
    )
    allowed_origins: tuple[str, ...] = ("https://portal.example",)
    others: tuple[Endpoint, ...] = ()  # besides the two
    more: dict[str, Any] = dataclasses.field(default_factory=dict)  # of the snapshot

    def endpoint(self, url: str, **changes: object) -> Endpoint:
        """Make the endpoint that key k1 may call."""
        endpoint = Endpoint(
            endpoint_id="e1",
            tenant_id="t1",
            project_id="p1",
            name="docs",
            created_at=CREATED,
            model="tiny",
            slo_class="interactive",
            residency="zone:EU",
            context_tokens=64,
            max_output_tokens=32,
            default_max_tokens=16,
            chat_template=TEMPLATE,
            state="ready",
            routes=(Route(revision_id="rev1", weight=100, replicas=(replica(url),)),),
        )
        return msgspec.structs.replace(endpoint, **changes)

    def classes(self, timeouts: Timeouts = TIMEOUTS, **changes: Any) -> tuple[SloClass, ...]:
        """Make the classes, with ``changes`` to interactive."""
        interactive = SloClass(name="interactive", priority=1, timeouts=timeouts)
        return (
            msgspec.structs.replace(interactive, **changes),
            SloClass(name="standard", priority=2, timeouts=timeouts),
            SloClass(name="batch", priority=3, timeouts=timeouts),
        )

    def snapshot(self, url: str, *, timeouts: Timeouts = TIMEOUTS, **changes: object) -> Snapshot:
        """Make the snapshot, with ``changes`` to the endpoint and ``timeouts`` of its class."""
        mine = self.endpoint(url, **changes)
        theirs = self.endpoint(url, endpoint_id="e2", tenant_id="t2", project_id="p9", name="theirs")
        return Snapshot.build(
            gateway="gw-1",
            region="eu-de-1",
            keys=self.keys,
            endpoints=(mine, theirs, *self.others),
            allowed_origins=self.allowed_origins,
            **{"classes": self.classes(timeouts), "zones": ("EU",), **self.more},
        )
