"""For operators: a month of all tenants by a book that is tried."""

from __future__ import annotations

from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.response import Response

from billing.api.queries import MonthQuery
from billing.models import Book
from billing.what_if import month_rerated, skus_rerated
from clusters.api.operators import OperatorScoped
from tenants.api.fields import MonthField, ReferenceField
from tenants.errors import NotFound
from tenants.models import Tenant
from tenants.roles import PlatformAction


class RerateQuery(MonthQuery):
    """Which month of each tenant's zone; with a tenant, SKU by SKU."""

    month = serializers.RegexField(r"^[0-9]{4}-(0[1-9]|1[0-2])\Z", help_text="YYYY-MM")
    tenant = ReferenceField(
        find=lambda: Tenant.objects.all(), by="slug", what="tenant", required=False,
        help_text="Slug: tell this one's SKUs.",
    )  # fmt: skip


class DifferenceSerializer(serializers.Serializer):
    """What it is, and what it would be by the book."""

    before = serializers.DecimalField(max_digits=24, decimal_places=4)
    after = serializers.DecimalField(max_digits=24, decimal_places=4)
    difference = serializers.DecimalField(source="amount", max_digits=24, decimal_places=4)
    percent = serializers.DecimalField(max_digits=12, decimal_places=1, allow_null=True)


class TenantRerateSerializer(DifferenceSerializer):
    """A tenant's month. state and number are its statement's, empty where there is none yet."""

    tenant = serializers.CharField(source="slug")
    name = serializers.CharField()
    currency = serializers.CharField()
    state = serializers.CharField()
    number = serializers.CharField()


class SkuRerateSerializer(DifferenceSerializer):
    """One SKU of the tenant's month."""

    sku = serializers.CharField()
    description = serializers.CharField()


class CurrencyRerateSerializer(DifferenceSerializer):
    """All tenants of one currency."""

    currency = serializers.CharField()


class RerateSerializer(serializers.Serializer):
    """The largest difference comes first. skus is empty unless a tenant was asked for."""

    month = MonthField()
    book = serializers.UUIDField()
    totals = CurrencyRerateSerializer(many=True)
    tenants = TenantRerateSerializer(many=True)
    skus = SkuRerateSerializer(many=True)


@extend_schema(tags=["prices"])
class PriceBookRerateView(OperatorScoped):
    """For operators: a month of all tenants, past or running, rated anew by a book. Nothing is changed."""

    default_platform_action = PlatformAction.VIEW_MONEY
    reason = "an operator rates a month by a price book through the REST API"

    @extend_schema(parameters=[RerateQuery], responses=RerateSerializer, operation_id="price_books_rerate")
    def get(self, request, id) -> Response:
        book = Book.objects.filter(id=id).first()
        if book is None:
            raise NotFound
        query = RerateQuery(data=request.query_params.dict())
        query.is_valid(raise_exception=True)
        month, tenant, now = query.validated_data["month"], query.validated_data.get("tenant"), timezone.now()
        found = month_rerated(month=month, book=book, now=now, tenant_ids=[tenant.id] if tenant else None)
        totals = [
            {"currency": currency, "before": total.before, "after": total.after, "amount": total.amount,
             "percent": total.percent}
            for currency, total in found.totals.items()
        ]  # fmt: skip
        skus = skus_rerated(month=month, book=book, tenant=tenant, now=now) if tenant else ()
        answer = {"month": month, "book": book.id, "totals": totals, "tenants": found.tenants, "skus": skus}
        return Response(RerateSerializer(answer).data)
