"""Orders at once against one budget, committed for real: as many pass as fit, and not one more."""

from __future__ import annotations

from decimal import Decimal

import pytest
from django.utils import timezone

from billing.budgets.services import budget_create
from billing.models import BudgetWindow, GpuClaim
from clusters.models import Endpoint
from gateway import contract
from tenants import scope
from tests.api.test_idempotency import at_once, poster
from tests.estate import MODEL, make_estate
from tests.factories import make_tenant, management_key

ASKED, FIT = 8, 3


@pytest.mark.usefixtures("committed_db")
def test_of_many_orders_at_once_as_many_pass_as_fit():
    make_estate()
    tenant = make_tenant("acme", gpus=32)
    now = timezone.now()
    _, end = contract.budget_window(contract.BudgetPeriod.MONTH, "UTC", now)
    left = Decimal((end - now).total_seconds()) / 3600
    with scope.tenant(tenant.id):
        budget = budget_create(
            name="GPUs", unit="gpu_hours", period="month", limit=round(left * (FIT + Decimal("0.5")), 6)
        )
    key = management_key(tenant)
    body = {"project": "default", "model": MODEL, "slo_class": "standard", "replicas": 1}

    answers = at_once([poster(key, "endpoints", body | {"name": f"chat-{n}"}) for n in range(ASKED)])

    assert sorted(each.status_code for each in answers) == [201] * FIT + [403] * (ASKED - FIT)
    refused = [each.json() for each in answers if each.status_code == 403]
    assert {each["code"] for each in refused} == {"over-budget"}
    assert {each["budget_id"] for each in refused} == {str(budget.id)}
    with scope.tenant(tenant.id):
        assert Endpoint.objects.count() == GpuClaim.objects.count() == FIT
        found = BudgetWindow.objects.get(budget=budget)
    assert found.granted <= found.limit
