"""What replays measured on a pool, for operators: qualify it by a report, look, take a measurement back."""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet
from django.shortcuts import get_object_or_404
from drf_spectacular.utils import extend_schema
from rest_framework import serializers, status
from rest_framework.response import Response

from clusters.api.operators import OperatorViewSet
from clusters.endpoints.qualifying import served_by
from clusters.inventory import remit
from clusters.inventory.catalog import RUNTIMES
from clusters.inventory.qualification import (
    Served,
    measurement_remove,
    measurements_judged,
    pool_qualify,
)
from clusters.models import CatalogModel, Endpoint, NodePool, PoolMeasurement
from tenants.api.fields import ReferenceField, StrictSerializer
from tenants.api.filters import PAGING, refuse_unknown_parameters
from tenants.api.idempotency import idempotent
from tenants.roles import PlatformAction

_SHAPE = (
    "runtime", "engine_version", "precision", "tensor_parallel", "pipeline_parallel", "replicas", "max_batch_size",
    "max_num_tokens",
)  # fmt: skip
_LOAD = (
    "requests_per_second", "input_tokens", "output_tokens", "input_cv", "output_cv", "burstiness", "prefix_share",
    "in_flight",
)  # fmt: skip
_TIMES = (
    "ttft_mean_ms", "ttft_p50_ms", "ttft_p95_ms", "ttft_p99_ms", "itl_mean_ms", "itl_p50_ms", "itl_p95_ms",
    "itl_p99_ms",
)  # fmt: skip


class ExpectedSerializer(serializers.Serializer):
    """Mean times that the planner expects of that load, milliseconds."""

    ttft_ms = serializers.FloatField(allow_null=True, help_text="None where it says that queues would grow.")
    itl_ms = serializers.FloatField()


class PoolMeasurementSerializer(serializers.ModelSerializer):
    """A row of the planner's table, beside what the planner expects of its load without the table and with it."""

    cluster = serializers.CharField(source="pool.cluster.name")
    pool = serializers.CharField(source="pool.name")
    gpu_type = serializers.CharField(source="pool.gpu_type.name")
    model = serializers.CharField(source="model.name")
    expected_without = ExpectedSerializer(source="judged.before")
    expected_with = ExpectedSerializer(source="judged.after")
    reasons = serializers.ListField(child=serializers.CharField(), source="judged.reasons")

    class Meta:
        model = PoolMeasurement
        fields = [
            "id", "cluster", "pool", "gpu_type", "model", *_SHAPE, "digest", "target", "speed", "measured_at",
            "measured_by", "created_at", "requests", "failed_percent", "seconds", *_LOAD,
            "output_tokens_per_s_per_gpu", *_TIMES, "expected_without", "expected_with", "reasons",
        ]  # fmt: skip


class QualifyBody(StrictSerializer):
    """A report, and what served: an endpoint that runs on the pool, or the shape by hand."""

    report = serializers.DictField(
        help_text="As python -m gateway.replay --out keeps it. The single answers may be left out."
    )
    target = serializers.CharField(
        max_length=120, required=False, help_text="Which of the report's targets, where it has several."
    )
    endpoint = serializers.UUIDField(
        required=False, help_text="What served: an endpoint that runs on the pool."
    )
    revision = serializers.IntegerField(
        min_value=1, max_value=2**31 - 1, required=False,
        help_text="Of the endpoint: the number of the revision that served, where that is not the only one now.",
    )  # fmt: skip
    model = ReferenceField(
        find=CatalogModel.objects.all, by="name", what="model", required=False,
        help_text="Or by hand: the catalog's model, and what follows.",
    )  # fmt: skip
    runtime = serializers.ChoiceField(choices=RUNTIMES, required=False)
    engine_version = serializers.CharField(max_length=40, required=False, allow_blank=True)
    precision = serializers.CharField(max_length=16, required=False)
    tensor_parallel = serializers.IntegerField(min_value=1, max_value=64, required=False)
    pipeline_parallel = serializers.IntegerField(min_value=1, max_value=64, required=False)
    replicas = serializers.IntegerField(min_value=1, max_value=10_000, required=False)
    max_batch_size = serializers.IntegerField(min_value=1, max_value=4096, required=False)
    max_num_tokens = serializers.IntegerField(min_value=1, max_value=1_000_000, required=False)

    def validate(self, values: dict[str, Any]) -> dict[str, Any]:
        by_hand = {"model", *_SHAPE} & set(values)
        if "endpoint" in values:
            if by_hand:
                raise serializers.ValidationError(
                    {
                        name: ["The endpoint says it. Leave it out, or the endpoint."]
                        for name in sorted(by_hand)
                    }
                )
            return values
        if "revision" in values:
            raise serializers.ValidationError({"revision": ["Name the endpoint too, or leave it out."]})
        missing = sorted({"model", "runtime", "precision", "max_batch_size", "max_num_tokens"} - by_hand)
        if missing:
            raise serializers.ValidationError(
                {name: ["Say it, or name the endpoint that served."] for name in missing}
            )
        return values


@extend_schema(tags=["clusters"])
class PoolMeasurementViewSet(OperatorViewSet):
    """What replays measured on one pool."""

    default_platform_action = PlatformAction.VIEW_ESTATE
    platform_actions = {
        "qualify": PlatformAction.MANAGE_ESTATE,
        "destroy": PlatformAction.MANAGE_ESTATE,
    }
    model = PoolMeasurement
    serializer_class = PoolMeasurementSerializer
    page_ordering = "-measured_at"
    reason = "an operator qualifies pools through the REST API"

    def rows(self) -> QuerySet[PoolMeasurement]:
        rows = PoolMeasurement.objects.filter(pool=self._pool())
        return rows.select_related("pool__cluster", "pool__gpu_type", "model")

    @extend_schema(responses=PoolMeasurementSerializer(many=True), operation_id="pool_measurements_list")
    def list(self, request, name, pool) -> Response:
        """All of the pool's, newest first."""
        refuse_unknown_parameters(request, PAGING)
        page = self.paginate_queryset(self.get_queryset())
        return self.get_paginated_response(PoolMeasurementSerializer(judge(page), many=True).data)

    @extend_schema(responses=PoolMeasurementSerializer, operation_id="pool_measurements_retrieve")
    def retrieve(self, request, name, pool, id) -> Response:
        """One of them."""
        return self.shown(PoolMeasurementSerializer, judge([self.get_object()])[0])

    @extend_schema(responses={204: None}, operation_id="pool_measurements_destroy")
    def destroy(self, request, name, pool, id) -> Response:
        """Take it out of the planner's table. Plans are made without it from now on."""
        found = self.get_object()
        measurement_remove(measurement=found)
        self.audit("pool.unqualify", cluster=name, pool=pool, report=found.digest, target=found.target)
        return Response(status=status.HTTP_204_NO_CONTENT)

    @extend_schema(
        request=QualifyBody,
        responses={200: PoolMeasurementSerializer(many=True), 201: PoolMeasurementSerializer(many=True)},
        operation_id="clusters_pools_qualify",
        filters=False,
    )
    @idempotent
    def qualify(self, request, name, pool) -> Response:
        """Write what a replay measured there into the planner's table, a row for each speed that it tried.

        The same report again changes nothing and is answered with 200.
        """
        found = self._pool()
        body = self.validated(QualifyBody)
        report, target = body.pop("report"), body.pop("target", "")
        if "endpoint" in body:
            served = served_by(
                self._endpoint(body["endpoint"]),
                found,
                report=report,
                target=target,
                number=body.get("revision"),
            )
        else:
            served = Served(**body)
        rows, made = pool_qualify(
            pool=found, report=report, served=served, target=target, actor=self.caller.actor
        )
        if made:
            self.audit("pool.qualify", cluster=name, pool=pool, report=rows[0].digest, target=rows[0].target)
        code = status.HTTP_201_CREATED if made else status.HTTP_200_OK
        shown = PoolMeasurementSerializer(judge(rows), many=True, context=self.get_serializer_context())
        return Response(shown.data, status=code)

    def _pool(self) -> NodePool:
        cluster = get_object_or_404(remit.clusters(), name=self.kwargs["name"])
        rows = NodePool.objects.select_related("cluster", "gpu_type")
        return get_object_or_404(rows, cluster=cluster, name=self.kwargs["pool"])

    def _endpoint(self, id: object) -> Endpoint:
        rows = remit.endpoints(Endpoint.objects.live()).select_related("model")
        return get_object_or_404(rows, id=id)


def judge(rows: list[PoolMeasurement]) -> list[PoolMeasurement]:
    """Give each row what the planner expects of it."""
    for judged in measurements_judged(rows):
        judged.row.judged = judged
    return rows
