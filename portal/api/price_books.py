"""For operators: prices on the list, tenants' own ones, and books that are tried."""

from __future__ import annotations

from typing import Any

import django_filters
from django.db.models import Count, QuerySet
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.response import Response

from billing.books import (
    book_copy_live,
    book_create,
    book_delete,
    book_price_remove,
    book_price_set,
    book_publish,
)
from billing.models import Book, Price
from billing.prices import price_set
from clusters.api.operators import OperatorViewSet
from clusters.models import CatalogModel, GpuType, Region, SloClass
from tenants.api.base import IF_MATCH
from tenants.api.fields import MomentField, ReferenceField, StrictSerializer
from tenants.api.filters import PAGING, refuse_unknown_parameters
from tenants.api.idempotency import idempotent
from tenants.api.preconditions import content_version, etag, refuse_stale
from tenants.models import Tenant
from tenants.roles import PlatformAction

NAMED = {"gpu_type": "name", "region": "code", "model": "name", "slo_class": "name"}


class ListPriceSerializer(serializers.ModelSerializer):
    """A price; an empty selector holds for all, tenant is null for everybody."""

    tenant = serializers.SlugRelatedField(slug_field="slug", read_only=True, allow_null=True)

    class Meta:
        model = Price
        fields = [
            "id", "tenant", "kind", "gpu_type", "region", "model", "slo_class", "amount", "currency", "effective_from",
            "note", "created_at",
        ]  # fmt: skip


class PriceBody(StrictSerializer):
    """A price. What is left out holds for every value; amount is the factor where the kind is class_factor."""

    kind = serializers.ChoiceField(choices=Price.Kind.choices)
    amount = serializers.DecimalField(max_digits=20, decimal_places=10, min_value=0)
    currency = serializers.CharField(max_length=3)
    effective_from = MomentField(required=False, help_text="Default: now; in a book that is tried, always.")
    tenant = ReferenceField(
        find=lambda: Tenant.objects.all(), by="slug", what="tenant", required=False,
        help_text="Slug of the tenant whose own price it is. Default: everybody's.",
    )  # fmt: skip
    gpu_type = ReferenceField(find=lambda: GpuType.objects.all(), by="name", what="GPU type", required=False)
    region = ReferenceField(find=lambda: Region.objects.all(), by="code", what="region", required=False)
    model = ReferenceField(find=lambda: CatalogModel.objects.all(), by="name", what="model", required=False)
    slo_class = ReferenceField(find=lambda: SloClass.objects.all(), by="name", what="class", required=False)
    note = serializers.CharField(max_length=200, required=False)

    def validate(self, values: dict[str, Any]) -> dict[str, Any]:
        return {
            name: getattr(value, NAMED[name]) if name in NAMED else value for name, value in values.items()
        }


class BookSerializer(serializers.ModelSerializer):
    """A book that is tried."""

    prices = serializers.IntegerField(source="price_count", help_text="How many it holds.")

    class Meta:
        model = Book
        fields = ["id", "name", "note", "prices", "created_at"]


class BookBody(StrictSerializer):
    """A new book."""

    name = serializers.CharField(max_length=80)
    note = serializers.CharField(max_length=300, required=False)
    copy_list = serializers.BooleanField(
        default=False, help_text="Begin with the prices that are in force now."
    )


class PublishBody(StrictSerializer):
    """From when on."""

    effective_from = MomentField(required=False, help_text="Default: now.")


class PublishedSerializer(serializers.Serializer):
    """What came onto the list, and which prices there supersede it later."""

    added = ListPriceSerializer(many=True)
    unchanged = serializers.IntegerField(help_text="Prices that were on the list already.")
    followed = ListPriceSerializer(
        many=True, help_text="Prices on the list that begin later and supersede it."
    )


class CopiedSerializer(serializers.Serializer):
    copied = serializers.IntegerField(help_text="Prices that the book did not hold.")


class ListPriceFilter(django_filters.FilterSet):
    tenant = django_filters.CharFilter(field_name="tenant__slug", help_text="Slug: only its own prices.")
    kind = django_filters.ChoiceFilter(choices=Price.Kind.choices)
    currency = django_filters.CharFilter()


@extend_schema(tags=["prices"])
class ListPriceViewSet(OperatorViewSet):
    """For operators: all prices on the list, and tenants' own ones."""

    default_platform_action = PlatformAction.VIEW_MONEY
    platform_actions = {"create": PlatformAction.MANAGE_MONEY}
    model = Price
    serializer_class = ListPriceSerializer
    filterset_class = ListPriceFilter
    reason = "an operator keeps the price list through the REST API"

    def rows(self) -> QuerySet[Price]:
        return Price.objects.filter(book=None).select_related("tenant")

    @extend_schema(responses=ListPriceSerializer(many=True), operation_id="list_prices_list")
    def list(self, request) -> Response:
        """Prices of all times, newest first."""
        page = self.paginate_queryset(self.filter_queryset(self.get_queryset()))
        return self.get_paginated_response(ListPriceSerializer(page, many=True).data)

    @extend_schema(responses=ListPriceSerializer, operation_id="list_prices_retrieve")
    def retrieve(self, request, id) -> Response:
        """One price."""
        return self.shown(ListPriceSerializer, self.get_object())

    @extend_schema(request=PriceBody, responses={201: ListPriceSerializer}, operation_id="list_prices_create")
    @idempotent
    def create(self, request) -> Response:
        """Add a price; it supersedes the one for the same thing from its moment on."""
        price = price_set(**self.validated(PriceBody))
        self.audit("price.add", price=str(price), id=str(price.id))
        return self.created(ListPriceSerializer, price)


@extend_schema(tags=["prices"])
class PriceBookViewSet(OperatorViewSet):
    """For operators: books that are tried before their prices come into force."""

    default_platform_action = PlatformAction.VIEW_MONEY
    platform_actions = {
        "create": PlatformAction.MANAGE_MONEY,
        "destroy": PlatformAction.MANAGE_MONEY,
        "copy_list": PlatformAction.MANAGE_MONEY,
        "publish": PlatformAction.MANAGE_MONEY,
        "price_set": PlatformAction.MANAGE_MONEY,
    }
    model = Book
    serializer_class = BookSerializer
    page_ordering = "-id"
    reason = "an operator tries price books through the REST API"

    def rows(self) -> QuerySet[Book]:
        return Book.objects.annotate(price_count=Count("prices"))

    @extend_schema(responses=BookSerializer(many=True), operation_id="price_books_list")
    def list(self, request) -> Response:
        """Books, newest first."""
        refuse_unknown_parameters(request, PAGING)
        page = self.paginate_queryset(self.get_queryset())
        return self.get_paginated_response(BookSerializer(page, many=True).data)

    @extend_schema(responses=BookSerializer, operation_id="price_books_retrieve")
    def retrieve(self, request, id) -> Response:
        """One book."""
        book = self.get_object()
        return self.shown(BookSerializer, book, ETag=etag(_version(book)))

    @extend_schema(request=BookBody, responses={201: BookSerializer}, operation_id="price_books_create")
    @idempotent
    def create(self, request) -> Response:
        """Make a book, empty or with a copy of the list."""
        body = self.validated(BookBody)
        book = book_create(copy_live=body.pop("copy_list"), **body)
        self.audit("book.create", book=book.name)
        return self.created(BookSerializer, self.rows().get(id=book.id))

    @extend_schema(responses={204: None}, parameters=[IF_MATCH], operation_id="price_books_destroy")
    def destroy(self, request, id) -> Response:
        """Remove a book with its prices. What was published of it stays on the list."""
        book = self.get_object()
        Book.objects.select_for_update().get(id=book.id)
        refuse_stale(request, _version(book))
        book_delete(book=book)
        self.audit("book.delete", book=book.name)
        return Response(status=204)

    @extend_schema(responses=ListPriceSerializer(many=True), operation_id="price_books_prices_list")
    def prices(self, request, id) -> Response:
        """The prices of a book, newest first."""
        refuse_unknown_parameters(request, PAGING)
        page = self.paginate_queryset(self.get_object().prices.select_related("tenant"))
        return self.get_paginated_response(ListPriceSerializer(page, many=True).data)

    @extend_schema(
        request=PriceBody, responses={201: ListPriceSerializer}, operation_id="price_books_prices_create"
    )
    @idempotent
    def price_set(self, request, id) -> Response:
        """Set a price of a book, in place of the one for the same thing and moment."""
        book = self.get_object()
        price = book_price_set(book=book, **self.validated(PriceBody))
        self.audit("book.price", book=book.name, price=str(price))
        return self.created(ListPriceSerializer, price)

    @extend_schema(request=None, responses=CopiedSerializer, operation_id="price_books_copy_list")
    @idempotent
    def copy_list(self, request, id) -> Response:
        """Copy what is in force now for what the book does not price."""
        return Response(CopiedSerializer({"copied": book_copy_live(book=self.get_object())}).data)

    @extend_schema(request=PublishBody, responses=PublishedSerializer, operation_id="price_books_publish")
    @idempotent
    def publish(self, request, id) -> Response:
        """Put the book's prices onto the list from a moment on."""
        book = self.get_object()
        done = book_publish(book=book, **self.validated(PublishBody))
        self.audit("book.publish", book=book.name, added=len(done.added))
        return self.shown(PublishedSerializer, done)


@extend_schema(tags=["prices"])
class BookPriceViewSet(OperatorViewSet):
    """For operators: one price of a book that is tried."""

    default_platform_action = PlatformAction.MANAGE_MONEY
    model = Price
    serializer_class = ListPriceSerializer
    reason = "an operator tries price books through the REST API"

    def rows(self) -> QuerySet[Price]:
        return Price.objects.exclude(book=None)

    @extend_schema(responses={204: None}, operation_id="price_books_prices_destroy")
    def destroy(self, request, id) -> Response:
        """Take a price out of its book."""
        book_price_remove(price=self.get_object())
        return Response(status=204)


def _version(book: Book) -> str:
    return content_version(BookSerializer(book).data)
