"""What if: another class, place, precision, price or more GPUs for one endpoint, on its real history."""

from __future__ import annotations

from typing import Any, ClassVar

from django import forms
from django.http import HttpRequest, HttpResponse

from clusters.endpoints.what_if.one import endpoint_what_if
from clusters.models import Endpoint, Region, SloClass
from portal.pages.base import put_on_form
from portal.pages.endpoint import EndpointPage
from portal.pages.what_if_form import WhatIfForm
from portal.pages.what_if_shown import show_what_if
from portal.templatetags.berth import residency
from tenants.errors import BerthError
from tenants.roles import Action


class EndpointWhatIfForm(WhatIfForm):
    """Changes of one endpoint's order, of prices, of GPUs."""

    slo_class = forms.ModelChoiceField(
        SloClass.objects.all(), to_field_name="name", required=False, empty_label="As ordered",
        label="Service class",
    )  # fmt: skip
    residency = forms.ChoiceField(required=False)
    precision = forms.ChoiceField(required=False, label="Precision of the weights")

    groups: ClassVar = (
        ("The order", "", ("slo_class", "residency", "precision")),
        ("Prices", "", ("price_percent", "prices_at")),
        ("More GPUs", "", ("cluster", "gpu_type", "nodes")),
    )

    def __init__(self, *args: Any, endpoint: Endpoint, **options: Any) -> None:
        super().__init__(*args, **options)
        regions = list(Region.objects.all())
        zones = sorted({zone for region in regions for zone in region.zones})
        places = ["global", *(f"zone:{zone}" for zone in zones), *(f"region:{each.code}" for each in regions)]
        self.fields["residency"].choices = [
            ("", "As ordered"),
            *((place, residency(place)) for place in places),
        ]
        self.fields["precision"].choices = [
            ("", "As it is chosen"),
            *((each, each) for each in endpoint.model.precisions),
        ]


class WhatIf(EndpointPage):
    """Compares what runs with what would; what was asked is in the address, and nothing is changed."""

    tab = "endpoint-what-if"
    action = Action.VIEW_COST  # it tells what the endpoint's real requests cost

    def get(self, request: HttpRequest, slug: str, id: str) -> HttpResponse:
        form = EndpointWhatIfForm(request.GET or None, endpoint=self.endpoint)
        context: dict[str, Any] = {"form": form}
        if form.is_bound and form.is_valid():
            asked = form.cleaned_data
            try:
                found = endpoint_what_if(
                    endpoint=self.endpoint,
                    changes=form.changes(
                        slo_class=asked["slo_class"],
                        residency=asked["residency"] or None,
                        precision=asked["precision"] or None,
                    ),
                )
            except BerthError as error:
                put_on_form(form, error)
            else:
                context["found"] = show_what_if(found)
        refused = form.is_bound and bool(form.errors)
        return self.render("tenant/endpoint/what_if.html", context, status=422 if refused else 200)
