"""Statements as JSON. Amounts are decimal strings."""

from __future__ import annotations

from rest_framework import serializers

from billing.models import Statement, StatementLine
from tenants.api.fields import MonthField


class StatementSerializer(serializers.ModelSerializer):
    """A month's chargeback. total is charges and credits together; a number and the hashes come with the final one."""

    month = MonthField()
    number = serializers.CharField(help_text="Empty until it is final.")

    class Meta:
        model = Statement
        fields = [
            "id", "month", "state", "number", "tenant_name", "time_zone", "currency", "period_start", "period_end",
            "charges", "credits", "total", "computed_at", "finalized_at", "inputs_sha256", "document_sha256",
        ]  # fmt: skip


class SummaryPartSerializer(serializers.Serializer):
    """One part of the total."""

    label = serializers.CharField()
    amount = serializers.DecimalField(max_digits=20, decimal_places=4)


class StatementDetailSerializer(StatementSerializer):
    """A month's chargeback, what its total is made of, and how many lines it has."""

    summary = SummaryPartSerializer(many=True)
    line_count = serializers.IntegerField()

    class Meta(StatementSerializer.Meta):
        fields = [*StatementSerializer.Meta.fields, "summary", "line_count"]


class StatementLineSerializer(serializers.ModelSerializer):
    """A quantity of one thing for one endpoint. The charged lines add up to the total.

    service_month is the month in which it was used, an earlier one where correction is true. effective_amount is what
    it cost with what a commitment covered spread over its use; how says how the amount was reached.
    """

    service_month = MonthField()
    how = serializers.ListField(child=serializers.DictField())

    class Meta:
        model = StatementLine
        fields = [
            "position", "kind", "basis", "charged", "correction", "service_month", "service_start", "service_end",
            "project_id", "project_name", "cost_centre", "endpoint_id", "endpoint_name", "model", "slo_class",
            "gpu_type", "region", "sku", "description", "quantity", "unit", "unit_price", "list_unit_price", "amount",
            "list_amount", "effective_amount", "price_id", "commitment_id", "credit_id", "how",
        ]  # fmt: skip
