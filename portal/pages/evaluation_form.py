"""The form of an evaluation set, for tenants and operators alike."""

from __future__ import annotations

from typing import Any

from django import forms

from clusters.endpoints.evaluations import prompts as written
from clusters.endpoints.evaluations.sets import USUAL_PERCENT, newest_version, opened
from clusters.models import EvaluationSet
from portal.pages.console.forms import ConsoleForm
from tenants.errors import Invalid

FOR_ENDPOINT, FOR_MODEL = "endpoint", "model"


class PromptsField(forms.CharField):
    """Prompts with checks, as YAML or JSON."""

    widget = forms.Textarea(
        attrs={"rows": 18, "spellcheck": "false", "class": "mono", "autocapitalize": "none"}
    )

    def __init__(self, **options: Any) -> None:
        super().__init__(max_length=written.MOST_BYTES, strip=False, **options)

    def clean(self, value: Any) -> tuple[written.Prompt, ...]:
        text = super().clean(value)
        try:
            return written.read(text)
        except Invalid as error:
            raise forms.ValidationError(error.message) from error


class EvaluationSetForm(ConsoleForm):
    """What a set is made of."""

    name = forms.CharField(max_length=80)
    prompts = PromptsField(
        label="Prompts with checks",
        help_text="YAML or JSON; the example below explains each check. Asked at temperature 0.",
    )
    pass_percent = forms.DecimalField(
        min_value=0, max_value=100, max_digits=5, decimal_places=2, required=False, initial=USUAL_PERCENT,
        label="Has to pass (%)", help_text="Of the weights of all checks. Empty: no such demand.",
    )  # fmt: skip
    most_drop = forms.DecimalField(
        min_value=0, max_value=100, max_digits=5, decimal_places=2, required=False,
        label="Points below the old revision",
        help_text="At most. The old revision is asked as well, at its own cost. Empty: it is not compared.",
    )  # fmt: skip


class NewEvaluationSetForm(EvaluationSetForm):
    """The same, and what it is for."""

    scope = forms.ChoiceField(
        choices=[(FOR_ENDPOINT, ""), (FOR_MODEL, "")],
        initial=FOR_ENDPOINT,
        widget=forms.RadioSelect,
        label="Holds for",
    )
    field_order = ("name", "scope", "prompts", "pass_percent", "most_drop")

    def __init__(self, *args: Any, endpoint: str, model: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["scope"].choices = [
            (FOR_ENDPOINT, f"{endpoint} alone"),
            (FOR_MODEL, f"every endpoint of ours with {model}"),
        ]


def initial_of(found: EvaluationSet) -> dict[str, Any]:
    """Give what the form of a set holds at first."""
    version = newest_version(found)
    return {
        "name": found.name,
        "prompts": written.as_yaml(opened(version)),
        "pass_percent": version.pass_percent,
        "most_drop": version.most_drop,
    }
