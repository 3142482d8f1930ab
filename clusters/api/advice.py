"""The advisor for operators: re-plans of the fleet, their moves, and the policy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from django.db.models import Prefetch, QuerySet
from drf_spectacular.utils import extend_schema
from rest_framework import serializers, status
from rest_framework.response import Response

from clusters.api.operators import OperatorViewSet
from clusters.endpoints.advisor.moves import moves_accept, moves_dismiss
from clusters.endpoints.advisor.policy import FIELDS, policy_set
from clusters.endpoints.advisor.runs import advice_run_start
from clusters.models import AdviceMove, AdvicePolicy, AdviceRun
from tenants.api.base import IF_MATCH
from tenants.api.fields import StrictSerializer
from tenants.api.filters import PAGING, refuse_unknown_parameters
from tenants.api.idempotency import idempotent
from tenants.api.preconditions import content_version, etag, refuse_stale
from tenants.errors import Invalid
from tenants.roles import PlatformAction

MOST_MOVES = 10_000


class AdviceMoveSerializer(serializers.ModelSerializer):
    """A move with the money per hour that it saves, at the prices of GPUs without the factor of the class."""

    endpoint = serializers.UUIDField(source="endpoint_id")
    endpoint_name = serializers.CharField(source="endpoint.name")
    tenant = serializers.CharField(source="endpoint.tenant.slug")

    class Meta:
        model = AdviceMove
        fields = [
            "id", "number", "kind", "step", "endpoint", "endpoint_name", "tenant", "from_revision", "before", "after",
            "currency", "cost_before", "cost_after", "saving", "rollout_cost", "load_s", "payback_h", "risks", "state",
            "state_reason", "state_since", "decided_by", "begun_at", "begun_unasked", "revision",
        ]  # fmt: skip


class AdviceRunSerializer(serializers.ModelSerializer):
    """A re-plan of the fleet. ``totals`` has an object for each currency, ``kept`` counts what was not touched."""

    class Meta:
        model = AdviceRun
        fields = [
            "id", "state", "state_reason", "started_by", "automatic", "created_at", "started_at", "finished_at",
            "endpoints", "kept", "totals",
        ]  # fmt: skip


class AdviceRunDetailSerializer(AdviceRunSerializer):
    """A re-plan with its moves."""

    moves = AdviceMoveSerializer(many=True)

    class Meta(AdviceRunSerializer.Meta):
        fields = [*AdviceRunSerializer.Meta.fields, "moves"]


class MovesBody(StrictSerializer):
    """Which moves of the run, by number."""

    moves = serializers.ListField(
        child=serializers.IntegerField(min_value=1), max_length=MOST_MOVES, required=False,
        help_text="Left out: all that are still proposed.",
    )  # fmt: skip


class PolicySerializer(serializers.ModelSerializer):
    """How sure the advisor must be, and what it may apply unasked. Days are 0 (Monday) to 6, hours of UTC."""

    class Meta:
        model = AdvicePolicy
        fields = list(FIELDS)


class PolicyBody(StrictSerializer, PolicySerializer):
    """Rules to change."""


@extend_schema(tags=["advice"])
class AdviceRunViewSet(OperatorViewSet):
    """Re-plans of the fleet, newest first."""

    default_platform_action = PlatformAction.VIEW_FLEET
    platform_actions = {
        "create": PlatformAction.MANAGE_FLEET,
        "apply": PlatformAction.MANAGE_FLEET,
        "dismiss": PlatformAction.MANAGE_FLEET,
    }
    model = AdviceRun
    serializer_class = AdviceRunSerializer
    reason = "an operator reads and decides on the advisor's moves through the REST API"

    def rows(self) -> QuerySet[AdviceRun]:
        moves = AdviceMove.objects.select_related("endpoint__tenant").order_by("number")
        rows = AdviceRun.objects.all()
        return rows if self.action == "list" else rows.prefetch_related(Prefetch("moves", queryset=moves))

    @extend_schema(responses=AdviceRunSerializer(many=True), operation_id="advice_runs_list")
    def list(self, request) -> Response:
        """Re-plans, newest first."""
        refuse_unknown_parameters(request, PAGING)
        page = self.paginate_queryset(self.get_queryset())
        return self.get_paginated_response(AdviceRunSerializer(page, many=True).data)

    @extend_schema(responses=AdviceRunDetailSerializer, operation_id="advice_runs_retrieve")
    def retrieve(self, request, id) -> Response:
        """One re-plan with its moves."""
        return self.shown(AdviceRunDetailSerializer, self.get_object())

    @extend_schema(request=None, responses={202: AdviceRunSerializer}, operation_id="advice_runs_create")
    @idempotent
    def create(self, request) -> Response:
        """Have the fleet planned anew. A worker does it: read the run until its state is finished."""
        run = advice_run_start(actor=self.caller.actor)
        self.audit("advice.run", run=str(run.id))
        location = request.build_absolute_uri(f"{request.path}/{run.id}")
        return self.shown(AdviceRunSerializer, run, code=status.HTTP_202_ACCEPTED, Location=location)

    @extend_schema(
        request=MovesBody, responses={202: AdviceRunDetailSerializer}, operation_id="advice_runs_apply"
    )
    @idempotent
    def apply(self, request, id) -> Response:
        """Have moves carried out, so many at a time as the policy says; each is checked again when its turn comes."""
        return self._decide("advice.apply", moves_accept)

    @extend_schema(
        request=MovesBody, responses={202: AdviceRunDetailSerializer}, operation_id="advice_runs_dismiss"
    )
    def dismiss(self, request, id) -> Response:
        """Decide against moves."""
        return self._decide("advice.dismiss", moves_dismiss)

    def _decide(self, action: str, service: Callable[..., Sequence[AdviceMove]]) -> Response:
        wanted = self.validated(MovesBody).get("moves")
        run = self.get_object()
        rows = [move for move in run.moves.all() if _is_meant(move, wanted)]
        if wanted is not None and (missing := sorted(set(wanted) - {move.number for move in rows})):
            text = f"This run has no move {', '.join(map(str, missing))}."
            raise Invalid(text, errors={"moves": [text]})
        service(run=run, moves=rows, actor=self.caller.actor)
        self.audit(action, run=str(run.id), moves=[move.number for move in rows])
        return self.shown(AdviceRunDetailSerializer, self.get_object(), code=status.HTTP_202_ACCEPTED)


@extend_schema(tags=["advice"])
class AdvicePolicyViewSet(OperatorViewSet):
    """The operators' rules for the advisor."""

    default_platform_action = PlatformAction.VIEW_FLEET
    platform_actions = {"partial_update": PlatformAction.MANAGE_FLEET}
    model = AdvicePolicy
    serializer_class = PolicySerializer
    reason = "an operator manages the advisor's policy through the REST API"

    @extend_schema(responses=PolicySerializer, operation_id="advice_policy_retrieve")
    def retrieve(self, request) -> Response:
        """The policy."""
        return self._answer(AdvicePolicy.current())

    @extend_schema(
        request=PolicyBody,
        responses=PolicySerializer,
        parameters=[IF_MATCH],
        operation_id="advice_policy_update",
    )
    def partial_update(self, request) -> Response:
        """Change rules. Nothing is applied unasked before ``automatic`` is set."""
        wishes: dict[str, Any] = self.validated(PolicyBody, partial=True)
        seen = AdvicePolicy.objects.select_for_update().first() or AdvicePolicy.current()
        refuse_stale(request, content_version(PolicySerializer(seen).data))
        policy = policy_set(**wishes)
        self.audit("advice.policy", **wishes)
        return self._answer(policy)

    def _answer(self, policy: AdvicePolicy) -> Response:
        shown = PolicySerializer(policy).data
        return Response(shown, headers={"ETag": etag(content_version(shown))})


def _is_meant(move: AdviceMove, wanted: Sequence[int] | None) -> bool:
    return move.state == AdviceMove.State.PROPOSED if wanted is None else move.number in wanted
