"""What FOCUS 1.2 asks of a file, written down anew from the specification; shares nothing with the exporter.

Rows are what a CSV reader gives: text, an empty cell for null.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Callable
from decimal import Decimal

Row = dict[str, str]

MANDATORY = [
    "BilledCost",
    "BillingAccountId",
    "BillingAccountName",
    "BillingCurrency",
    "BillingPeriodEnd",
    "BillingPeriodStart",
    "ChargeCategory",
    "ChargeClass",
    "ChargeDescription",
    "ChargePeriodEnd",
    "ChargePeriodStart",
    "ContractedCost",
    "EffectiveCost",
    "InvoiceIssuerName",
    "ListCost",
    "PricingQuantity",
    "PricingUnit",
    "ProviderName",
    "PublisherName",
    "ServiceCategory",
    "ServiceName",
]
# Conditional and recommended ones whose condition holds: what 1.1 and 1.2 added is among them.
APPLICABLE = [
    "BillingAccountType",
    "ChargeFrequency",
    "CommitmentDiscountCategory",
    "CommitmentDiscountId",
    "CommitmentDiscountName",
    "CommitmentDiscountQuantity",
    "CommitmentDiscountStatus",
    "CommitmentDiscountType",
    "CommitmentDiscountUnit",
    "ConsumedQuantity",
    "ConsumedUnit",
    "ContractedUnitPrice",
    "InvoiceId",
    "ListUnitPrice",
    "PricingCategory",
    "PricingCurrency",
    "PricingCurrencyContractedUnitPrice",
    "PricingCurrencyEffectiveCost",
    "PricingCurrencyListUnitPrice",
    "RegionId",
    "RegionName",
    "ResourceId",
    "ResourceName",
    "ResourceType",
    "ServiceSubcategory",
    "SkuId",
    "SkuMeter",
    "SkuPriceDetails",
    "SkuPriceId",
    "SubAccountId",
    "SubAccountName",
    "SubAccountType",
    "Tags",
]
DECIMALS = [
    "BilledCost",
    "CommitmentDiscountQuantity",
    "ConsumedQuantity",
    "ContractedCost",
    "ContractedUnitPrice",
    "EffectiveCost",
    "ListCost",
    "ListUnitPrice",
    "PricingCurrencyContractedUnitPrice",
    "PricingCurrencyEffectiveCost",
    "PricingCurrencyListUnitPrice",
    "PricingQuantity",
]
TIMES = ["BillingPeriodEnd", "BillingPeriodStart", "ChargePeriodEnd", "ChargePeriodStart"]
NEVER_NULL = [
    "BilledCost",
    "BillingAccountId",
    "BillingAccountName",
    "BillingAccountType",
    "BillingCurrency",
    "BillingPeriodEnd",
    "BillingPeriodStart",
    "ChargeCategory",
    "ChargeDescription",
    "ChargeFrequency",
    "ChargePeriodEnd",
    "ChargePeriodStart",
    "ContractedCost",
    "EffectiveCost",
    "InvoiceIssuerName",
    "ListCost",
    "PricingCurrency",
    "PricingCurrencyEffectiveCost",
    "ProviderName",
    "PublisherName",
    "ServiceCategory",
    "ServiceName",
    "ServiceSubcategory",
]
ALLOWED = {
    "ChargeCategory": {"Usage", "Purchase", "Tax", "Credit", "Adjustment"},
    "ChargeClass": {"Correction"},
    "ChargeFrequency": {"One-Time", "Recurring", "Usage-Based"},
    "CommitmentDiscountCategory": {"Spend", "Usage"},
    "CommitmentDiscountStatus": {"Used", "Unused"},
    "PricingCategory": {"Standard", "Dynamic", "Committed", "Other"},
    "ServiceSubcategory": {
        "AI Platforms", "Bots", "Generative AI", "Machine Learning", "Natural Language Processing",
        "Other (AI and Machine Learning)",
    },
}  # fmt: skip
#: Null together, or not null together.
TOGETHER = [
    (
        "CommitmentDiscountId",
        "CommitmentDiscountCategory",
        "CommitmentDiscountType",
        "CommitmentDiscountName",
    ),
    ("CommitmentDiscountQuantity", "CommitmentDiscountUnit"),
    ("ConsumedQuantity", "ConsumedUnit"),
    ("PricingQuantity", "PricingUnit"),
    ("RegionId", "RegionName"),
    ("ResourceId", "ResourceType"),
    ("SubAccountId", "SubAccountName", "SubAccountType"),
]
PRICED = [
    "ContractedUnitPrice",
    "ListUnitPrice",
    "PricingCategory",
    "PricingCurrencyContractedUnitPrice",
    "PricingCurrencyListUnitPrice",
    "PricingQuantity",
    "SkuId",
    "SkuMeter",
    "SkuPriceId",
]
NUMBER = re.compile(r"-?\d+(\.\d+)?(E-?\d+)?")
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
UNIT = re.compile(r"(\d+ )?([A-Z][A-Za-z]*s|[A-Z][A-Za-z]*-[A-Z][a-z]*s)")


def problems(rows: list[Row]) -> list[str]:
    """Give every breach, as row number, column and what is wrong."""
    found = [] if rows else ["no rows"]
    for number, row in enumerate(rows, start=1):
        missing = [name for name in MANDATORY + APPLICABLE if name not in row]
        if missing:
            return [f"missing columns {missing}"]
        found += [f"row {number}: {problem}" for rule in RULES for problem in rule(row)]
    return found + _orders(list(rows[0])) + _commitments(rows) + _skus(rows)


def _types(row: Row) -> list[str]:
    found = [f"{name} is null" for name in NEVER_NULL if not row[name]]
    found += [
        f"{name} is no number: {row[name]}"
        for name in DECIMALS
        if row[name] and not NUMBER.fullmatch(row[name])
    ]
    found += [f"{name} is no time: {row[name]}" for name in TIMES if not TIME.fullmatch(row[name])]
    found += [
        f"{name}: {row[name]}" for name, values in ALLOWED.items() if row[name] and row[name] not in values
    ]
    found += [f"{name} is blank" for name, text in row.items() if text and not text.strip()]
    found += [
        f"{name} is no ISO 4217 code"
        for name in ("BillingCurrency", "PricingCurrency")
        if not re.fullmatch(r"[A-Z]{3}", row[name])
    ]
    found += [
        f"{name}: {row[name]}"
        for name in ("PricingUnit", "ConsumedUnit", "CommitmentDiscountUnit")
        if row[name] and not UNIT.fullmatch(row[name])
    ]
    for name in ("Tags", "SkuPriceDetails"):
        values = json.loads(row[name]) if row[name] else {}
        if not isinstance(values, dict) or any(isinstance(each, dict | list) for each in values.values()):
            found.append(f"{name} is no flat object")
    return found


def _nulls(row: Row) -> list[str]:
    found = [
        f"{names} are not null together" for names in TOGETHER if len({bool(row[name]) for name in names}) > 1
    ]
    priced = row["ChargeCategory"] in ("Usage", "Purchase") and not row["ChargeClass"]
    if priced:
        found += [f"{name} is null" for name in PRICED if not row[name]]
    if (not row["SkuId"] and row["SkuMeter"]) or (not row["SkuPriceId"] and row["SkuPriceDetails"]):
        found.append("a SKU without an id is described")
    usage, status = row["ChargeCategory"] == "Usage", row["CommitmentDiscountStatus"]
    if row["ConsumedQuantity"] and (not usage or status == "Unused"):
        found.append("ConsumedQuantity of what was not consumed")
    if usage and status != "Unused" and not row["ChargeClass"] and not row["ConsumedQuantity"]:
        found.append("ConsumedQuantity is null")
    if bool(status) != bool(row["CommitmentDiscountId"] and usage):
        found.append("CommitmentDiscountStatus")
    if row["CommitmentDiscountQuantity"] and not (
        row["CommitmentDiscountId"] and row["ChargeCategory"] != "Credit"
    ):
        found.append("CommitmentDiscountQuantity of nothing committed")
    if priced and row["CommitmentDiscountId"] and not row["CommitmentDiscountQuantity"]:
        found.append("CommitmentDiscountQuantity is null")
    return found


def _costs(row: Row) -> list[str]:
    found = []
    number = {name: Decimal(row[name]) for name in DECIMALS if row[name]}
    for price, cost in (("ContractedUnitPrice", "ContractedCost"), ("ListUnitPrice", "ListCost")):
        if price not in number:
            if not row["ChargeClass"] and number[cost] != number["BilledCost"]:
                found.append(f"{cost} without a price is not what was billed")
        elif number[price] < 0:
            found.append(f"{price} is negative")
        elif not row["ChargeClass"] and number[price] * number["PricingQuantity"] != number[cost]:
            found.append(f"{cost} is not {price} times PricingQuantity")
    if row["ChargeCategory"] == "Credit" and number["EffectiveCost"] != number["BilledCost"]:
        found.append("EffectiveCost of a credit")
    if row["ChargeCategory"] == "Purchase":
        if number["EffectiveCost"]:
            found.append("EffectiveCost of a purchase for later")
        if row["ChargeFrequency"] == "Usage-Based":
            found.append("a usage-based purchase")
        if row["CommitmentDiscountId"] != row["ResourceId"]:
            found.append("the resource of a commitment's purchase is the commitment")
    if row["CommitmentDiscountStatus"] and (number["BilledCost"] or row["PricingCategory"] != "Committed"):
        found.append("what a commitment covers is billed")
    if row["CommitmentDiscountStatus"] == "Unused" and row["ResourceId"] != row["CommitmentDiscountId"]:
        found.append("the resource of what was not used is the commitment")
    if (
        row["PricingCurrency"] == row["BillingCurrency"]
        and row["PricingCurrencyEffectiveCost"] != row["EffectiveCost"]
    ):
        found.append("the same currency, another cost")
    if not row["ChargePeriodStart"] < row["ChargePeriodEnd"]:
        found.append("the charge period is empty")
    if row["ChargeClass"] and not row["ChargePeriodEnd"] <= row["BillingPeriodStart"]:
        found.append("a correction of the open period")
    return found


RULES: list[Callable[[Row], list[str]]] = [_types, _nulls, _costs]


def _orders(names: list[str]) -> list[str]:
    own = [name.startswith("x_") for name in names]
    found = [] if own == sorted(own) else ["columns of one's own stand between FOCUS's"]
    unknown = [name for name in names if not name.startswith("x_") and name not in MANDATORY + APPLICABLE]
    return found + [f"{name} is no column of FOCUS that applies" for name in unknown]


def _commitments(rows: list[Row]) -> list[str]:
    bought: defaultdict[str, Decimal] = defaultdict(Decimal)
    spread: defaultdict[str, Decimal] = defaultdict(Decimal)
    for row in rows:
        if row["CommitmentDiscountId"]:
            bought[row["CommitmentDiscountId"]] += Decimal(row["BilledCost"])
            spread[row["CommitmentDiscountId"]] += Decimal(row["EffectiveCost"])
    return [
        f"commitment {each}: {bought[each]} bought, {spread[each]} spread"
        for each in bought
        if bought[each] != spread[each]
    ]


def _skus(rows: list[Row]) -> list[str]:
    found = []
    for child, parent in (("SkuPriceId", "SkuId"), ("SkuPriceId", "SkuPriceDetails"), ("SkuId", "SkuMeter")):
        parents: defaultdict[str, set[str]] = defaultdict(set)
        for row in rows:
            parents[row[child]].add(row[parent])
        found += [f"{child} {one} has {many}" for one, many in parents.items() if len(many) > 1]
    return found
