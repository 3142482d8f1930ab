"""Tenants' own prices, books to try, commitments and credits in the console, and what tenants see of them."""

from __future__ import annotations

import datetime as dt
import uuid
from decimal import Decimal

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from billing.books import book_create, book_price_set
from billing.commitments import commitment_create
from billing.models import Book, Commitment, Credit, Price
from billing.prices import price_set
from tenants import scope
from tenants.members import member_add
from tenants.models import PlatformRole, Role
from tests.billing.prices import hold, label
from tests.factories import default_project, make_tenant, make_user


@pytest.fixture
def operator(db):
    """Prices and books are finance's."""
    return make_user("fay@example.org", platform_role=PlatformRole.FINANCE)


pytestmark = pytest.mark.django_db
PRICE = {"kind": "gpu_hour", "amount": "0.70", "gpu_type": "l4"}


def typed(moment: dt.datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M}"


@pytest.fixture
def book(estate) -> Book:
    return book_create(name="Spring <i>sale</i>", copy_live=True)


@pytest.fixture
def committed(acme) -> Commitment:
    now = timezone.now()
    return commitment_create(
        tenant=acme, name="Four L4", gpu_type="l4", gpus=4, rate=Decimal("0.75"), starts_at=now,
        ends_at=now + dt.timedelta(days=365), note="secret terms",
    )  # fmt: skip


def rows(model, **narrowed) -> list:
    with scope.platform("a test"):
        return list(model.objects.filter(**narrowed))


def test_a_tenants_own_price_is_set_and_shown_apart_from_the_list(console, estate, acme):
    before = console.get(reverse("console:prices")).text.count("Supersede:")
    answer = console.post(reverse("console:price-add"), PRICE | {"tenant": "acme"}, follow=True)
    assert answer.redirect_chain == [(f"{reverse('console:prices')}?tenant=acme", 302)]
    assert "holds for Acme &lt;b&gt;GmbH&lt;/b&gt; from" in answer.text
    (own,) = rows(Price, tenant=acme)
    assert (own.amount, own.currency) == (Decimal("0.70"), "EUR")
    listed = console.get(reverse("console:prices"))
    assert listed.text.count("Supersede:") == before
    assert "?tenant=acme" in listed.text
    assert "tenant=acme" in answer.context["kinds"][0]["lines"][0].supersede_url


def test_a_price_of_a_tenant_that_is_not_there_is_refused_beside_its_field(console, estate):
    answer = console.post(reverse("console:price-add"), PRICE | {"tenant": "nobody", "note": "kept"})
    assert answer.status_code == 422
    assert "no tenant" in answer.context["form"].errors["tenant"][0]
    assert 'value="kept"' in answer.text
    assert console.get(f"{reverse('console:prices')}?tenant=nobody").status_code == 404


def test_a_factor_of_a_class_is_a_price_of_its_kind(console, estate):
    page = console.post(
        reverse("console:price-add"),
        {"kind": "class_factor", "amount": "1.5", "slo_class": "batch"},
        follow=True,
    )
    kind = next(kind for kind in page.context["kinds"] if kind["factor"])
    assert [(line.words, line.now.amount) for line in kind["lines"]] == [("batch", Decimal("1.5"))]
    refused = console.post(
        reverse("console:price-add"), {"kind": "class_factor", "amount": "1", "gpu_type": "l4"}
    )
    assert "gpu_type" in refused.context["form"].errors


def test_a_book_is_made_changed_copied_published_and_removed(console, estate):
    answer = console.post(reverse("console:price-book-new"), {"name": "Spring", "note": "try"}, follow=True)
    assert "The book is empty" in answer.text
    (made,) = rows(Book)
    console.post(reverse("console:price-book-set", args=[made.id]), PRICE | {"region": "eu-fi-1"})
    answer = console.post(reverse("console:price-book-set", args=[made.id]), PRICE)
    assert len(rows(Price, book=made)) == 2
    answer = console.post(reverse("console:price-book-copy", args=[made.id]), follow=True)
    assert "copied from the list" in answer.text
    (mine,) = rows(Price, book=made, amount=Decimal("0.70"), region="eu-fi-1")
    console.post(reverse("console:price-book-remove", args=[made.id, mine.id]))
    assert not rows(Price, id=mine.id)
    moment = timezone.now() + dt.timedelta(days=1)
    answer = console.post(
        reverse("console:price-book-publish", args=[made.id]), {"effective_from": typed(moment)}, follow=True
    )
    assert "1 prices are on the list" in answer.text
    (live,) = rows(Price, book=None, amount=Decimal("0.70"))
    assert live.effective_from == moment.replace(second=0, microsecond=0)
    assert console.get(reverse("console:price-book-delete", args=[made.id])).status_code == 200
    console.post(reverse("console:price-book-delete", args=[made.id]))
    assert rows(Book) == []


def test_a_book_cannot_be_published_into_the_past_and_names_are_taken_once(console, book):
    answer = console.post(
        reverse("console:price-book-publish", args=[book.id]), {"effective_from": "2020-01-01T00:00"}
    )
    assert "in the past" in answer.context["form"].errors["effective_from"][0]
    assert (
        "name" in console.post(reverse("console:price-book-new"), {"name": book.name}).context["form"].errors
    )


def test_another_books_price_is_not_taken_out(console, book):
    other = book_create(name="other")
    price = book_price_set(book=other, kind="gpu_hour", amount=Decimal(1), currency="EUR")
    for of, each in ((book.id, price.id), (uuid.uuid4(), price.id), (book.id, uuid.uuid4())):
        assert console.post(reverse("console:price-book-remove", args=[of, each])).status_code == 404
    listed = rows(Price, book=None)[0]
    assert console.post(reverse("console:price-book-remove", args=[book.id, listed.id])).status_code == 404


def test_a_commitment_is_added_and_ended_early(console, acme):
    start = timezone.now() + dt.timedelta(days=1)
    body = {
        "name": "Four L4", "gpu_type": "l4", "gpus": "4", "rate": "0.75", "starts_at": typed(start),
        "ends_at": typed(start + dt.timedelta(days=30)),
    }  # fmt: skip
    add = reverse("console:tenant-commitment-add", args=["acme"])
    refused = console.post(add, body | {"ends_at": typed(start - dt.timedelta(days=9)), "gpus": "0"})
    assert refused.status_code == 422
    answer = console.post(add, body, follow=True)
    assert "has committed to 4 x l4" in answer.text
    (made,) = rows(Commitment)
    end = reverse("console:tenant-commitment-end", args=["acme", made.id])
    assert console.get(end).status_code == 200
    late = console.post(end, {"ends_at": typed(start + dt.timedelta(days=90))})
    assert "ends anyway" in late.context["form"].errors["ends_at"][0]
    assert "Withdrawn" in console.post(end, {"ends_at": typed(made.starts_at)}, follow=True).text
    make_tenant("other")
    elsewhere = reverse("console:tenant-commitment-end", args=["other", made.id])
    assert console.get(elsewhere).status_code == console.post(elsewhere, {}).status_code == 404


def test_a_credit_is_granted(console, acme):
    grant = reverse("console:tenant-credit-grant", args=["acme"])
    assert console.post(grant, {"amount": "-1", "reason": "x"}).status_code == 422
    answer = console.post(grant, {"amount": "250", "reason": "Migration"}, follow=True)
    assert "has a credit of 250 EUR" in answer.text
    (made,) = rows(Credit)
    assert (made.amount, made.tenant_id) == (Decimal("250"), acme.id)


def test_a_tenant_sees_its_commitments_without_the_operators_notes(console, acme, committed):
    console.post(reverse("console:tenant-credit-grant", args=["acme"]), {"amount": "9", "reason": "Sorry"})
    assert "secret terms" in console.get(reverse("console:tenant-commitments", args=["acme"])).text
    people = {role: make_user(f"{role}@acme.example") for role in Role.values}
    with scope.tenant(acme.id):
        for role, person in people.items():
            member_add(email=person.email, role=role, granter_role=Role.OWNER)
    for role, person in people.items():
        browser = Client()
        browser.force_login(person)
        answer = browser.get(reverse("tenant:commitments", args=["acme"]))
        if role == Role.VIEWER:
            assert answer.status_code == 403
            continue
        assert answer.status_code == 200
        assert "Four L4" in answer.text
        assert "Sorry" in answer.text
        assert "secret terms" not in answer.text
        assert "End early" not in answer.text


def test_a_stranger_finds_no_such_page(client, acme, committed):
    stranger = make_user("sam@other.example")
    make_tenant("other", owner=stranger)
    path = reverse("tenant:commitments", args=["acme"])
    assert client.get(path).status_code == 302
    client.force_login(stranger)
    assert client.get(path).status_code == 404
    assert "Nothing agreed yet" in client.get(reverse("tenant:commitments", args=["other"])).text


def test_the_catalog_shows_a_tenant_what_its_tokens_cost(client, estate):
    owner = make_user("ann@acme.example")
    acme = make_tenant("acme", owner=owner)
    client.force_login(owner)
    page = reverse("tenant:model", args=["acme", "llama-3.1-8b-instruct"])
    assert "777" not in client.get(page).text
    price_set(kind="input_tokens", amount=Decimal("777"), currency="EUR", tenant=acme)
    price_set(kind="input_tokens", amount=Decimal("888"), currency="EUR", tenant=make_tenant("other"))
    text = client.get(page).text
    assert "777" in text
    assert "888" not in text


@pytest.fixture
def last_month(estate, acme) -> str:
    """Acme held an L4 for ten hours of the last month; gives the month."""
    first = timezone.now().astimezone(dt.UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    start = (first - dt.timedelta(days=1)).replace(day=1)
    project = default_project(acme)
    hold(
        project, label(project, "chat"), f"{start:%Y-%m-%d}T00:00", f"{start:%Y-%m-%d}T10:00", gpu_type="l4",
        region="eu-fi-1",
    )  # fmt: skip
    return f"{start:%Y-%m}"


def test_a_month_is_rated_by_a_book_for_all_one_and_as_csv(console, last_month, book):
    book_price_set(
        book=book, kind="gpu_hour", amount=Decimal("0.10"), currency="EUR", gpu_type="l4", region="eu-fi-1"
    )
    path = f"{reverse('console:price-rerate')}?month={last_month}&book={book.id}"
    answer = console.get(path)
    (row,) = [each["row"] for each in answer.context["rows"]]
    assert row.after == Decimal("1.00")
    assert row.before > row.after
    assert "Acme &lt;b&gt;GmbH&lt;/b&gt;" in answer.text
    assert "Spring &lt;i&gt;sale&lt;/i&gt;" in answer.text
    by_sku = console.get(f"{path}&tenant=acme")
    assert sum(each.after for each in by_sku.context["skus"]) == Decimal("1.00")
    sheet = console.get(f"{path}&format=csv")
    assert sheet["Content-Type"].startswith("text/csv")
    assert "acme,Acme <b>GmbH</b>,,,EUR" in sheet.text


def test_a_month_without_anything_and_a_wrong_choice_say_so(console, book):
    page = reverse("console:price-rerate")
    assert "Nothing was charged" in console.get(f"{page}?month={timezone.now():%Y-%m}&book={book.id}").text
    for query in (
        f"month=1999-01&book={book.id}",
        f"month={timezone.now():%Y-%m}&book={uuid.uuid4()}",
        "month=x",
    ):
        assert console.get(f"{page}?{query}").status_code == 422
    assert console.get(f"{page}?month={timezone.now():%Y-%m}&book={book.id}&tenant=none").status_code == 404
