"""What a pipeline asks the gate, and what it is told."""

from __future__ import annotations

import dataclasses
from decimal import Decimal
from typing import Any, Final

from rest_framework import serializers

from clusters.api.load_serializers import ReplanBody
from clusters.api.order_serializers import MOST_TOKENS
from clusters.api.plan_serializers import PRECISIONS
from clusters.endpoints.evaluations.criteria import USUAL_COST_FACTOR, Standing
from clusters.endpoints.load.learning import LOAD_FIELDS
from clusters.endpoints.load.measured import load_of, measured_terms
from clusters.endpoints.planning import OrderTerms
from clusters.models import CatalogModel, Endpoint, EvaluationRun, SloClass
from tenants.api.fields import ReferenceField, StrictSerializer

#: What a report says of its own form.
REPORT_SCHEMA: Final = "berth.replay/1"
#: Targets that one report is judged by at most: what runs, and the change.
MOST_TARGETS: Final = 2


class GateChange(ReplanBody):
    """What would be otherwise; what is left out is as it is. The load is the measured one, unless it is given."""

    model = ReferenceField(
        find=lambda: CatalogModel.objects.filter(published=True), by="name", what="model", required=False
    )
    slo_class = ReferenceField(find=SloClass.objects.all, by="name", what="SLO class", required=False)
    residency = serializers.CharField(max_length=60, required=False)
    precision = serializers.ChoiceField(
        choices=PRECISIONS, required=False, help_text="Of the weights. Its quality note counts as accepted."
    )
    context_tokens = serializers.IntegerField(
        min_value=1, max_value=MOST_TOKENS, required=False, allow_null=True,
        help_text="Most tokens of a request with its answer; null: all of the model's.",
    )  # fmt: skip

    def validate(self, values: dict[str, Any]) -> dict[str, Any]:
        if not values:
            raise serializers.ValidationError("Say what would be otherwise: nothing was changed.")
        return values

    def proposed(self, endpoint: Endpoint, values: dict[str, Any]) -> OrderTerms:
        """Give the order of ``endpoint`` with the change.

        Raises:
            Conflict: the measured load is asked for, and nothing was measured yet.
        """
        asked = dict(values)
        measured = asked.pop("measured", load_of(endpoint) is not None)
        base = measured_terms(endpoint) if measured else OrderTerms.of(endpoint)
        if set(asked) & set(LOAD_FIELDS):
            asked = {"replicas": None, "profile": ""} | asked
        precision = asked.pop("precision", None)
        if precision is not None:
            asked["pins"] = {**asked.get("pins", base.pins), "precision": precision}
            asked["approved_precisions"] = tuple({*base.approved_precisions, precision})
        return dataclasses.replace(base, **asked)


class ReplayTarget(serializers.Serializer):
    """What a replay measured of one target; figures that are not judged by are ignored."""

    target = serializers.CharField(max_length=200, required=False, allow_blank=True)
    requests = serializers.IntegerField(min_value=0, max_value=2**31 - 1)
    failed = serializers.IntegerField(min_value=0, max_value=2**31 - 1)
    ttft_p95_ms = serializers.FloatField(min_value=0, required=False, allow_null=True)
    itl_p95_ms = serializers.FloatField(min_value=0, required=False, allow_null=True)
    cost_per_million_tokens = serializers.FloatField(
        min_value=0, max_value=1e12, required=False, allow_null=True, help_text="At prices of tokens."
    )
    gpu_cost_per_million_tokens = serializers.FloatField(
        min_value=0, max_value=1e12, required=False, allow_null=True,
        help_text="At the price of the GPUs; looked at where there is none at prices of tokens.",
    )  # fmt: skip
    kept_up = serializers.BooleanField(default=True, help_text="Whether the replay itself was fast enough.")


class ReplayReport(serializers.Serializer):
    """What ``python -m gateway.replay --json`` printed. The ``answers`` of targets may be left out."""

    schema = serializers.ChoiceField(choices=[REPORT_SCHEMA])
    targets = ReplayTarget(many=True, allow_empty=False, max_length=MOST_TARGETS)


class GateBody(StrictSerializer):
    """At least one of change, report and evaluation."""

    change = GateChange(required=False)
    report = ReplayReport(
        required=False,
        help_text="The report of a replay: of the change alone, or of what runs and the change, in this order.",
    )
    evaluation = serializers.UUIDField(
        required=False, help_text="Id of a run of this endpoint's, which stands for the quality."
    )
    cost_factor = serializers.DecimalField(
        max_digits=6, decimal_places=3, min_value=Decimal("0.001"), required=False,
        help_text=f"How many times what runs a million tokens may cost, {USUAL_COST_FACTOR} unless given. One that is "
        "given leaves the cost undecided where there is nothing to compare with.",
    )  # fmt: skip
    latency_factor = serializers.FloatField(
        min_value=0.01, max_value=1000, default=None, allow_null=True,
        help_text="How many times those of what runs the p95s may be; undecided where there is nothing to compare "
        "with. Null: only the class's targets count.",
    )  # fmt: skip

    def validate(self, values: dict[str, Any]) -> dict[str, Any]:
        if not {"change", "report", "evaluation"} & set(values):
            raise serializers.ValidationError(
                "Give a change, a report or an evaluation: there is nothing to judge."
            )
        return values

    def asked(self, endpoint: Endpoint) -> dict[str, Any]:
        """Give what the gate is asked about ``endpoint``."""
        values = dict(self.validated_data)
        change, evaluation = values.pop("change", None), values.pop("evaluation", None)
        if "report" in values:
            values["report"] = values["report"]["targets"]
        if change is not None:
            values["terms"] = self.fields["change"].proposed(endpoint, change)
        if evaluation is not None:
            runs = EvaluationRun.objects.select_related("version__set").filter(endpoint=endpoint)
            values["run"] = runs.filter(id=evaluation).first()
            if values["run"] is None:
                text = f"{endpoint.name} has no such evaluation."
                raise serializers.ValidationError({"evaluation": [text]})
        return values


class CriterionSerializer(serializers.Serializer):
    name = serializers.ChoiceField(choices=["slo", "cost", "quality"])
    source = serializers.ChoiceField(
        choices=["plan", "report", "evaluation"], help_text="What it was judged by."
    )
    standing = serializers.ChoiceField(
        choices=[each.value for each in Standing],
        help_text="undecided: it cannot be said yet, or not from what was given; not-judged: the rollout judges it.",
    )
    message = serializers.CharField()
    figures = serializers.DictField(help_text="What it was judged by; figures of what runs end in _now.")


class GateSerializer(serializers.Serializer):
    """Whether a pipeline may go on. Nothing was changed."""

    kept = serializers.BooleanField(help_text="Nothing is broken or undecided.")
    broken = serializers.ListField(
        child=serializers.CharField(), help_text="Names of the criteria that are broken or undecided."
    )
    criteria = CriterionSerializer(many=True)
