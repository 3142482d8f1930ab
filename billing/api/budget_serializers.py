"""Budgets as JSON: what is shown, and what may be sent. Amounts are decimal strings, in the currency or in tokens."""

from __future__ import annotations

from rest_framework import serializers

from billing.models import Budget
from tenants.api.fields import ReferenceField, StrictSerializer
from tenants.models import ApiKey, KeyScope, Project


class AmountField(serializers.DecimalField):
    """A decimal string without needless zeros."""

    def __init__(self, **options) -> None:
        super().__init__(max_digits=28, decimal_places=16, **options)

    def to_representation(self, value) -> str:
        return f"{value.normalize():f}"


class BudgetLeaseSerializer(serializers.Serializer):
    """What one gateway was granted. silent: it does not answer, and all that it was granted counts as spent."""

    gateway = serializers.CharField(help_text="Name, slash, instance of its data folder.")
    granted = AmountField()
    settled = AmountField()
    held = AmountField()
    silent = serializers.BooleanField()
    reported_at = serializers.DateTimeField()


class BudgetAlertSerializer(serializers.Serializer):
    """A share of the limit that was reached."""

    percent = serializers.IntegerField()
    reached_at = serializers.DateTimeField()


class BudgetWindowSerializer(serializers.Serializer):
    """The window that runs, seconds behind the requests."""

    start = serializers.DateTimeField()
    resets_at = serializers.DateTimeField()
    limit = AmountField()
    settled = AmountField(help_text="Spent.")
    held = AmountField(help_text="What requests in progress may still cost.")
    silent = AmountField(help_text="What gateways that do not answer may be spending; counts as spent.")
    left = AmountField(help_text="Neither spent nor held.")
    percent = serializers.IntegerField(help_text="Of the limit, spent.")
    gateways = BudgetLeaseSerializer(many=True)
    alerts = BudgetAlertSerializer(many=True)


class BudgetTermsSerializer(serializers.ModelSerializer):
    """What was agreed, without how it stands: the ETag is made of this."""

    limit = AmountField()

    class Meta:
        model = Budget
        fields = [
            "id", "name", "owner_kind", "owner_id", "unit", "currency", "limit", "period", "alert_percents",
            "active", "created_at",
        ]  # fmt: skip


class BudgetSerializer(BudgetTermsSerializer):
    """A budget with the window that runs."""

    owner_name = serializers.CharField(source="state.owner_name")
    window = BudgetWindowSerializer(source="state.window")

    class Meta(BudgetTermsSerializer.Meta):
        fields = [*BudgetTermsSerializer.Meta.fields, "owner_name", "window"]


def _percents(**options) -> serializers.ListField:
    return serializers.ListField(
        child=serializers.IntegerField(min_value=1, max_value=100),
        max_length=10,
        help_text="Shares of the limit, in percent, that are told when they are spent.",
        **options,
    )


class BudgetCreate(StrictSerializer):
    """Of the tenant, unless a project or an inference key is named. Money is in the tenant's currency."""

    name = serializers.CharField(max_length=80)
    unit = serializers.ChoiceField(choices=Budget.Unit.choices)
    limit = AmountField(min_value=0, help_text="Of the currency, or of input and output tokens together.")
    period = serializers.ChoiceField(
        choices=Budget.Period.choices,
        help_text="Calendar windows of the tenant's zone; weeks begin on Monday.",
    )
    project = ReferenceField(find=lambda: Project.objects.all(), by="slug", what="project", required=False)
    key = serializers.UUIDField(required=False, help_text="Id of an inference key.")
    alert_percents = _percents(required=False)
    active = serializers.BooleanField(default=True)

    def validate_key(self, key_id):
        key = ApiKey.objects.filter(id=key_id, scope=KeyScope.INFERENCE, ephemeral=False).first()
        if key is None:
            raise serializers.ValidationError("There is no such inference key.")
        return key

    def validate(self, values):
        project, key = values.pop("project", None), values.pop("key", None)
        if project and key:
            raise serializers.ValidationError({"key": ["Name a project or a key, not both."]})
        owner = (
            (Budget.OwnerKind.PROJECT, project.id)
            if project
            else (Budget.OwnerKind.KEY, key.id)
            if key
            else (Budget.OwnerKind.TENANT, None)
        )
        values["owner_kind"], values["owner_id"] = owner
        return values


class BudgetChange(StrictSerializer):
    """Only what is sent is changed. Owner, unit and period stay: make another budget for those."""

    name = serializers.CharField(max_length=80, required=False)
    limit = AmountField(min_value=0, required=False, help_text="Holds for the window that runs, too.")
    alert_percents = _percents(required=False)
    active = serializers.BooleanField(required=False, help_text="An inactive budget holds up nobody.")
