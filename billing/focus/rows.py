"""Lines of a statement as rows of FOCUS 1.2: plain functions of what the lines say.

A row is a charge: what a statement shows beside (tokens of a dedicated endpoint, a tenant's share of a shared one's GPU
time) would be counted twice and is left out. What decides a row:

* GPU time and tokens are ``Usage``. Their ContractedCost and ListCost are quantity times unit price, exact, as FOCUS
  wants it; BilledCost is the rounded amount of the line, so that its sum is the statement's total.
* A commitment is a ``Purchase``, whose EffectiveCost is 0. GPU time that it covered is ``Used`` with BilledCost 0 and
  its share as EffectiveCost, even where the endpoint was shared and its GPU time is shown beside; what nobody used is a
  row ``Unused``. So the EffectiveCost of a commitment's usage is the BilledCost of its purchase.
* Credits are ``Credit``; they have no price and no quantity, and every cost is what was billed.
* A correction is of class ``Correction`` and keeps the period in which it was used.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
import uuid
from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal, localcontext
from typing import Any, Final

from billing.focus.columns import SERVICE_CATEGORY, SERVICE_SUBCATEGORY
from billing.models import Statement, StatementLine

Row = dict[str, Any]

ZERO: Final = Decimal(0)
MAX_DIGITS: Final = 76
MILLION: Final = 1_000_000
SERVICE_NAME: Final = "LLM endpoints"
COMMITMENT_TYPE: Final = "Committed GPUs"

Kind = StatementLine.Kind
CREDIT_KINDS: Final = (Kind.SLO_CREDIT, Kind.CREDIT)
#: Pricing units by the units of lines, and how many consumed units of which name one of them is.
UNITS: Final = {
    "GPU-hour": ("GPU-Hours", 1, "GPU-Hours"),
    "million tokens": (f"{MILLION} Tokens", MILLION, "Tokens"),
}
METERS: Final = {"gpu-hours": "GPU Time", "commitment": "Committed GPU Time"}
#: Idle GPU time is the same thing at the same price; the line's kind and words tell it apart.
IDLE: Final = "idle-"


@dataclasses.dataclass(frozen=True)
class Issuer:
    """Who made the service available, who published it and who bills it."""

    provider: str
    publisher: str
    invoice_issuer: str


@dataclasses.dataclass(frozen=True)
class Covered:
    """What one commitment covered in one month of service: GPU-hours and their share of its cost."""

    quantity: Decimal = ZERO
    effective: Decimal = ZERO


#: A commitment, the month of service, and whether it is a correction.
CoverKey = tuple[uuid.UUID, dt.date, bool]


def cover_key(line: StatementLine) -> CoverKey:
    """Give what a commitment's line and the lines that it covered have in common."""
    assert line.commitment_id is not None
    return line.commitment_id, line.service_month, line.correction


def focus_rows(
    statement: Statement,
    lines: Iterable[StatementLine],
    *,
    account_name: str,
    issuer: Issuer,
    covered: Mapping[CoverKey, Covered],
    names: Mapping[uuid.UUID, str],
) -> Iterator[Row]:
    """Give the rows of ``lines``, in their order; values are text, Decimal, int, aware datetime or None.

    ``covered`` says what each commitment covered, ``names`` what each is called.
    """
    shared = _of_statement(statement, account_name, issuer)
    for line in lines:
        row = shared | _of_line(line)
        if is_covered(line):
            yield row | _usage(line) | _used(line, names[line.commitment_id])
        elif not line.charged:
            continue
        elif line.kind in CREDIT_KINDS:
            yield row | _credit(line)
        elif line.kind == Kind.COMMITMENT:
            name = names[line.commitment_id]
            if line.quantity or line.amount:
                yield row | _purchase(line, name)
            used = covered.get(cover_key(line), Covered())
            rest = Covered(line.quantity - used.quantity, line.amount - used.effective)
            if rest != Covered():
                yield row | _unused(line, name, rest)
        else:
            yield row | _usage(line)


def is_covered(line: StatementLine) -> bool:
    """Say whether a commitment pays for the line's GPU time."""
    return line.commitment_id is not None and line.kind != Kind.COMMITMENT


def _of_statement(statement: Statement, account_name: str, issuer: Issuer) -> Row:
    return {
        "BillingAccountId": str(statement.tenant_id),
        "BillingAccountName": account_name,
        "BillingAccountType": "Tenant",
        "BillingCurrency": statement.currency,
        "BillingPeriodStart": statement.period_start,
        "BillingPeriodEnd": statement.period_end,
        "InvoiceId": statement.number or None,
        "InvoiceIssuerName": issuer.invoice_issuer,
        "PricingCurrency": statement.currency,
        "ProviderName": issuer.provider,
        "PublisherName": issuer.publisher,
        "ServiceCategory": SERVICE_CATEGORY,
        "ServiceSubcategory": SERVICE_SUBCATEGORY,
        "ServiceName": SERVICE_NAME,
    }


def _of_line(line: StatementLine) -> Row:
    endpoint = str(line.endpoint_id) if line.endpoint_id else None
    project = str(line.project_id) if line.project_id else None
    tags = {
        "cost_centre": line.cost_centre,
        "berth/slo_class": line.slo_class,
        "berth/model": line.model,
        "berth/gpu_type": line.gpu_type,
    }
    return {
        "ChargeClass": "Correction" if line.correction else None,
        "ChargeDescription": line.description,
        "ChargePeriodStart": line.service_start,
        "ChargePeriodEnd": line.service_end,
        "RegionId": line.region or None,
        "RegionName": line.region or None,
        "ResourceId": endpoint,
        "ResourceName": line.endpoint_name or None if endpoint else None,
        "ResourceType": "Endpoint" if endpoint else None,
        "SubAccountId": project,
        "SubAccountName": line.project_name if project else None,
        "SubAccountType": "Project" if project else None,
        "Tags": _object(tags),
        "x_StatementLine": line.position,
        "x_StatementLineKind": line.kind,
        "x_PriceId": line.price_id or None,
    }


def _credit(line: StatementLine) -> Row:
    return {
        "ChargeCategory": "Credit",
        "ChargeFrequency": "One-Time",
        "BilledCost": line.amount,
        "EffectiveCost": line.amount,
        "PricingCurrencyEffectiveCost": line.amount,
        "ContractedCost": line.amount,
        "ListCost": line.amount,
    }


def _usage(line: StatementLine) -> Row:
    _, factor, consumed = _unit(line)
    contracted, listed = line.unit_price, line.list_unit_price or line.unit_price
    return {
        "ChargeCategory": "Usage",
        "ChargeFrequency": "Usage-Based",
        "PricingCategory": "Standard",
        "ConsumedQuantity": times(line.quantity, Decimal(factor)),
        "ConsumedUnit": consumed,
        **_costs(line, effective=line.amount, contracted=contracted, listed=listed),
        **_sku(line),
        **_prices(contracted, listed),
    }


def _used(line: StatementLine, name: str) -> Row:
    # FOCUS's contracted price knows negotiated prices and no commitments: it is what the time would have cost.
    price = line.list_unit_price or line.unit_price
    return {
        "PricingCategory": "Committed",
        **_costs(line, effective=line.effective_amount, contracted=price, listed=price),
        "BilledCost": line.amount if line.charged else ZERO,
        **_prices(price, price),
        **_commitment(line, name, "Used", line.quantity),
    }


def _purchase(line: StatementLine, name: str) -> Row:
    contracted, listed = line.unit_price, line.list_unit_price or line.unit_price
    return {
        "ChargeCategory": "Purchase",
        "ChargeFrequency": "Recurring",
        "PricingCategory": "Standard",
        **_costs(line, effective=ZERO, contracted=contracted, listed=listed),
        **_sku(line),
        **_prices(contracted, listed),
        **_commitment(line, name, None, line.quantity),
        **_resource(line, name),
    }


def _unused(line: StatementLine, name: str, rest: Covered) -> Row:
    row = _purchase(line, name)
    contracted, listed = row["ContractedUnitPrice"], row["ListUnitPrice"]
    return row | {
        "ChargeCategory": "Usage",
        "ChargeFrequency": "Usage-Based",
        "ChargeDescription": f"Not used: {line.description}",
        "PricingCategory": "Committed",
        "BilledCost": ZERO,
        "ContractedCost": times(rest.quantity, contracted),
        "ListCost": times(rest.quantity, listed),
        "EffectiveCost": rest.effective,
        "PricingCurrencyEffectiveCost": rest.effective,
        "PricingQuantity": rest.quantity,
        "CommitmentDiscountQuantity": rest.quantity,
        "CommitmentDiscountStatus": "Unused",
    }


def _costs(line: StatementLine, *, effective: Decimal, contracted: Decimal, listed: Decimal) -> Row:
    exact = not line.correction  # a correction is a difference of amounts, not a product
    return {
        "BilledCost": line.amount,
        "EffectiveCost": effective,
        "PricingCurrencyEffectiveCost": effective,
        "ContractedCost": times(line.quantity, contracted) if exact else line.amount,
        "ListCost": times(line.quantity, listed) if exact else line.list_amount,
    }


def times(quantity: Decimal, price: Decimal) -> Decimal:
    """Multiply exactly, whatever the precision of the open decimal context."""
    with localcontext(prec=MAX_DIGITS):
        return quantity * price


def _prices(contracted: Decimal, listed: Decimal) -> Row:
    return {
        "ContractedUnitPrice": contracted,
        "ListUnitPrice": listed,
        "PricingCurrencyContractedUnitPrice": contracted,
        "PricingCurrencyListUnitPrice": listed,
    }


def _sku(line: StatementLine) -> Row:
    sku = line.sku.removeprefix(IDLE)
    head, _, _ = sku.partition(":")
    unit, _, _ = _unit(line)
    details = {
        "GpuCount": 1 if line.gpu_type else None,
        "x_GpuType": line.gpu_type,
        "x_Model": line.model if not line.gpu_type else None,
        "x_SloClass": line.slo_class if not line.gpu_type else None,
    }
    return {
        # The last part of a SKU is where or in which class it is had, which changes the price and not the thing.
        "SkuId": sku.rpartition(":")[0] or sku,
        "SkuPriceId": sku,
        "SkuMeter": METERS.get(head, head.replace("-", " ").title()),
        "SkuPriceDetails": _object(details),
        "PricingQuantity": line.quantity,
        "PricingUnit": unit,
    }


def _commitment(line: StatementLine, name: str, status: str | None, quantity: Decimal) -> Row:
    return {
        "CommitmentDiscountCategory": "Usage",
        "CommitmentDiscountId": str(line.commitment_id),
        "CommitmentDiscountName": name,
        "CommitmentDiscountType": COMMITMENT_TYPE,
        "CommitmentDiscountStatus": status,
        "CommitmentDiscountQuantity": quantity,
        "CommitmentDiscountUnit": _unit(line)[0],
    }


def _resource(line: StatementLine, name: str) -> Row:
    return {"ResourceId": str(line.commitment_id), "ResourceName": name, "ResourceType": "Commitment"}


def _unit(line: StatementLine) -> tuple[str, int, str]:
    return UNITS[line.unit]


def _object(facts: Mapping[str, object]) -> str | None:
    told = {name: value for name, value in facts.items() if value not in ("", None)}
    return json.dumps(told, ensure_ascii=False, sort_keys=True) if told else None
