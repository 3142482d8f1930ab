"""What forms on limits share: rates a minute, and how a row's limits read."""

from __future__ import annotations

from typing import Any, Final

from django import forms

from clusters.models import SloClass
from portal.templatetags.berth import count, duration
from tenants.api.serializers import MOST_A_MINUTE
from tenants.limits import RATES
from tenants.models import ApiKey, RateLimited, Tenant

NO_LIMIT: Final = "Empty: no limit."


class RatesForm(forms.Form):
    """Limits a minute, over all gateways."""

    requests_per_minute = forms.IntegerField(
        min_value=1, max_value=MOST_A_MINUTE, required=False, label="Requests a minute", help_text=NO_LIMIT
    )
    tokens_per_minute = forms.IntegerField(
        min_value=1, max_value=MOST_A_MINUTE, required=False, label="Tokens a minute",
        help_text=f"Input and output together. {NO_LIMIT}",
    )  # fmt: skip

    def taken(self, *names: str) -> dict[str, Any]:
        """Give what was typed of ``names``, of the rates where none are named."""
        return {name: self.cleaned_data[name] for name in names or RATES}


class KeyLimitsForm(RatesForm):
    """What an inference key may use."""

    slo_class = forms.ChoiceField(
        required=False,
        label="Service class",
        help_text="For its requests, where it is lower than the endpoint's.",
    )
    context_tokens = forms.IntegerField(
        min_value=2, max_value=MOST_A_MINUTE, required=False, label="Longest request with its answer",
        help_text="In tokens. Empty: what the endpoint allows.",
    )  # fmt: skip

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        classes = SloClass.objects.values_list("name", "title")
        self.fields["slo_class"].choices = [("", "The endpoint's"), *classes]


def rates_of(row: RateLimited) -> dict[str, int | None]:
    """Give a row's rates, as a form begins with them."""
    return {name: getattr(row, name) for name in RATES}


def rates_told(row: RateLimited) -> list[str]:
    """Write the limits a minute of a row; nothing where it has none."""
    told = []
    if row.requests_per_minute is not None:
        told.append(f"{count(row.requests_per_minute)} requests a minute")
    if row.tokens_per_minute is not None:
        told.append(f"{count(row.tokens_per_minute)} tokens a minute")
    return told


def key_limits_told(key: ApiKey) -> list[str]:
    """Write all limits of a key; nothing where it has none."""
    told = rates_told(key)
    if key.context_tokens is not None:
        told.append(f"{count(key.context_tokens)} tokens a request")
    if key.slo_class:
        told.append(f"class {key.slo_class}")
    return told


def served_for(tenant: Tenant) -> str:
    """Write how long a gateway that hears nothing of Berth goes on serving a tenant."""
    after = tenant.refuse_after_s
    return "served on for ever" if after is None else f"refused after {duration(after)}"
