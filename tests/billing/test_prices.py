"""The price list: added to, superseded, never edited."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal

import pytest
from django.db import Error, transaction
from django.utils import timezone

from billing.models import Price
from billing.prices import price_book, price_set
from billing.rating.prices import PriceKind, Subject
from tenants import scope
from tenants.errors import Invalid
from tests.billing.prices import price, utc

pytestmark = pytest.mark.django_db
H100 = Subject(gpu_type="h100_sxm", region="de-1")


def set_gpu_price(**changes):
    facts = {"kind": "gpu_hour", "amount": Decimal("3.60"), "currency": "EUR", "gpu_type": "h100_sxm"}
    return price_set(**(facts | changes))


def test_new_price_supersedes_from_its_moment_on():
    price("gpu_hour", "3.60", utc("2026-01-01"))
    price("gpu_hour", "4.20", utc("2026-05-10T12:00"))
    book = price_book("EUR")
    assert book.price_of(PriceKind.GPU_HOUR, utc("2026-05-10T11:59:59"), H100).amount == Decimal("3.60")
    assert book.price_of(PriceKind.GPU_HOUR, utc("2026-05-10T12:00"), H100).amount == Decimal("4.20")


def test_more_specific_price_wins():
    price("gpu_hour", "3.60")
    price("gpu_hour", "3.00", gpu_type="h100_sxm")
    price("gpu_hour", "2.50", gpu_type="h100_sxm", region="de-1")
    book = price_book("EUR")
    assert book.price_of(PriceKind.GPU_HOUR, timezone.now(), H100).amount == Decimal("2.50")
    l40s = book.at("gpu_hour", timezone.now(), gpu_type="l40s")
    assert l40s.amount == Decimal("3.60")


def test_book_holds_one_currency():
    price("gpu_hour", "3.60")
    price("gpu_hour", "4.00", currency="USD")
    assert price_book("USD").price_of(PriceKind.GPU_HOUR, timezone.now(), H100).amount == Decimal("4.00")


def test_price_without_time_begins_now():
    before = timezone.now()
    assert before <= set_gpu_price().effective_from <= timezone.now()


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"kind": "storage"}, "kind"),
        ({"amount": Decimal("-1")}, "amount"),
        ({"amount": Decimal("NaN")}, "amount"),
        ({"amount": 3.6}, "amount"),
        ({"amount": Decimal("0.12345678901")}, "amount"),
        ({"currency": "euro"}, "currency"),
        ({"currency": "EURO"}, "currency"),
        ({"model": "guide"}, "model"),
        ({"effective_from": dt.datetime(2099, 1, 1)}, "effective_from"),
        ({"effective_from": utc("2026-01-01")}, "effective_from"),
        ({"note": "n" * 201}, "note"),
    ],
)
def test_price_that_cannot_be_right_is_refused(changes, field):
    with pytest.raises(Invalid) as refused:
        set_gpu_price(**changes)
    assert field in refused.value.errors
    assert not Price.objects.exists()


def test_two_prices_for_the_same_moment_are_refused():
    moment = timezone.now() + dt.timedelta(days=1)
    set_gpu_price(effective_from=moment)
    with pytest.raises(Invalid, match="same moment"):
        set_gpu_price(effective_from=moment, amount=Decimal("9"))


def test_database_refuses_to_edit_a_price():
    set_gpu_price()
    with (
        scope.platform("a test"),
        pytest.raises(Error, match="never change"),
        transaction.atomic(),
    ):
        Price.objects.update(amount=1)
