"""An endpoint's limits a minute, and who takes its requests when it is full."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any

from django import forms
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect

from clusters.endpoints.limits import MOST_FALLBACKS, endpoint_fallbacks, endpoint_limits_set
from clusters.models import Endpoint
from portal.pages.base import put_on_form
from portal.pages.endpoint import EndpointPage
from portal.pages.limits_form import RatesForm, rates_of
from portal.pages.orders_shown import overload_facts
from tenants.errors import BerthError
from tenants.roles import Action


class EndpointLimitsForm(RatesForm):
    """The limits, and as many fallbacks as may be named, in order."""

    def __init__(self, *args: Any, others: Sequence[Endpoint], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        choices = [("", "None"), *((str(each.id), each.name) for each in others)]
        for number in range(1, min(MOST_FALLBACKS, len(others)) + 1):
            label = "First fallback" if number == 1 else f"Then number {number}"
            self.fields[f"fallback_{number}"] = forms.ChoiceField(
                choices=choices, required=False, label=label
            )

    def fallback_fields(self) -> list[forms.BoundField]:
        """Give the fields of the fallbacks, in order."""
        return [self[name] for name in self.fields if name.startswith("fallback_")]

    def fallbacks(self) -> list[uuid.UUID]:
        """Give the chosen ones, in order."""
        chosen = (self.cleaned_data[field.name] for field in self.fallback_fields())
        return [uuid.UUID(each) for each in chosen if each]


class Limits(EndpointPage):
    """The form, with what it means for requests."""

    action = Action.ORDER

    def get(self, request: HttpRequest, slug: str, id: str) -> HttpResponse:
        endpoint = self.endpoint
        there = [str(each.id) for each in endpoint_fallbacks(endpoint) if each.name]
        initial = {f"fallback_{number}": each for number, each in enumerate(there, start=1)}
        return self._show(self._form(initial=initial | rates_of(endpoint)))

    def post(self, request: HttpRequest, slug: str, id: str) -> HttpResponse:
        form = self._form(request.POST)
        if form.is_valid():
            try:
                endpoint_limits_set(
                    endpoint=self.endpoint, limits=form.taken(), fallbacks=form.fallbacks(), actor=self.actor
                )
            except BerthError as error:
                if texts := getattr(error, "errors", {}).pop("fallbacks", []):
                    form.add_error(None, texts)
                else:
                    put_on_form(form, error)
            else:
                self.say(f"The limits of {self.endpoint.name} are saved; gateways follow within a second.")
                return redirect(self.link("endpoint"))
        return self._show(form, status=422)

    def _form(self, *args: Any, **kwargs: Any) -> EndpointLimitsForm:
        others = list(Endpoint.objects.live().exclude(id=self.endpoint.id).order_by("name"))
        return EndpointLimitsForm(*args, others=others, **kwargs)

    def _show(self, form: EndpointLimitsForm, *, status: int = 200) -> HttpResponse:
        context = {"form": form, **overload_facts(self.endpoint)}
        return self.render("tenant/endpoint/limits.html", context, status=status)
