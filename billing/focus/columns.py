"""The columns of FOCUS 1.2 that apply to Berth, as data, in the order in which they are written.

Source: FinOps Open Cost and Usage Specification 1.2 (https://focus.finops.org/focus-specification/v1-2/). Left out are
AvailabilityZone (a region is as fine as a charge knows its place) and CapacityReservation* (a commitment is a price, it
sets no GPUs aside). Columns of Berth's own come last and begin with ``x_``.
"""

from __future__ import annotations

import dataclasses
import enum
from typing import Final

SERVICE_CATEGORY: Final = "AI and Machine Learning"
SERVICE_SUBCATEGORY: Final = "Generative AI"


class Type(enum.Enum):
    """What a column holds. JSON is an object of plain values, as text."""

    STRING = "string"
    DECIMAL = "decimal"
    DATETIME = "datetime"
    JSON = "json"
    INTEGER = "integer"


@dataclasses.dataclass(frozen=True)
class Column:
    """One column. ``allowed`` is empty where any value is; ``digits`` and ``places`` are those of a decimal."""

    name: str
    type: Type = Type.STRING
    nullable: bool = False
    allowed: tuple[str, ...] = ()
    digits: int = 0
    places: int = 0


def _text(name: str, *allowed: str) -> Column:
    return Column(name, allowed=allowed)


def _maybe(name: str, *allowed: str) -> Column:
    return Column(name, nullable=True, allowed=allowed)


def _time(name: str) -> Column:
    return Column(name, Type.DATETIME)


def _cost(name: str) -> Column:
    """An amount of the statement: as many places as its lines have."""
    return Column(name, Type.DECIMAL, digits=20, places=4)


def _product(name: str) -> Column:
    """A quantity of 10 places times a price of 10 places, exact."""
    return Column(name, Type.DECIMAL, digits=38, places=20)


def _price(name: str) -> Column:
    return Column(name, Type.DECIMAL, nullable=True, digits=20, places=10)


def _quantity(name: str) -> Column:
    return Column(name, Type.DECIMAL, nullable=True, digits=38, places=10)


COLUMNS: Final[tuple[Column, ...]] = (
    _cost("BilledCost"),
    _text("BillingAccountId"),
    _text("BillingAccountName"),
    _text("BillingAccountType"),
    _text("BillingCurrency"),
    _time("BillingPeriodEnd"),
    _time("BillingPeriodStart"),
    _text("ChargeCategory", "Usage", "Purchase", "Tax", "Credit", "Adjustment"),
    _maybe("ChargeClass", "Correction"),
    _text("ChargeDescription"),
    _text("ChargeFrequency", "One-Time", "Recurring", "Usage-Based"),
    _time("ChargePeriodEnd"),
    _time("ChargePeriodStart"),
    _maybe("CommitmentDiscountCategory", "Spend", "Usage"),
    _maybe("CommitmentDiscountId"),
    _maybe("CommitmentDiscountName"),
    _quantity("CommitmentDiscountQuantity"),
    _maybe("CommitmentDiscountStatus", "Used", "Unused"),
    _maybe("CommitmentDiscountType"),
    _maybe("CommitmentDiscountUnit"),
    _quantity("ConsumedQuantity"),
    _maybe("ConsumedUnit"),
    _product("ContractedCost"),
    _price("ContractedUnitPrice"),
    _cost("EffectiveCost"),
    _maybe("InvoiceId"),
    _text("InvoiceIssuerName"),
    _product("ListCost"),
    _price("ListUnitPrice"),
    _maybe("PricingCategory", "Standard", "Dynamic", "Committed", "Other"),
    _text("PricingCurrency"),
    _price("PricingCurrencyContractedUnitPrice"),
    _cost("PricingCurrencyEffectiveCost"),
    _price("PricingCurrencyListUnitPrice"),
    _quantity("PricingQuantity"),
    _maybe("PricingUnit"),
    _text("ProviderName"),
    _text("PublisherName"),
    _maybe("RegionId"),
    _maybe("RegionName"),
    _maybe("ResourceId"),
    _maybe("ResourceName"),
    _maybe("ResourceType"),
    _text("ServiceCategory", SERVICE_CATEGORY),
    _text("ServiceName"),
    _text("ServiceSubcategory", SERVICE_SUBCATEGORY),
    _maybe("SkuId"),
    _maybe("SkuMeter"),
    Column("SkuPriceDetails", Type.JSON, nullable=True),
    _maybe("SkuPriceId"),
    _maybe("SubAccountId"),
    _maybe("SubAccountName"),
    _maybe("SubAccountType"),
    Column("Tags", Type.JSON, nullable=True),
    # The line of the statement that a row comes from, what it is there, and the row of the price list.
    Column("x_StatementLine", Type.INTEGER),
    _text("x_StatementLineKind"),
    _maybe("x_PriceId"),
)

#: Names under which focus-validator 1.0.0 looks for columns, and FOCUS's names of them, in 1.0 as in 1.2.
VALIDATOR_NAMES: Final = {
    "ChargeType": "ChargeCategory",
    "InvoiceIssuer": "InvoiceIssuerName",
    "Provider": "ProviderName",
    "Publisher": "PublisherName",
    "ResourceID": "ResourceId",
}


def columns(*, for_validator: bool = False) -> dict[str, Column]:
    """Give the columns of a file by name, each with the column of FOCUS whose values it has.

    ``for_validator`` adds those that focus-validator wants under other names.
    """
    known = {column.name: column for column in COLUMNS}
    return known | {name: known[ours] for name, ours in VALIDATOR_NAMES.items()} if for_validator else known
