"""Prices: what holds now, will and did, for all or as a tenant's own; adding one that supersedes; and what has none."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Iterable
from typing import Any
from urllib.parse import urlencode

from django import forms
from django.conf import settings
from django.db.models import Count
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils import timezone

from billing.models import Price
from billing.prices import SELECTORS, price_book, price_set
from billing.rating.prices import MissingPrice
from clusters.inventory.selectors import unpriced_pools
from clusters.models import CatalogModel, GpuType, Region, SloClass
from portal.pages.base import ConsolePage
from portal.pages.console.forms import ConsoleForm, FormPage, MomentInput
from portal.pages.console.tenants import find_tenant
from tenants.audit import audit
from tenants.errors import Invalid
from tenants.models import Tenant
from tenants.roles import PlatformAction

UNITS = {
    Price.Kind.GPU_HOUR: "per GPU-hour",
    Price.Kind.CLASS_FACTOR: "times a token price that names no class",
}
TOKEN_UNIT = "per million tokens"  # noqa: S105


FOR_WHAT = (
    "The price that names most holds. GPU-hours are told apart by GPU type and region, tokens by model, class and the "
    "region of the gateway, factors by class."
)
#: How many tenants with prices of their own the page names.
MOST_NAMED = 100


class PriceForm(ConsoleForm):
    kind = forms.ChoiceField(choices=Price.Kind.choices, label="Price of")
    amount = forms.DecimalField(
        min_value=0, max_digits=20, decimal_places=10, label=f"Amount ({settings.CURRENCY})",
        help_text="For the factor of a class: what token prices that name no class are multiplied by.",
    )  # fmt: skip
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
    tenant = forms.CharField(
        max_length=40, required=False, label="Tenant's own",
        help_text="The tenant's slug: the price is its own, in its currency, and wins over the list. Empty: for all.",
    )  # fmt: skip
    note = forms.CharField(max_length=200, required=False, help_text="Why, for whoever reads the history.")

    groups = (
        ("Price", "Per GPU-hour, or per million tokens.", ("kind", "amount", "effective_from", "note")),
        ("For whom", "", ("tenant",)),
        ("For what", FOR_WHAT, ("gpu_type", "region", "model", "slo_class")),
    )

    def facts(self) -> dict[str, Any]:
        """Give what was chosen as a price keeps it, in the currency of whom it is for.

        Raises:
            Invalid: there is no such tenant.
        """
        chosen = self.cleaned_data
        tenant = Tenant.objects.filter(slug=chosen["tenant"]).first() if chosen["tenant"] else None
        if chosen["tenant"] and tenant is None:
            text = f"There is no tenant {chosen['tenant']!r}; its slug is on its page."
            raise Invalid(text, errors={"tenant": [text]})
        return {
            "kind": chosen["kind"],
            "amount": chosen["amount"],
            "currency": tenant.currency if tenant else settings.CURRENCY,
            "effective_from": chosen["effective_from"],
            "tenant": tenant,
            "gpu_type": chosen["gpu_type"].name if chosen["gpu_type"] else "",
            "region": chosen["region"].code if chosen["region"] else "",
            "model": chosen["model"].name if chosen["model"] else "",
            "slo_class": chosen["slo_class"].name if chosen["slo_class"] else "",
            "note": chosen["note"],
        }


def subject_words(kind: str, subject: Iterable[str]) -> str:
    """Say what a price is for."""
    rest = "every class" if kind == Price.Kind.CLASS_FACTOR else "everything else"
    return ", ".join(filter(None, subject)) or rest


@dataclasses.dataclass
class Line:
    """All prices of one kind for one subject: the one in force, those to come, those superseded."""

    kind: str
    subject: tuple[str, ...]
    tenant: str = ""
    now: Price | None = None
    coming: list[Price] = dataclasses.field(default_factory=list)
    superseded: list[Price] = dataclasses.field(default_factory=list)

    @property
    def words(self) -> str:
        """Say what it is for."""
        return subject_words(self.kind, self.subject)

    @property
    def supersede_url(self) -> str:
        """Give the form with this subject chosen."""
        chosen = dict(zip(SELECTORS, self.subject, strict=True)) | {"tenant": self.tenant}
        query = {"kind": self.kind} | {name: value for name, value in chosen.items() if value}
        return f"{reverse('console:price-add')}?{urlencode(query)}"


class Prices(ConsolePage):
    """The list, or one tenant's own prices beside it."""

    action = PlatformAction.VIEW_MONEY
    reason = "show the price list"

    def get(self, request: HttpRequest) -> HttpResponse:
        now, slug = timezone.now(), request.GET.get("tenant", "").strip()
        tenant = find_tenant(slug) if slug else None
        context = {
            "tenant": tenant,
            "currency": tenant.currency if tenant else settings.CURRENCY,
            "kinds": kinds_shown(price_lines(now, tenant=tenant), tenant=tenant),
            "add_url": f"{reverse('console:price-add')}{f'?tenant={tenant.slug}' if tenant else ''}",
        }
        if tenant:
            context["breadcrumbs"] = [
                {"label": "Prices", "url": reverse("console:prices")},
                {"label": tenant.name},
            ]
        else:
            context |= {"gaps": gaps(now), **_tenants_with_own()}
        return self.render("console/prices.html", context)


class PriceAdd(FormPage):
    action = PlatformAction.MANAGE_MONEY
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
        price = price_set(**form.facts())
        audit(
            self.request.user, "price.add", price=str(price), tenant=price.tenant and price.tenant.slug,
            gpu_type=price.gpu_type, region=price.region, model=price.model, slo_class=price.slo_class,
            effective_from=price.effective_from.isoformat(),
        )  # fmt: skip
        whose = f" for {price.tenant.name}" if price.tenant else ""
        self.say(f"{price} holds{whose} from {price.effective_from:%Y-%m-%d %H:%M} UTC.")
        back = reverse("console:prices")
        return redirect(f"{back}?tenant={price.tenant.slug}" if price.tenant else back)


def kinds_shown(lines: dict[str, list[Line]], *, tenant: Tenant | None = None) -> list[dict[str, Any]]:
    """Give the kinds of prices with their lines, as ``console/price_kinds.html`` shows them."""
    whose = f"&tenant={tenant.slug}" if tenant else ""
    return [
        {
            "label": kind.label,
            "unit": UNITS.get(kind, TOKEN_UNIT),
            "factor": kind == Price.Kind.CLASS_FACTOR,
            "lines": lines[kind.value],
            "url": f"{reverse('console:price-add')}?kind={kind.value}{whose}",
        }
        for kind in Price.Kind
    ]


def price_lines(now: dt.datetime, *, tenant: Tenant | None = None) -> dict[str, list[Line]]:
    """Give the list's prices in the platform's currency by kind, or a tenant's own, told apart by what they are for."""
    currency = tenant.currency if tenant else settings.CURRENCY
    prices = Price.objects.filter(book=None, tenant=tenant, currency=currency)
    lines: dict[tuple, Line] = {}
    for price in prices.order_by("-effective_from", "-id"):
        subject = tuple(getattr(price, name) for name in SELECTORS)
        line = lines.setdefault(
            (price.kind, *subject), Line(price.kind, subject, tenant=tenant.slug if tenant else "")
        )
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


def _tenants_with_own() -> dict[str, Any]:
    counts = Price.objects.filter(book=None).exclude(tenant=None).values_list("tenant_id")
    found = list(counts.annotate(Count("id")).order_by("-id__count")[: MOST_NAMED + 1])
    tenants = {each.id: each for each in Tenant.objects.filter(id__in=[id for id, _ in found])}
    named: Iterable[tuple[Any, int]] = found[:MOST_NAMED]
    return {
        "own": [
            {
                "name": tenants[tenant_id].name,
                "count": count,
                "url": f"{reverse('console:prices')}?tenant={tenants[tenant_id].slug}",
            }
            for tenant_id, count in named
        ],
        "own_more": len(found) > MOST_NAMED,
    }


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
