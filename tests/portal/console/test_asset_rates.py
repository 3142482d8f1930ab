"""What GPUs cost us: rates in force, what has none, where the money went, a new rate."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal

import pytest
from django.urls import reverse
from django.utils import timezone

from billing.gpu_time.hours import hours_compute
from billing.gpu_time.rates import asset_rate_set
from billing.models import AssetRate, GpuSupply
from tenants import scope
from tenants.models import PlatformRole
from tests.factories import make_user


@pytest.fixture
def operator(db):
    """Prices and books are finance's."""
    return make_user("fay@example.org", platform_role=PlatformRole.FINANCE)


@pytest.fixture
def page(console):
    return lambda: console.get(reverse("console:asset-rates"))


def test_strangers_do_not_find_it(client, db):
    for name in ("asset-rates", "asset-rate-add"):
        url = reverse(f"console:{name}")
        assert client.get(url).status_code == 302
        client.force_login(make_user())
        assert client.get(url).status_code == 404
        client.logout()


def test_without_rates_it_says_what_is_missing(page, estate):
    text = page().text
    assert "None yet." in text
    assert "8 H100 SXM in de-a, 4 L4 in de-a, 4 L4 in fi-a, 8 L4 in us-a." in text


def test_a_rate_is_added_and_shown(console, page, estate):
    answer = console.post(
        reverse("console:asset-rate-add"),
        {"amount": "1.50", "gpu_type": "h100_sxm", "note": "leasing"},
        follow=True,
    )
    assert "1.5 EUR per GPU-hour holds from" in answer.text
    assert "H100 SXM in every cluster" in page().text
    assert "8 H100 SXM in de-a" not in page().text
    with scope.platform("a test"):
        assert AssetRate.objects.get().amount == Decimal("1.5")


def test_what_is_wrong_is_said_beside_the_field_and_kept(console, estate):
    answer = console.post(reverse("console:asset-rate-add"), {"amount": "-1", "note": "leasing"})
    assert answer.status_code == 422
    assert "leasing" in answer.text
    console.post(reverse("console:asset-rate-add"), {"amount": "1", "effective_from": "2026-01-01T00:00"})
    again = console.post(
        reverse("console:asset-rate-add"), {"amount": "2", "effective_from": "2026-01-01T00:00"}
    )
    assert "A rate for this begins at the same moment" in again.text


def test_the_form_begins_with_what_was_clicked(console, estate):
    text = console.get(reverse("console:asset-rate-add"), {"cluster": "de-a", "gpu_type": "l4"}).text
    assert '<option value="de-a" selected>' in text
    assert '<option value="l4" selected>' in text


def test_the_last_days_are_shown_with_what_they_lack(page, estate):
    now = timezone.now()
    since = now - dt.timedelta(hours=10)
    with scope.platform("a test"):
        GpuSupply.objects.update(started_at=since)
        asset_rate_set(amount=Decimal(2), currency="EUR", cluster="de-a", effective_from=since)
        hours_compute(now=now, wait=True)
    text = page().text
    assert "240.00" in text  # 12 GPUs x 10 hours x 2
    assert "GPU-hours that had no rate count as 0: 40 in fi-a, 80 in us-a." in text
