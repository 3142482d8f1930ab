"""All kinds of documents, in the order in which they are applied: each after what it refers to."""

from __future__ import annotations

from typing import Final

from portal.configuration.kinds.advice_policy import AdvicePolicyKind
from portal.configuration.kinds.base import Kind
from portal.configuration.kinds.budget import BudgetKind
from portal.configuration.kinds.endpoint import EndpointKind
from portal.configuration.kinds.named_route import NamedRouteKind
from portal.configuration.kinds.offer import (
    CatalogModelKind,
    EngineImageKind,
    EngineSettingsKind,
    SloClassKind,
)
from portal.configuration.kinds.policies import ApprovalRuleKind, TenantPolicyKind
from portal.configuration.kinds.price_book import PriceBookKind

KINDS: Final[dict[str, Kind]] = {
    each.name: each
    for each in (
        SloClassKind(), EngineSettingsKind(), EngineImageKind(), CatalogModelKind(), PriceBookKind(),
        AdvicePolicyKind(), TenantPolicyKind(), ApprovalRuleKind(), BudgetKind(), EndpointKind(), NamedRouteKind(),
    )
}  # fmt: skip

__all__ = ["KINDS", "Kind"]
