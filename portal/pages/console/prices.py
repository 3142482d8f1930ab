"""Prices: what holds now, what will, what was; adding one that supersedes; and what has none."""

from __future__ import annotations

import dataclasses
import datetime as dt
from typing import Any

from django import forms
from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils import timezone

from billing.models import Price
from billing.prices import price_book, price_set
from billing.rating.prices import MissingPrice
from clusters.inventory.selectors import unpriced_pools
from clusters.models import CatalogModel, GpuType, Region, SloClass
from portal.pages.base import ConsolePage
from portal.pages.console.forms import ConsoleForm, FormPage, MomentInput
from tenants.audit import audit

UNITS = {Price.Kind.GPU_HOUR: "per GPU-hour"}
TOKEN_UNIT = "per million tokens"  # noqa: S105


class PriceForm(ConsoleForm):
    kind = forms.ChoiceField(choices=Price.Kind.choices, label="Price of")
    amount = forms.DecimalField(
        min_value=0, max_digits=20, decimal_places=10, label=f"Amount ({settings.CURRENCY})"
    )
    effective_from = forms.DateTimeField(
        required=False, widget=MomentInput(), label="Holds from (UTC)",
        help_text="Empty: from now. The price before holds until then.",
    )  # fmt: skip
    gpu_type = forms.ModelChoiceField(
        GpuType.objects.all(),
        to_field_name="name",
        required=False,
        empty_label="Every GPU type",
        label="GPU type",
    )
    region = forms.ModelChoiceField(
        Region.objects.all(), to_field_name="code", required=False, empty_label="Every region"
    )
    model = forms.ModelChoiceField(
        CatalogModel.objects.all(), to_field_name="name", required=False, empty_label="Every model"
    )
    slo_class = forms.ModelChoiceField(
        SloClass.objects.all(),
        to_field_name="name",
        required=False,
        empty_label="Every class",
        label="SLO class",
    )
    note = forms.CharField(max_length=200, required=False, help_text="Why, for whoever reads the history.")

    groups = (
        ("Price", "Per GPU-hour, or per million tokens.", ("kind", "amount", "effective_from", "note")),
        ("For GPU-hours", "The price that names most holds.", ("gpu_type", "region")),
        ("For tokens", "The price that names most holds.", ("model", "slo_class")),
    )


@dataclasses.dataclass
class Line:
    """All prices of one kind for one subject: the one in force, those to come, those superseded."""

    kind: str
    subject: tuple[str, ...]
    now: Price | None = None
    coming: list[Price] = dataclasses.field(default_factory=list)
    superseded: list[Price] = dataclasses.field(default_factory=list)

    @property
    def words(self) -> str:
        """Say what it is for."""
        return ", ".join(filter(None, self.subject)) or "everything else"

    @property
    def supersede_url(self) -> str:
        """Give the form with this subject chosen."""
        names = ("gpu_type", "region", "model", "slo_class")
        chosen = "".join(f"&{name}={value}" for name, value in zip(names, self.subject, strict=True) if value)
        return f"{reverse('console:price-add')}?kind={self.kind}{chosen}"


class Prices(ConsolePage):
    reason = "show the price book"

    def get(self, request: HttpRequest) -> HttpResponse:
        now = timezone.now()
        lines = price_lines(now)
        context = {
            "currency": settings.CURRENCY,
            "kinds": [
                {
                    "label": kind.label,
                    "unit": UNITS.get(kind, TOKEN_UNIT),
                    "lines": lines[kind.value],
                    "url": f"{reverse('console:price-add')}?kind={kind.value}",
                }
                for kind in Price.Kind
            ],
            "gaps": gaps(now),
        }
        return self.render("console/prices.html", context)


class PriceAdd(FormPage):
    reason = "add a price"
    form_class = PriceForm
    title = "Add a price"
    submit_label = "Add price"
    lede = "It supersedes the price for the same thing. Nothing that was used already is rated anew."

    def crumbs(self) -> list[dict[str, str]]:
        return [{"label": "Prices", "url": reverse("console:prices")}]

    def initial(self) -> dict[str, Any]:
        return {name: self.request.GET[name] for name in PriceForm.base_fields if name in self.request.GET}

    def save(self, form: PriceForm) -> HttpResponse:
        chosen = form.cleaned_data
        price = price_set(
            kind=chosen["kind"],
            amount=chosen["amount"],
            currency=settings.CURRENCY,
            effective_from=chosen["effective_from"],
            gpu_type=chosen["gpu_type"].name if chosen["gpu_type"] else "",
            region=chosen["region"].code if chosen["region"] else "",
            model=chosen["model"].name if chosen["model"] else "",
            slo_class=chosen["slo_class"].name if chosen["slo_class"] else "",
            note=chosen["note"],
        )
        audit(
            self.request.user, "price.add", price=str(price), gpu_type=price.gpu_type, region=price.region,
            model=price.model, slo_class=price.slo_class, effective_from=price.effective_from.isoformat(),
        )  # fmt: skip
        self.say(f"{price} holds from {price.effective_from:%Y-%m-%d %H:%M} UTC.")
        return redirect("console:prices")


def price_lines(now: dt.datetime) -> dict[str, list[Line]]:
    """Give all prices in the platform's currency by kind, told apart by what they are for."""
    lines: dict[tuple, Line] = {}
    for price in Price.objects.filter(currency=settings.CURRENCY).order_by("-effective_from", "-id"):
        subject = (price.gpu_type, price.region, price.model, price.slo_class)
        line = lines.setdefault((price.kind, *subject), Line(price.kind, subject))
        if price.effective_from > now:
            line.coming.insert(0, price)
        elif line.now is None:
            line.now = price
        else:
            line.superseded.append(price)
    by_kind: dict[str, list[Line]] = {kind.value: [] for kind in Price.Kind}
    for line in sorted(lines.values(), key=lambda line: line.subject):
        by_kind[line.kind].append(line)
    return by_kind


def gaps(now: dt.datetime) -> list[dict[str, str]]:
    """Say what has no price: pools that are not for sale, models whose tokens cost nothing."""
    add = reverse("console:price-add")
    found = {
        (pool.gpu_type.name, pool.cluster.region.code): {
            "text": f"No price for GPU type {pool.gpu_type.title} in {pool.cluster.region.code}: "
            "its pools are not for sale.",
            "url": f"{add}?kind={Price.Kind.GPU_HOUR.value}&gpu_type={pool.gpu_type.name}",
        }
        for pool in unpriced_pools(currency=settings.CURRENCY, now=now)
    }
    return [*found.values(), *_token_gaps(now, add)]


def _token_gaps(now: dt.datetime, add: str) -> list[dict[str, str]]:
    book = price_book(settings.CURRENCY)
    found = []
    for model in CatalogModel.objects.filter(published=True):
        missing = []
        for slo_class in SloClass.objects.all():
            try:
                for kind in (Price.Kind.INPUT_TOKENS, Price.Kind.OUTPUT_TOKENS, Price.Kind.CACHED_TOKENS):
                    book.at(kind.value, now, model=model.name, slo_class=slo_class.name)
            except MissingPrice:
                missing.append(slo_class.title)
        if missing:
            found.append(
                {
                    "text": f"No full token price for {model.title} in class {', '.join(missing)}: "
                    "its usage is shown without cost.",
                    "url": f"{add}?kind={Price.Kind.INPUT_TOKENS.value}&model={model.name}",
                }
            )
    return found
