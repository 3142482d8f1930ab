"""What a statement is computed from, as plain frozen data, and its canonical bytes.

Nothing here or in :mod:`billing.statements.compose` asks a database: the same inputs give the same lines for ever, so
that a final statement can be made again from the inputs that it keeps.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import uuid
import zlib
from decimal import Decimal
from typing import Final

import msgspec

#: Raised when the meaning of the inputs changes; the composition of older ones must go on giving their lines.
VERSION: Final = 1


class Project(msgspec.Struct, frozen=True, kw_only=True):
    """A project as it was called then."""

    id: uuid.UUID
    name: str
    cost_centre: str


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """An endpoint as it was called then; ``shared`` is another tenant's that is sold by the token."""

    id: uuid.UUID
    name: str
    model: str
    slo_class: str
    shared: bool = False


class HeldTime(msgspec.Struct, frozen=True, kw_only=True):
    """GPU time held within one interval in which no price changes.

    ``gpus`` is 0 where ``gpu_seconds`` sums several intervals; with commitments each interval stands by itself.
    ``idle``: in hours without a request. ``shared``: in hours in which the endpoint was sold by the token, not charged.
    """

    start: dt.datetime
    end: dt.datetime
    project_id: uuid.UUID
    endpoint_id: uuid.UUID
    gpu_type: str
    region: str
    price_factor: Decimal
    gpu_seconds: Decimal
    gpus: int = 0
    idle: bool = False
    shared: bool = False


class UsedTokens(msgspec.Struct, frozen=True, kw_only=True):
    """Requests and tokens within one interval; ``input_tokens`` include ``cached_tokens``."""

    start: dt.datetime
    end: dt.datetime
    project_id: uuid.UUID
    endpoint_id: uuid.UUID
    model: str
    slo_class: str
    region: str
    requests: int
    input_tokens: int
    output_tokens: int
    cached_tokens: int
    charged: bool = False


class SharedTime(msgspec.Struct, frozen=True, kw_only=True):
    """A project's share of a shared endpoint's GPU time: ``weight`` of ``weights``, so ``amount`` of ``cost``."""

    start: dt.datetime
    end: dt.datetime
    project_id: uuid.UUID
    endpoint_id: uuid.UUID
    gpu_type: str
    region: str
    gpu_seconds: Decimal
    amount: Decimal
    weight: str
    weights: str
    cost: str


class Attained(msgspec.Struct, frozen=True, kw_only=True):
    """An endpoint's month against the targets of its class; ``allowed`` failures are what availability leaves."""

    endpoint_id: uuid.UUID
    project_id: uuid.UUID
    slo_class: str
    availability: Decimal
    ttft_p95_ms: int | None
    itl_p95_ms: int | None
    credit_percent: Decimal
    requests: int
    failed: int
    allowed: Decimal
    hours: int
    ttft_met: int
    itl_met: int


class Committed(msgspec.Struct, frozen=True, kw_only=True):
    """A commitment that touches the month."""

    id: uuid.UUID
    name: str
    gpu_type: str
    region: str
    gpus: int
    rate: Decimal
    starts_at: dt.datetime
    ends_at: dt.datetime


class Listed(msgspec.Struct, frozen=True, kw_only=True):
    """A price that was in force; ``own`` is the tenant's. Empty selectors hold for every value."""

    id: str
    kind: str
    amount: Decimal
    currency: str
    effective_from: dt.datetime
    own: bool = False
    model: str = ""
    gpu_type: str = ""
    region: str = ""
    slo_class: str = ""


class CreditLeft(msgspec.Struct, frozen=True, kw_only=True):
    """What is left of a granted credit."""

    id: uuid.UUID
    reason: str
    available_from: dt.datetime
    expires_at: dt.datetime | None
    left: Decimal


class Charged(msgspec.Struct, frozen=True, kw_only=True):
    """What final statements hold already of one line of a service month, over all of them."""

    kind: str
    basis: str
    charged: bool
    service_start: dt.datetime
    service_end: dt.datetime
    project_id: uuid.UUID | None
    project_name: str
    cost_centre: str
    endpoint_id: uuid.UUID | None
    endpoint_name: str
    model: str
    slo_class: str
    gpu_type: str
    region: str
    sku: str
    description: str
    quantity: Decimal
    unit: str
    unit_price: Decimal
    list_unit_price: Decimal
    amount: Decimal
    list_amount: Decimal
    effective_amount: Decimal
    price_id: str
    commitment_id: uuid.UUID | None


class Month(msgspec.Struct, frozen=True, kw_only=True):
    """One service month: all that was held and used in it until ``until``, and what was charged for it before."""

    month: dt.date
    start: dt.datetime
    end: dt.datetime
    until: dt.datetime
    held: tuple[HeldTime, ...] = ()
    used: tuple[UsedTokens, ...] = ()
    shares: tuple[SharedTime, ...] = ()
    attained: tuple[Attained, ...] = ()
    commitments: tuple[Committed, ...] = ()
    charged: tuple[Charged, ...] = ()

    @property
    def is_empty(self) -> bool:
        """Say whether nothing happened in it and nothing was charged for it."""
        return not (self.held or self.used or self.shares or self.commitments or self.charged)


class Inputs(msgspec.Struct, frozen=True, kw_only=True):
    """All that the statement of ``month`` follows from. ``late`` are earlier, closed months whose facts changed since.

    ``carried`` is what earlier corrections left in the tenant's favour.
    """

    version: int = VERSION
    tenant_id: uuid.UUID
    tenant_name: str
    tenant_slug: str
    time_zone: str
    currency: str
    month: Month
    late: tuple[Month, ...] = ()
    projects: tuple[Project, ...] = ()
    endpoints: tuple[Endpoint, ...] = ()
    prices: tuple[Listed, ...] = ()
    credits: tuple[CreditLeft, ...] = ()
    carried: Decimal = Decimal(0)

    @property
    def is_empty(self) -> bool:
        """Say whether there is nothing to state."""
        return self.month.is_empty and all(late.is_empty for late in self.late)


_encode = msgspec.json.Encoder(order="sorted").encode
_decode = msgspec.json.Decoder(Inputs).decode


def canonical(inputs: Inputs) -> bytes:
    """Give the inputs as canonical JSON: sorted keys, no blanks, numbers with decimals as strings."""
    return _encode(inputs)


def sealed(inputs: Inputs) -> tuple[bytes, str]:
    """Give the compressed canonical JSON, and the SHA-256 of the JSON in hexadecimal digits."""
    text = canonical(inputs)
    return zlib.compress(text, 6), hashlib.sha256(text).hexdigest()


def opened(compressed: bytes) -> Inputs:
    """Read what :func:`sealed` gave.

    Raises:
        ValueError: it is damaged, or of another version.
    """
    try:
        inputs = _decode(zlib.decompress(compressed))
    except (zlib.error, msgspec.MsgspecError) as error:
        raise ValueError(f"the stored inputs cannot be read: {error}") from error
    if inputs.version != VERSION:
        raise ValueError(f"the stored inputs are of version {inputs.version}; this Berth reads {VERSION}")
    return inputs


def digest(compressed: bytes) -> str:
    """Give the SHA-256 of the JSON within compressed inputs.

    Raises:
        ValueError: they are damaged.
    """
    try:
        return hashlib.sha256(zlib.decompress(compressed)).hexdigest()
    except zlib.error as error:
        raise ValueError(f"the stored inputs cannot be read: {error}") from error
