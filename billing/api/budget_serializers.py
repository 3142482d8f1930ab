"""Budgets as JSON: what is shown, and what may be sent. Amounts are decimal strings, in the currency or in tokens."""

from __future__ import annotations

from typing import Final

from rest_framework import serializers

from billing.budgets.forecast import Method
from billing.models import Budget, BudgetAlert, BudgetWindow
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


class EndpointShareSerializer(serializers.Serializer):
    """What one endpoint's GPUs took of a budget of GPU time."""

    endpoint_id = serializers.UUIDField()
    name = serializers.CharField()
    settled = AmountField()
    held = AmountField(help_text="Reserved until the window ends.")


class BudgetAlertSerializer(serializers.Serializer):
    """Something that was told: a share of the limit was reached, all of it, or is expected to be passed."""

    kind = serializers.ChoiceField(choices=BudgetAlert.Kind.choices)
    percent = serializers.IntegerField()
    reached_at = serializers.DateTimeField()


class BudgetWindowSerializer(serializers.Serializer):
    """The window that runs, seconds behind the requests."""

    start = serializers.DateTimeField()
    resets_at = serializers.DateTimeField()
    limit = AmountField()
    settled = AmountField(help_text="Spent.")
    held = AmountField(help_text="What requests in progress may still cost, or GPUs until the window ends.")
    silent = AmountField(help_text="What gateways that do not answer may be spending; counts as spent.")
    left = AmountField(help_text="Neither spent nor held.")
    percent = serializers.IntegerField(help_text="Of the limit, spent.")
    gateways = BudgetLeaseSerializer(many=True)
    endpoints = EndpointShareSerializer(many=True, help_text="Of GPU time only.")
    alerts = BudgetAlertSerializer(many=True)


class BudgetTermsSerializer(serializers.ModelSerializer):
    """What was agreed, without how it stands: the ETag is made of this."""

    limit = AmountField()

    class Meta:
        model = Budget
        fields = [
            "id", "name", "owner_kind", "owner_id", "basis", "unit", "currency", "limit", "period", "policy",
            "alert_percents", "mail_alerts", "recipients", "active", "created_at",
        ]  # fmt: skip


class BudgetSerializer(BudgetTermsSerializer):
    """A budget with the window that runs."""

    owner_name = serializers.CharField(source="state.owner_name")
    window = BudgetWindowSerializer(source="state.window")

    class Meta(BudgetTermsSerializer.Meta):
        fields = [*BudgetTermsSerializer.Meta.fields, "owner_name", "window"]


class BudgetForecastSerializer(serializers.Serializer):
    """Where the window that runs is expected to end. Null where too little is known."""

    expected = AmountField(allow_null=True)
    low = AmountField(allow_null=True)
    high = AmountField(allow_null=True)
    reached_at = serializers.DateTimeField(
        allow_null=True, help_text="When the limit is expected to be reached; null: not within the window."
    )
    method = serializers.ChoiceField(
        choices=[each.value for each in Method],
        help_text="running: what is held goes on; weekdays, days: by the mean of days before; none: too few of them.",
    )
    note = serializers.CharField()


class BudgetPastSerializer(serializers.ModelSerializer):
    """A window of a budget."""

    limit = AmountField()
    settled = AmountField(help_text="Spent.")

    class Meta:
        model = BudgetWindow
        fields = ["start", "end", "limit", "settled"]


def _percents(**options) -> serializers.ListField:
    return serializers.ListField(
        child=serializers.IntegerField(min_value=1, max_value=100),
        max_length=10,
        help_text="Shares of the limit, in percent, that are told when they are spent.",
        **options,
    )


def _recipients(**options) -> serializers.ListField:
    return serializers.ListField(
        child=serializers.EmailField(),
        max_length=20,
        help_text="Who gets alerts by e-mail. Empty: the tenant's owners, admins and billing role.",
        **options,
    )


POLICY_HELP: Final = (
    "Once the limit is reached: warn refuses nothing; block_new refuses requests, or orders that need more GPUs; stop "
    "pauses the owner's endpoints, too."
)


class BudgetCreate(StrictSerializer):
    """Of the tenant, unless a project or an inference key is named. Money is in the tenant's currency."""

    name = serializers.CharField(max_length=80)
    unit = serializers.ChoiceField(choices=Budget.Unit.choices)
    basis = serializers.ChoiceField(
        choices=Budget.Basis.choices, required=False,
        help_text="What money is counted of: requests at the price of tokens, or the time that GPUs are held. "
        "Left out: tokens, and gpu_time for GPU-hours.",
    )  # fmt: skip
    limit = AmountField(
        min_value=0, help_text="Of the currency, of input and output tokens together, or of GPU-hours."
    )
    policy = serializers.ChoiceField(
        choices=Budget.Policy.choices, default=Budget.Policy.BLOCK_NEW, help_text=POLICY_HELP
    )
    period = serializers.ChoiceField(
        choices=Budget.Period.choices,
        help_text="Calendar windows of the tenant's zone; weeks begin on Monday.",
    )
    project = ReferenceField(find=lambda: Project.objects.all(), by="slug", what="project", required=False)
    key = serializers.UUIDField(required=False, help_text="Id of an inference key.")
    alert_percents = _percents(required=False)
    mail_alerts = serializers.BooleanField(default=True, help_text="Whether alerts go out by e-mail, too.")
    recipients = _recipients(default=list)
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
    """Only what is sent is changed. Owner, unit, basis and period stay: make another budget for those."""

    name = serializers.CharField(max_length=80, required=False)
    limit = AmountField(min_value=0, required=False, help_text="Holds for the window that runs, too.")
    policy = serializers.ChoiceField(choices=Budget.Policy.choices, required=False, help_text=POLICY_HELP)
    alert_percents = _percents(required=False)
    mail_alerts = serializers.BooleanField(required=False)
    recipients = _recipients(required=False)
    active = serializers.BooleanField(required=False, help_text="An inactive budget holds up nobody.")
