"""The planner's answer as JSON: what would run, how fast, for how much, and why nothing else. Money as strings."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from billing.api.budget_serializers import AmountField
from billing.models import Budget
from clusters.api.capacity_serializers import CapacitySerializer
from clusters.inventory.tuning import FIELDS as KNOBS
from clusters.models import ApprovalRule, ClassTuning, Decides
from clusters.planning.plans import PlanStatus, Reason, Relaxation
from clusters.planning.problem import Precision

PRECISIONS = [each.value for each in Precision]


def _money(**options: Any) -> serializers.DecimalField:
    return serializers.DecimalField(max_digits=None, decimal_places=None, **options)


def _price(**options: Any) -> serializers.DecimalField:
    return _money(**{"help_text": "Per hour, as charged."} | options)


def _ms(text: str = "", **options: Any) -> serializers.FloatField:
    return serializers.FloatField(help_text=f"Milliseconds. {text}".strip(), **options)


class MemorySerializer(serializers.Serializer):
    """GiB on each GPU, told apart."""

    weights_gib = serializers.FloatField()
    kv_gib = serializers.FloatField(help_text="What the KV cache needs.")
    activations_gib = serializers.FloatField()
    framework_gib = serializers.FloatField(help_text="Context, runtime and communication buffers.")
    needed_gib = serializers.FloatField()
    available_gib = serializers.FloatField()
    kv_available_gib = serializers.FloatField(help_text="What is left for the KV cache.")


class HeadroomSerializer(serializers.Serializer):
    """Why there are that many replicas."""

    for_load = serializers.IntegerField(help_text="Replicas that the mean load needs.")
    for_peak = serializers.IntegerField(help_text="More for the busiest minute.")
    spare = serializers.IntegerField(help_text="More, so that a lost one is not missed.")
    price_per_hour = _price(help_text="Of the latter two together.")


class TechniqueSerializer(serializers.Serializer):
    """One thing that makes an engine fast or small."""

    name = serializers.CharField()
    setting = serializers.CharField()
    why = serializers.CharField()


class EngineSettingsSerializer(serializers.ModelSerializer):
    """How the engines are set: batch and token limits, scheduler, KV cache, chunked prefill."""

    class Meta:
        model = ClassTuning
        fields = list(KNOBS)


class PlannedConfigurationSerializer(serializers.Serializer):
    """One deployable answer. p95s are at the declared load, with room for its busiest minutes."""

    pool = serializers.CharField()
    cluster = serializers.CharField()
    region = serializers.CharField()
    gpu = serializers.CharField()
    runtime = serializers.CharField()
    precision = serializers.ChoiceField(choices=PRECISIONS, help_text="Of the weights.")
    tp = serializers.IntegerField(help_text="GPUs that share every layer.")
    pp = serializers.IntegerField(help_text="Stages, one after the other.")
    replicas = serializers.IntegerField()
    replicas_floor = serializers.IntegerField()
    replicas_ceiling = serializers.IntegerField()
    max_batch_size = serializers.IntegerField(help_text="Requests at once in one replica.")
    ttft_ms = _ms("Mean time to the first token.")
    ttft_p95_ms = _ms()
    itl_ms = _ms("Mean time between tokens.")
    itl_p95_ms = _ms()
    answer_ms = _ms("A whole mean answer.")
    tokens_per_s = serializers.FloatField(help_text="Output that all replicas give within the targets.")
    utilisation = serializers.FloatField(help_text="Share of that which the mean load takes.")
    performance_source = serializers.CharField(help_text="measured here, measured, calibrated or roofline.")
    itl_error = serializers.FloatField(
        help_text="How far the times between tokens may be off, as a fraction, in 9 of 10 cases."
    )
    ttft_error = serializers.FloatField(help_text="The same of times to the first token.")
    memory = MemorySerializer()
    price_per_gpu_hour = _money()
    cost_per_hour = _money(help_text="GPUs times their price, before the factor of the class.")
    price_per_hour = _price()
    price_per_million_tokens = _money(
        allow_null=True, help_text="Of output, at the declared load; null without load."
    )
    headroom = HeadroomSerializer()
    nodes = serializers.ListField(
        child=serializers.ListField(child=serializers.IntegerField()),
        help_text="Of each replica, the nodes of the pool it takes.",
    )
    tuning = EngineSettingsSerializer()
    techniques = TechniqueSerializer(many=True)
    declared = serializers.BooleanField(help_text="Its GPUs are declared by hand, not hardware.")
    weights_cached = serializers.BooleanField(help_text="Its weights lie in the cluster already.")


class RefusalSerializer(serializers.Serializer):
    """Why one candidate was not chosen, in each of ``pools``. Null: every precision or shape is refused."""

    gpu = serializers.CharField()
    pools = serializers.ListField(child=serializers.CharField())
    clusters = serializers.ListField(child=serializers.CharField())
    reason = serializers.ChoiceField(choices=[each.value for each in Reason])
    message = serializers.CharField()
    precision = serializers.ChoiceField(choices=PRECISIONS, allow_null=True)
    tp = serializers.IntegerField(allow_null=True)
    pp = serializers.IntegerField(allow_null=True)
    memory = MemorySerializer(allow_null=True)
    dearer_by_per_hour = _price(allow_null=True, help_text="Set for those that would do as well.")


class AlternativeSerializer(serializers.Serializer):
    """What could be had at once if the order gave up one demand; ``value`` is what the demand becomes."""

    relaxation = serializers.ChoiceField(choices=[each.value for each in Relaxation])
    value = serializers.CharField()
    message = serializers.CharField()
    configuration = PlannedConfigurationSerializer()


class FrontPointSerializer(serializers.Serializer):
    """One of the configurations that no other beats in both price and speed of an answer."""

    pool = serializers.CharField()
    cluster = serializers.CharField()
    region = serializers.CharField()
    gpu = serializers.CharField()
    precision = serializers.ChoiceField(choices=PRECISIONS)
    tp = serializers.IntegerField()
    pp = serializers.IntegerField()
    replicas = serializers.IntegerField()
    price_per_hour = _price()
    ttft_p95_ms = _ms()
    itl_p95_ms = _ms()
    answer_ms = _ms("A whole mean answer.")
    chosen = serializers.BooleanField()


class PinCostSerializer(serializers.Serializer):
    """What one pin costs."""

    pin = serializers.CharField()
    value = serializers.CharField()
    price_per_hour = _price(help_text="Without this pin.")
    saves_per_hour = _price(help_text="How much less that is.")


class ContextStepSerializer(serializers.Serializer):
    """The next larger context cap."""

    context_tokens = serializers.IntegerField()
    price_per_hour = _price(help_text="With it.")
    extra_per_hour = _price(help_text="How much more that is.")


class DisaggregatedSerializer(serializers.Serializer):
    """Prompts and answers on replicas of their own: computed, not deployable yet."""

    prefill_replicas = serializers.IntegerField()
    decode_replicas = serializers.IntegerField()
    ttft_ms = _ms()
    itl_ms = _ms()
    price_per_hour = _price()
    message = serializers.CharField()


class QuotaEffectSerializer(serializers.Serializer):
    resource = serializers.CharField()
    limit = serializers.IntegerField()
    used = serializers.IntegerField(help_text="What would be held once the plan is carried out.")


class BudgetEffectSerializer(serializers.Serializer):
    """What the order would reserve in one budget of GPU time until it begins anew; decimal strings in its unit."""

    budget_id = serializers.UUIDField(source="budget.id")
    budget = serializers.CharField(source="budget.name")
    unit = serializers.ChoiceField(choices=Budget.Unit.choices, source="budget.unit")
    currency = serializers.CharField(source="budget.currency")
    policy = serializers.ChoiceField(choices=Budget.Policy.choices, source="budget.policy")
    limit = AmountField()
    spent = AmountField()
    reserved = AmountField(help_text="For what runs already.")
    asked = AmountField(help_text="For this order.")
    resets_at = serializers.DateTimeField()
    fits = serializers.BooleanField()
    refuses = serializers.BooleanField(help_text="Whether the order would be refused for it.")


class PlanTripSerializer(serializers.Serializer):
    """A rule that wants somebody's approval before this is placed."""

    kind = serializers.ChoiceField(choices=ApprovalRule.Kind.choices)
    reason = serializers.CharField()
    decides = serializers.ChoiceField(choices=Decides.choices)


class PlanSerializer(serializers.Serializer):
    """The answer to an order before anything is spent, with a reason for every candidate not chosen."""

    status = serializers.ChoiceField(choices=[each.value for each in PlanStatus])
    message = serializers.CharField()
    currency = serializers.CharField()
    configuration = PlannedConfigurationSerializer(allow_null=True)
    front = FrontPointSerializer(
        many=True, help_text="Configurations worth a thought, cheapest first: each dearer and faster."
    )
    pin_costs = PinCostSerializer(many=True)
    next_context = ContextStepSerializer(allow_null=True, help_text="Null where the model takes no more.")
    disaggregated = DisaggregatedSerializer(allow_null=True)
    refusals = RefusalSerializer(many=True, help_text="Every candidate not chosen.")
    headlines = RefusalSerializer(
        many=True, help_text="Of each pool not chosen, the candidate that came furthest."
    )
    alternatives = AlternativeSerializer(
        many=True, help_text="What could be had at once by giving up one demand."
    )
    quota = QuotaEffectSerializer(many=True)
    budgets = BudgetEffectSerializer(
        many=True, help_text="Budgets of GPU time of the tenant, and of the project where one is named."
    )
    approvals = PlanTripSerializer(many=True, help_text="Rules that ordering it so would trip.")
    policy_version = serializers.IntegerField(
        help_text="Of the tenant's policy that it was planned under; 0: none."
    )
    capacity = CapacitySerializer(
        allow_null=True, help_text="The queue that it would wait in, where no capacity is free."
    )
