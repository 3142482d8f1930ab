"""Tenants' own prices, factors of classes and books that are only tried."""

from __future__ import annotations

import datetime as dt
import uuid
from decimal import Decimal

import pytest
from django.db import Error, connection, transaction
from django.utils import timezone

from billing.books import (
    book_copy_live,
    book_create,
    book_delete,
    book_price_remove,
    book_price_set,
    book_publish,
)
from billing.costs import cost_summary
from billing.models import Price
from billing.prices import price_book, price_books, price_set
from billing.rating.prices import PriceKind, Subject
from tenants import scope
from tenants.errors import Invalid
from tests.billing.prices import hold, label, list_prices, price, utc
from tests.billing.usage import add_usage
from tests.factories import default_project, make_tenant

pytestmark = pytest.mark.django_db
H100 = Subject(gpu_type="h100_sxm", region="de-1")
D = Decimal


@pytest.fixture
def acme():
    list_prices()
    return make_tenant("acme")


@pytest.fixture
def other(acme):
    return make_tenant("other")


def gpu_hour(tenant) -> Decimal:
    """Give what an H100-hour costs a tenant now, read in its own scope."""
    with scope.tenant(tenant.id):
        return price_book(tenant.currency).price_of(PriceKind.GPU_HOUR, timezone.now(), H100).amount


def may_cost(tenant):
    with scope.tenant(tenant.id):
        return cost_summary(start=utc("2026-05-01"), end=utc("2026-06-01")).total


def test_a_tenants_own_price_holds_for_it_alone(acme, other):
    price("gpu_hour", "3.00", tenant=acme)
    assert gpu_hour(acme) == D("3.00")
    assert gpu_hour(other) == D("3.60")
    with scope.platform("a test"):
        assert price_book("EUR").price_of(PriceKind.GPU_HOUR, timezone.now(), H100).amount == D("3.60")
        own = price_book("EUR", tenant_id=acme.id)
        assert own.price_of(PriceKind.GPU_HOUR, timezone.now(), H100).amount == D("3.00")


def test_the_database_shows_no_tenant_anothers_price_nor_one_that_is_tried(acme, other):
    price("gpu_hour", "3.00", tenant=acme)
    book = book_create(name="cheaper", copy_live=True)
    book_price_set(book=book, kind="gpu_hour", amount=D("1"), currency="EUR", tenant="acme")
    for tenant, own in ((acme, 1), (other, 0)):
        with scope.tenant(tenant.id), connection.cursor() as cursor:
            cursor.execute("SELECT count(*), count(tenant_id), count(book_id) FROM billing_price")
            assert cursor.fetchone() == (4 + own, own, 0)
            cursor.execute("SELECT count(*) FROM billing_book")
            assert cursor.fetchone() == (0,)


def test_books_of_many_tenants_take_one_query_and_share_the_list(acme, other, django_assert_num_queries):
    price("gpu_hour", "3.00", tenant=acme)
    strangers = [uuid.uuid4() for _ in range(50)]
    with scope.platform("a test"), django_assert_num_queries(1):
        books = price_books("EUR", [acme.id, other.id, *strangers])
    assert books[other.id] is books[None] is books[strangers[0]]
    amounts = [
        books[who].price_of(PriceKind.GPU_HOUR, timezone.now(), H100).amount for who in (acme.id, other.id)
    ]
    assert amounts == [D("3.00"), D("3.60")]


def test_a_tenants_price_is_in_its_currency(acme):
    with pytest.raises(Invalid) as refused:
        price_set(kind="gpu_hour", amount=D("3"), currency="USD", tenant=acme)
    assert refused.value.errors == {"currency": ["Acme is charged in EUR."]}
    with pytest.raises(Invalid) as refused:
        price_set(kind="gpu_hour", amount=D("3"), currency="EUR", tenant="nobody")
    assert "tenant" in refused.value.errors


@pytest.mark.parametrize("amount", ["1000", "1.0001"])
def test_a_factor_that_cannot_be_right_is_refused(amount):
    with pytest.raises(Invalid) as refused:
        price_set(kind="class_factor", amount=D(amount), currency="EUR", slo_class="batch")
    assert "at most 999.999" in refused.value.errors["amount"][0]


def test_a_factor_that_changes_in_the_month_holds_from_the_hour_after_its_change(acme):
    project = default_project(acme)
    chat = label(project, "chat")
    price("class_factor", "2", utc("2026-05-10T00:00"), slo_class="standard")
    price("class_factor", "3", utc("2026-05-20T12:30"), slo_class="standard")
    price("class_factor", "9", utc("2026-05-01T00:00"), slo_class="batch")
    for at in ("2026-05-09T23:10", "2026-05-10T00:10", "2026-05-20T12:10", "2026-05-20T13:10"):
        add_usage(project, at=utc(at), endpoint_id=chat, output_tokens=1_000_000)
    # 1.50 a million: once at 1, twice at 2 (an hour has the factor of its beginning), once at 3.
    assert may_cost(acme).usage == D("1.50") * (1 + 2 + 2 + 3)


def test_a_tenants_own_factor_is_its_discount_on_tokens_but_not_on_gpu_time(acme, other):
    price("class_factor", "1.5", slo_class="standard")
    price("class_factor", "0.8", tenant=acme)
    for tenant in (acme, other):
        project = default_project(tenant)
        chat = label(project, "chat")
        hold(project, chat, "2026-05-03T09:00", "2026-05-03T10:00")
        add_usage(project, at=utc("2026-05-03T09:30"), endpoint_id=chat, output_tokens=1_000_000)
    assert (may_cost(acme).usage, may_cost(acme).allocation) == (D("1.20"), D("3.60"))
    assert (may_cost(other).usage, may_cost(other).allocation) == (D("2.25"), D("3.60"))


def test_tokens_may_cost_more_in_one_region(acme):
    project = default_project(acme)
    chat = label(project, "chat")
    price("output_tokens", "4.00", model="guide", region="us-1")
    for region in ("us-1", "de-1"):
        add_usage(
            project, at=utc("2026-05-03T09:30"), endpoint_id=chat, region=region, output_tokens=1_000_000
        )
    assert may_cost(acme).usage == D("4.00") + D("1.50")


def tried(book, when: str = "2026-05-01", subject: Subject = H100) -> Decimal:
    with scope.platform("a test"):
        return price_book("EUR", book=book).price_of(PriceKind.GPU_HOUR, utc(when), subject).amount


def test_a_book_holds_for_any_month_and_touches_nothing_that_is_charged(acme):
    book = book_create(name="cheaper")
    book_price_set(book=book, kind="gpu_hour", amount=D("2.00"), currency="EUR", gpu_type="h100_sxm")
    book_price_set(
        book=book, kind="gpu_hour", amount=D("1.00"), currency="EUR", gpu_type="h100_sxm",
        effective_from=utc("2026-05-15"),
    )  # fmt: skip
    assert [tried(book, when) for when in ("2026-05-14", "2026-05-15")] == [D("2"), D("1")]
    assert gpu_hour(acme) == D("3.60")
    with scope.tenant(acme.id):  # a tenant's month may be rated by a book that the tenant may not read
        found = price_book("EUR", book=book)
    assert found.price_of(PriceKind.GPU_HOUR, utc("2026-05-01"), H100).amount == D("2")


def test_setting_a_price_of_a_book_again_replaces_it(acme):
    book = book_create(name="cheaper")
    for amount in ("2.00", "1.75"):
        book_price_set(book=book, kind="gpu_hour", amount=D(amount), currency="EUR", gpu_type="h100_sxm")
    assert tried(book) == D("1.75")
    with scope.platform("a test"):
        (only,) = book.prices.all()
    book_price_remove(price=only)
    assert tried(book) == D("3.60")


def test_a_copy_of_the_list_costs_the_same_and_leaves_what_is_there(acme):
    price("gpu_hour", "3.00", tenant=acme)
    book = book_create(name="copy")
    book_price_set(book=book, kind="gpu_hour", amount=D("2.00"), currency="EUR", gpu_type="h100_sxm")
    assert book_copy_live(book=book) == 4
    assert book_copy_live(book=book) == 0
    assert tried(book) == D("2.00")
    with scope.platform("a test"):
        own = price_book("EUR", tenant_id=acme.id, book=book)
    assert own.price_of(PriceKind.GPU_HOUR, utc("2026-05-01"), H100).amount == D("3.00")


def test_publishing_supersedes_from_the_moment_on_and_only_what_differs(acme):
    book = book_create(name="new year", copy_live=True)
    book_price_set(book=book, kind="gpu_hour", amount=D("2.00"), currency="EUR", gpu_type="h100_sxm")
    moment = timezone.now() + dt.timedelta(days=2)
    later = moment + dt.timedelta(days=3)
    book_price_set(
        book=book,
        kind="gpu_hour",
        amount=D("1.00"),
        currency="EUR",
        gpu_type="h100_sxm",
        effective_from=later,
    )
    done = book_publish(book=book, effective_from=moment)
    assert (len(done.added), done.unchanged, done.followed) == (2, 3, ())
    with scope.platform("a test"):
        live = price_book("EUR")
    amounts = [
        live.price_of(PriceKind.GPU_HOUR, when, H100).amount
        for when in (moment - dt.timedelta(seconds=1), moment, later)
    ]
    assert amounts == [D("3.60"), D("2.00"), D("1.00")]
    book_delete(book=book)
    assert Price.objects.count() == 6


def test_publishing_tells_what_will_supersede_it(acme):
    book = book_create(name="soon")
    book_price_set(book=book, kind="gpu_hour", amount=D("2.00"), currency="EUR", gpu_type="h100_sxm")
    coming = price_set(
        kind="gpu_hour", amount=D("5"), currency="EUR", gpu_type="h100_sxm",
        effective_from=timezone.now() + dt.timedelta(days=9),
    )  # fmt: skip
    assert book_publish(book=book).followed == (coming,)


def test_what_cannot_be_published_is_refused(acme):
    book = book_create(name="empty")
    with pytest.raises(Invalid, match="no price"):
        book_publish(book=book)
    book_price_set(book=book, kind="gpu_hour", amount=D("2.00"), currency="EUR", gpu_type="h100_sxm")
    with pytest.raises(Invalid, match="past"):
        book_publish(book=book, effective_from=utc("2026-01-01"))
    with pytest.raises(Invalid, match="already exists"):
        book_create(name="empty")


def test_a_price_on_the_list_stays(acme):
    with pytest.raises(Invalid, match="supersedes"):
        book_price_remove(price=Price.objects.first())
    with scope.platform("a test"), pytest.raises(Error, match="never change"), transaction.atomic():
        Price.objects.all().delete()


def test_a_tenant_cannot_write_a_price_of_its_own(acme):
    with (
        scope.tenant(acme.id),
        pytest.raises(Error, match="row-level security"),
        transaction.atomic(),
    ):
        Price.objects.create(
            tenant=acme, kind="gpu_hour", amount=0, currency="EUR", effective_from=timezone.now()
        )


def test_a_price_that_begins_at_the_very_moment_is_not_published_over(acme):
    book = book_create(name="soon")
    book_price_set(book=book, kind="gpu_hour", amount=D("2.00"), currency="EUR", gpu_type="h100_sxm")
    moment = timezone.now() + dt.timedelta(days=1)
    price_set(kind="gpu_hour", amount=D("5"), currency="EUR", gpu_type="h100_sxm", effective_from=moment)
    with pytest.raises(Invalid, match="same moment"):
        book_publish(book=book, effective_from=moment)
