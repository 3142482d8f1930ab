"""Endpoints: orders as documents. Fallbacks are endpoints by name, and so are model and class."""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any, Final

from rest_framework import serializers
from rest_framework.exceptions import ValidationError

from clusters.api.order_serializers import PlanRequest, check_precisions
from clusters.endpoints import services
from clusters.endpoints.approvals.figures import price_of
from clusters.endpoints.approvals.selectors import waits_for_approval
from clusters.endpoints.limits import MOST_FALLBACKS, endpoint_limits_set
from clusters.endpoints.load.replanning import endpoint_replan
from clusters.endpoints.planning import Market, OrderTerms
from clusters.endpoints.pricing import held_price
from clusters.endpoints.profiles import SHAPE, completed
from clusters.models import ApprovalRequest, CatalogModel, Endpoint, Revision, Wanted
from portal.configuration.applier import Applier
from portal.configuration.documents import Document
from portal.configuration.kinds import base
from portal.configuration.kinds.base import Done, Kind, Money
from portal.configuration.kinds.projects import project_named
from portal.configuration.kinds.scaling import ScalingSpec, scaling_apply, scaling_spec, scaling_told
from portal.configuration.writing import plain
from tenants import narrowing
from tenants.api.fields import ReferenceField
from tenants.api.serializers import RatesBody
from tenants.errors import Invalid
from tenants.limits import RATES
from tenants.roles import Action

#: Fields of a spec that are terms of the order, in the order in which documents tell them.
_TERMS: Final = (
    "model", "slo_class", "residency", "certifications", "near", "profile", "requests_per_second", *SHAPE,
    "context_tokens", "output_limit", "replicas", "pins", "approved_precisions",
)  # fmt: skip
_SCALING: Final = ("autoscaling", "schedules")
_CAPS: Final = ("context_tokens", "output_limit")


class EndpointSpec(ScalingSpec, RatesBody, PlanRequest):
    """An order as a document says it."""

    name = None
    project = None
    # Also one that is not offered any more: what runs goes on, and the order of another is refused by its service.
    model = ReferenceField(find=lambda: CatalogModel.objects.all(), by="name", what="model")
    fallbacks = serializers.ListField(
        child=serializers.CharField(max_length=63), max_length=MOST_FALLBACKS, required=False,
        help_text="Names of endpoints that take its requests, in order, where its class says so.",
    )  # fmt: skip
    state = serializers.ChoiceField(
        choices=[Wanted.RUNNING.value, Wanted.PAUSED.value], required=False, help_text="Whether it serves."
    )

    def validate(self, values: dict[str, Any]) -> dict[str, Any]:
        model = values.get("model") or self.context["model"]
        check_precisions(model, values)
        return values


class EndpointKind(Kind):
    name = "Endpoint"
    in_project = True
    action = Action.ORDER
    spec_class = EndpointSpec

    def rows(self) -> Iterable[Endpoint]:
        rows = Endpoint.objects.live().exclude(wanted=Wanted.DELETED)
        return rows.select_related("tenant", "project", "model", "slo_class", "cluster").order_by("name")

    def find(self, name: str) -> Endpoint | None:
        rows = Endpoint.objects.live().select_related("tenant", "project", "model", "slo_class", "cluster")
        return rows.filter(name=name).first()

    def project_of(self, row: Endpoint) -> str:
        return row.project.slug

    def spec(self, row: Endpoint) -> dict[str, Any]:
        return {
            **_told(OrderTerms.of(row)),
            **{name: getattr(row, name) for name in RATES},
            "fallbacks": _names(row.fallbacks),
            "state": str(row.wanted),
            **scaling_told(row),
        }

    def wanted(self, document: Document, row: Endpoint | None) -> base.Wanted:
        if row is not None and row.wanted == Wanted.DELETED:
            raise ValidationError([f"The endpoint {row.name} is being deleted; apply this when it is gone."])
        context = {"model": row.model} if row else {}
        serializer = base.checked(self.spec_class, document.spec, partial=row is not None, context=context)
        values = dict(serializer.validated_data)
        if "fallbacks" in values:
            values["fallbacks"] = list(dict.fromkeys(values["fallbacks"]))
        given = {name: values[name] for name in _TERMS if name in values}
        others = {
            name: plain(value) for name, value in values.items() if name not in (*given, *_SCALING)
        } | scaling_spec(values)
        if row is None:
            terms = OrderTerms(**completed(_deduplicated(given), given["model"]))
            rest = {**dict.fromkeys(RATES), "fallbacks": [], "state": str(Wanted.RUNNING), **others}
            return base.Wanted(values={**values, "terms": terms}, spec={**_told(terms), **rest})
        profile = given.get("profile")
        if profile and profile != row.profile:
            # What is not given with a new profile is the profile's.
            full = completed(given, given.get("model") or row.model)
            given = {**{name: full[name] for name in (*SHAPE, *_CAPS) if name in full}, **given}
        terms = dataclasses.replace(OrderTerms.of(row), **_deduplicated(given))
        told = _told(terms)
        return base.Wanted(
            values={**values, "terms": terms}, spec={**{name: told[name] for name in given}, **others}
        )

    def create(self, document: Document, wanted: base.Wanted, by: Applier) -> Done:
        values = wanted.values
        endpoint = services.endpoint_order(
            project=project_named(document.project),
            name=document.name,
            terms=values["terms"],
            actor=by.actor,
            created_by=by.user,
            asked_by=by.asked_by,
            limits={name: values[name] for name in RATES if name in values},
        )
        scaling_apply(endpoint, values, actor=by.actor)
        if values.get("state") == Wanted.PAUSED:
            services.endpoint_pause(endpoint=endpoint, actor=by.actor)
            return Done(result=base.CREATED, row=endpoint, note="It is paused.")
        waits = waits_for_approval(endpoint)
        return Done(
            result=base.ASKED_FOR if waits else base.CREATED,
            row=endpoint,
            note=_state(endpoint),
            money=Money(currency=endpoint.tenant.currency, after=_price(endpoint)),
        )

    def change(
        self, row: Endpoint, document: Document, wanted: base.Wanted, changed: frozenset[str], by: Applier
    ) -> Done:
        before, values, endpoint = _price(row), wanted.values, row
        limits = {name: values[name] for name in RATES if name in changed}
        if limits:
            endpoint = endpoint_limits_set(endpoint=endpoint, actor=by.actor, limits=limits)
        if "state" in changed and values["state"] == Wanted.PAUSED:
            endpoint = services.endpoint_pause(endpoint=endpoint, actor=by.actor)
        asked = False
        if terms := changed & set(_TERMS):
            generation = endpoint.generation
            if terms == {"replicas"} and values["replicas"] is not None:
                endpoint = services.endpoint_scale(
                    endpoint=endpoint, replicas=values["replicas"], actor=by.actor, asked_by=by.asked_by
                )
            else:
                endpoint = endpoint_replan(
                    endpoint=endpoint,
                    terms=values["terms"],
                    ways=tuple(endpoint.slo_class.rollout_ways),
                    actor=by.actor,
                    asked_by=by.asked_by,
                )
            asked = endpoint.generation == generation and waits_for_approval(endpoint)
        # After the replicas: to set them by hand switches off that they follow the load.
        scaling_apply(endpoint, values, actor=by.actor)
        if "state" in changed and values["state"] == Wanted.RUNNING:
            endpoint = services.endpoint_resume(endpoint=endpoint, actor=by.actor, asked_by=by.asked_by)
            asked = asked or waits_for_approval(endpoint)
        return Done(
            result=base.ASKED_FOR if asked else base.CHANGED,
            row=endpoint,
            note="It waits for somebody's approval; what runs goes on as it is." if asked else "",
            money=Money(currency=row.tenant.currency, before=before, after=_price(endpoint)),
        )

    def finish(self, row: Endpoint, wanted: base.Wanted, by: Applier) -> None:
        names = wanted.values.get("fallbacks")
        if names is None:
            return
        live = narrowing.within(Endpoint.objects.live(), "project").filter(name__in=names)
        found = dict(live.values_list("name", "id"))
        if missing := [name for name in names if name not in found]:
            text = f"There is no endpoint {missing[0]!r}."
            raise Invalid(text, errors={f"fallbacks.{names.index(missing[0])}": [text]})
        ids = [found[name] for name in names]
        if ids != list(row.fallbacks):
            endpoint_limits_set(endpoint=row, actor=by.actor, fallbacks=ids)

    def remove(self, row: Endpoint, by: Applier) -> Done:
        if row.wanted == Wanted.DELETED:
            return Done(result=base.LEFT, row=row, note="Its deletion is asked for already.")
        before = _price(row)
        services.endpoint_delete(endpoint=row, actor=by.actor)
        return Done(
            result=base.REMOVED,
            row=row,
            note="Deletion is asked for; it is gone when its cluster shows its GPUs released.",
            money=Money(currency=row.tenant.currency, before=before, after=Decimal(0)),
        )

    def asked(self, row: Endpoint) -> bool:
        return waits_for_approval(row)


def _deduplicated(given: Mapping[str, Any]) -> dict[str, Any]:
    found = dict(given)
    for name in ("certifications", "approved_precisions"):
        if name in found:
            found[name] = tuple(dict.fromkeys(found[name]))
    return found


def _told(terms: OrderTerms) -> dict[str, Any]:
    """Give the terms of an order as a document says them."""
    values = {name: getattr(terms, name) for name in _TERMS}
    values |= {"model": terms.model.name, "slo_class": terms.slo_class.name}
    return {name: plain(value) for name, value in values.items()}


def _names(ids: Sequence[uuid.UUID]) -> list[str]:
    if not ids:
        return []
    found = dict(Endpoint.objects.live().filter(id__in=ids).values_list("id", "name"))
    return [found[id] for id in ids if id in found]


def _state(endpoint: Endpoint) -> str:
    kept = Endpoint.objects.get(id=endpoint.id)
    return (
        f"{kept.get_state_display()}: {kept.state_reason}" if kept.state_reason else kept.get_state_display()
    )


def _price(endpoint: Endpoint) -> Decimal | None:
    """Give what an endpoint costs an hour: as it was asked for where that waits, else what it holds."""
    pending = ApprovalRequest.objects.pending().filter(endpoint=endpoint).order_by("-id").first()
    if pending is not None:
        return price_of(pending.quote)
    held = Revision.objects.select_related("pool__cluster").filter(endpoint=endpoint, retired_at=None)
    newest = held.order_by("-number").first()
    if newest is None:
        return Decimal(0) if endpoint.wanted == Wanted.PAUSED else None
    return held_price(newest, Market.read(tenant=endpoint.tenant, besides=endpoint).pools)
