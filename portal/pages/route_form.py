"""The form of a named route: its name and its rules, each with conditions and targets; it works without scripts.

What is typed is kept as plain values per rule, so that a button may add, remove or move one and show the form again.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from django import forms
from django.http import QueryDict

from clusters.api.route_serializers import MOST_TOKENS
from clusters.endpoints.routes import LONGEST_VALUE, MOST_RULES, MOST_TARGETS, MOST_WEIGHT
from clusters.models import Endpoint, SloClass
from gateway.contract import RouteRule, RouteTarget
from tenants.models import ApiKey, KeyScope, Project

CONDITIONS: Final = ("slo_class", "min_input_tokens", "max_input_tokens", "header", "header_value", "key_ids")


@dataclasses.dataclass(frozen=True)
class RouteChoices:
    """What a rule may name, read once for all rules of a form."""

    endpoints: list[tuple[str, str]]
    classes: list[tuple[str, str]]
    keys: list[tuple[str, str]]

    @classmethod
    def read(cls) -> RouteChoices:
        """Read them of the open tenant."""
        keys = ApiKey.objects.filter(scope=KeyScope.INFERENCE, ephemeral=False, revoked_at=None)
        return cls(
            endpoints=[
                (str(each.id), each.name) for each in Endpoint.objects.live().order_by("name").only("name")
            ],
            classes=list(SloClass.objects.values_list("name", "title")),
            keys=[(str(each.id), str(each)) for each in keys.order_by("name")],
        )


class NameForm(forms.Form):
    """A route's name."""

    name = forms.CharField(
        max_length=63, help_text="Clients send it as the model.",
        widget=forms.TextInput(attrs={"autocomplete": "off", "autocapitalize": "none", "spellcheck": "false"}),
    )  # fmt: skip


class NewNameForm(NameForm):
    """The name and the project of a route to be made."""

    project = forms.ChoiceField(help_text="Its keys call the route.")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        rows = Project.objects.order_by("created_at")
        self.fields["project"].choices = [(each.slug, each.name) for each in rows]


class RuleForm(forms.Form):
    """One rule: conditions, all of which must hold, and the endpoints that requests go to then."""

    slo_class = forms.ChoiceField(required=False, label="Class of the key")
    min_input_tokens = forms.IntegerField(
        min_value=0, max_value=MOST_TOKENS, required=False, label="Prompt of at least"
    )
    max_input_tokens = forms.IntegerField(
        min_value=1, max_value=MOST_TOKENS, required=False, label="Prompt of at most"
    )
    header = forms.CharField(
        max_length=64, required=False, label="Request header", help_text="Its name, in lower case."
    )
    header_value = forms.CharField(max_length=LONGEST_VALUE, required=False, label="Value of the header")
    key_ids = forms.MultipleChoiceField(
        required=False, label="Only these keys", widget=forms.CheckboxSelectMultiple
    )

    def __init__(self, *args: Any, choices: RouteChoices, slots: int, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.slots = slots
        self.fields["slo_class"].choices = [("", "Any"), *choices.classes]
        self.fields["key_ids"].choices = choices.keys
        for slot in range(slots):
            first = slot == 0
            self.fields[f"endpoint_{slot}"] = forms.ChoiceField(
                choices=[("", "Choose one" if first else "None"), *choices.endpoints],
                required=first,
                label="Endpoint" if first else "Or endpoint",
                error_messages={"required": "Choose an endpoint."},
            )
            self.fields[f"weight_{slot}"] = forms.IntegerField(
                min_value=0, max_value=MOST_WEIGHT, required=False, label="Weight", help_text="Empty: 1."
            )

    def targets(self) -> list[tuple[forms.BoundField, forms.BoundField]]:
        """Give the fields of endpoints, each with that of its weight."""
        return [(self[f"endpoint_{slot}"], self[f"weight_{slot}"]) for slot in range(self.slots)]

    @property
    def names_keys(self) -> bool:
        """Whether some keys are chosen, or wrongly."""
        return bool(self["key_ids"].value() or "key_ids" in self.errors)

    def rule(self) -> RouteRule:
        """Give the rule that was typed."""
        chosen = self.cleaned_data
        return RouteRule(
            targets=tuple(
                RouteTarget(endpoint_id=endpoint, weight=1 if weight is None else weight)
                for endpoint, weight in self._chosen()
            ),
            slo_class=chosen["slo_class"],
            min_input_tokens=chosen["min_input_tokens"] or 0,
            max_input_tokens=chosen["max_input_tokens"],
            key_ids=tuple(chosen["key_ids"]),
            header=chosen["header"].strip().lower(),
            header_value=chosen["header_value"],
        )

    def _chosen(self) -> list[tuple[str, int | None]]:
        found = (
            (self.cleaned_data.get(f"endpoint_{slot}"), self.cleaned_data.get(f"weight_{slot}"))
            for slot in range(self.slots)
        )
        return [(endpoint, weight) for endpoint, weight in found if endpoint]


def blank_rule() -> dict[str, Any]:
    """Give the values of a rule of which nothing is typed."""
    return {"targets": [("", 1), ("", "")]}


def values_of(rules: Iterable[RouteRule]) -> list[dict[str, Any]]:
    """Give rules as values for their forms."""
    return [
        {
            "slo_class": rule.slo_class,
            "min_input_tokens": rule.min_input_tokens or None,
            "max_input_tokens": rule.max_input_tokens,
            "header": rule.header,
            "header_value": rule.header_value,
            "key_ids": list(rule.key_ids),
            "targets": [(target.endpoint_id, target.weight) for target in rule.targets],
        }
        for rule in rules
    ]


def typed_values(data: QueryDict) -> list[dict[str, Any]]:
    """Give what was typed, rule by rule, as it was typed."""
    rules = []
    for number in range(_counted(data.get("rules", ""), MOST_RULES)):
        prefix = f"rule-{number}-"
        values: dict[str, Any] = {name: data.get(prefix + name, "") for name in CONDITIONS}
        values["key_ids"] = data.getlist(f"{prefix}key_ids")
        values["targets"] = [
            (data.get(f"{prefix}endpoint_{slot}", ""), data.get(f"{prefix}weight_{slot}", ""))
            for slot in range(_slots(data, prefix))
        ]
        rules.append(values)
    return rules


def rearranged(rules: list[dict[str, Any]], intent: str) -> list[dict[str, Any]] | None:
    """Give the rules as a button asks for them: ``add``, ``remove-N``, ``up-N``, ``more-N``; None for any other."""
    verb, _, number = intent.partition("-")
    place = int(number) if number.isascii() and number.isdigit() else -1
    if verb == "add":
        return [*rules, blank_rule()][:MOST_RULES]
    if not 0 <= place < len(rules):
        return None
    if verb == "remove":
        return [rule for index, rule in enumerate(rules) if index != place] or [blank_rule()]
    if verb == "up" and place:
        return [*rules[: place - 1], rules[place], rules[place - 1], *rules[place + 1 :]]
    if verb == "more":
        wider = rules[place] | {"targets": [*rules[place]["targets"], ("", "")][:MOST_TARGETS]}
        return [*rules[:place], wider, *rules[place + 1 :]]
    return rules if verb == "up" else None


def forms_of(rules: Sequence[Mapping[str, Any]], choices: RouteChoices) -> list[RuleForm]:
    """Give forms that show values; nothing of them is checked."""
    made = []
    for number, values in enumerate(rules):
        targets = list(values["targets"])
        initial = {name: values[name] for name in CONDITIONS if name in values}
        for slot, (endpoint, weight) in enumerate(targets):
            initial |= {f"endpoint_{slot}": endpoint, f"weight_{slot}": weight}
        made.append(
            RuleForm(initial=initial, prefix=f"rule-{number}", choices=choices, slots=max(2, len(targets)))
        )
    return made


def bound_forms(data: QueryDict, choices: RouteChoices) -> list[RuleForm]:
    """Give forms bound to what was sent."""
    return [
        RuleForm(
            data, prefix=f"rule-{number}", choices=choices, slots=max(1, _slots(data, f"rule-{number}-"))
        )
        for number in range(_counted(data.get("rules", ""), MOST_RULES))
    ]


def _slots(data: QueryDict, prefix: str) -> int:
    return sum(f"{prefix}endpoint_{slot}" in data for slot in range(MOST_TARGETS))


def _counted(text: str, most: int) -> int:
    return min(int(text), most) if text.isascii() and text.isdigit() and len(text) < 6 else 0
