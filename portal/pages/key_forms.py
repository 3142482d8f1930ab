"""Forms on keys: what a key is for, what it may use, and what it reaches."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from typing import Any, Final

from django import forms

from clusters.endpoints.shared import callable_targets
from portal.pages.limits_form import KeyLimitsForm
from portal.templatetags.berth import count
from tenants import networks, roles
from tenants.limits import KEY_LIMITS
from tenants.models import ApiKey, KeyScope, Project, Role, ServiceAccount
from tenants.reach import InferenceVerb
from tenants.roles import Action

LIVES: Final = {"7": "A week", "30": "30 days", "90": "90 days", "365": "A year"}
OVERLAPS: Final = {
    "0": "It ends at once", "3600": "An hour", "86400": "A day", "604800": "A week", "2592000": "30 days",
}  # fmt: skip
_EVERYTHING: Final = "None chosen: all."
_BOXES: Final = forms.CheckboxSelectMultiple


class NetworksField(forms.CharField):
    """Networks in CIDR notation, one a line."""

    widget = forms.Textarea

    def __init__(self, **options: Any) -> None:
        super().__init__(
            required=False, label="Networks", max_length=4_000,
            help_text="From which it may be used, one a line: 203.0.113.0/24 or 2001:db8::/32. Empty: anywhere.",
            widget=forms.Textarea(attrs={"rows": 3, "spellcheck": "false", "class": "mono"}), **options,
        )  # fmt: skip

    def clean(self, value: Any) -> list[str]:
        texts = super().clean(value).replace(",", " ").split()
        try:
            return networks.normalised(texts)
        except ValueError as error:
            raise forms.ValidationError(str(error)) from error


class KeyReachForm(KeyLimitsForm):
    """What a key may use and what it reaches. Fields come by purpose: those of the other one are left aside."""

    networks = NetworksField()
    inference_verbs = forms.MultipleChoiceField(
        choices=InferenceVerb, required=False, label="Operations", widget=_BOXES,
        help_text=f"What it may ask of gateways. {_EVERYTHING}",
    )  # fmt: skip
    endpoints = forms.MultipleChoiceField(
        required=False, label="Endpoints and routes", widget=_BOXES,
        help_text=f"What it may call. {_EVERYTHING} What stands behind a route or in for an endpoint serves it, too.",
    )  # fmt: skip
    management_verbs = forms.MultipleChoiceField(
        choices=[(action.value, action.replace("-", " ").capitalize()) for action in Action],
        required=False, label="Operations", widget=_BOXES,
        help_text=f"Of those that its role may. {_EVERYTHING}",
    )  # fmt: skip
    projects = forms.MultipleChoiceField(
        required=False, label="Projects", widget=_BOXES,
        help_text="Whose endpoints, routes, keys and usage it sees, and nothing of the tenant as a whole."
        f" {_EVERYTHING}",
    )  # fmt: skip

    def __init__(
        self, *args: Any, projects: Iterable[Project], targets: Iterable[Project], **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self.fields["projects"].choices = [(str(project.id), project.name) for project in projects]
        self.fields["endpoints"].choices = _targets(list(targets))

    def narrowed(self, key_scope: str) -> dict[str, Any]:
        """Give what was chosen of a key with this purpose reaches; the form must have been cleaned."""
        chosen = self.cleaned_data
        inference = key_scope == KeyScope.INFERENCE
        found = {
            "networks": chosen["networks"],
            "verbs": chosen.get("inference_verbs" if inference else "management_verbs", []),
        }
        name = "endpoints" if inference else "projects"
        return {**found, name: [uuid.UUID(each) for each in chosen.get(name, ())]}

    def adopt(self, errors: Mapping[str, list[str]], key_scope: str) -> dict[str, list[str]]:
        """Name the errors of a service as the fields of this form are."""
        verbs = "inference_verbs" if key_scope == KeyScope.INFERENCE else "management_verbs"
        return {verbs if name == "verbs" else name: texts for name, texts in errors.items()}

    def _touched(self, *names: str) -> bool:
        return any(name in self.fields and (self[name].value() or name in self.errors) for name in names)

    @property
    def is_placed(self) -> bool:
        """Whether networks were typed or are wrong."""
        return self._touched("networks")

    @property
    def is_limited(self) -> bool:
        """Whether something of an inference key was narrowed, or is wrong."""
        return self._touched("inference_verbs", "endpoints", *KEY_LIMITS)

    @property
    def is_narrowed(self) -> bool:
        """Whether something of a management key was narrowed, or is wrong."""
        return self._touched("management_verbs", "projects")


class KeyForm(KeyReachForm):
    """A key to be made."""

    name = forms.CharField(max_length=80, help_text="What will use it, for instance chat-backend.")
    scope = forms.ChoiceField(choices=KeyScope, label="Purpose")
    project = forms.ChoiceField(required=False, help_text="For inference: the cost centre that pays.")
    role = forms.ChoiceField(required=False, help_text="For management: what the key may do.")
    service_account = forms.ChoiceField(
        required=False, label="Service account", help_text="A management key of one has the account's role."
    )
    life = forms.ChoiceField(choices=list(LIVES.items()), label="Expires after")

    def __init__(
        self,
        *args: Any,
        projects: list[Project],
        accounts: list[ServiceAccount],
        granter_role: str,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, projects=projects, targets=projects, **kwargs)
        self.fields["project"].choices = [(project.slug, project.name) for project in projects]
        self.fields["role"].choices = [
            (role.value, role.label) for role in Role if roles.may_grant(granter_role, role)
        ][::-1]
        if accounts:
            named = [(each.name, f"{each.name}, {each.get_role_display().lower()}") for each in accounts]
            self.fields["service_account"].choices = [("", "None"), *named]
        else:
            del self.fields["service_account"]


class KeyChangeForm(KeyReachForm):
    """What may be changed of a key."""

    name = forms.CharField(max_length=80)

    def __init__(self, *args: Any, key: ApiKey, projects: Iterable[Project], **kwargs: Any) -> None:
        super().__init__(*args, projects=projects, targets=[key.project] if key.project else [], **kwargs)
        inference = key.scope == KeyScope.INFERENCE
        gone = (
            ("management_verbs", "projects") if inference else ("inference_verbs", "endpoints", *KEY_LIMITS)
        )
        for name in gone:
            del self.fields[name]
        kept = {str(each) for each in key.endpoints}
        if inference and (lost := kept - {value for value, _ in self.fields["endpoints"].choices}):
            # Of those that are gone a tick stays until it is taken away: without it the key would reach all others.
            self.fields["endpoints"].choices += [(each, f"{each} (is gone)") for each in sorted(lost)]

    @staticmethod
    def begins_with(key: ApiKey) -> dict[str, Any]:
        """Give what the form shows of a key at first."""
        verbs = "inference_verbs" if key.scope == KeyScope.INFERENCE else "management_verbs"
        return {
            **{name: getattr(key, name) for name in ("name", *KEY_LIMITS)},
            "networks": "\n".join(key.networks),
            verbs: key.verbs,
            "endpoints": [str(each) for each in key.endpoints],
            "projects": [str(each) for each in key.projects],
        }


class RotationForm(forms.Form):
    """How a key is replaced."""

    overlap = forms.ChoiceField(
        choices=list(OVERLAPS.items()), label="The old key goes on for",
        help_text="So long both work, so that programs can be given the new one without a gap.",
    )  # fmt: skip


def reach_told(key: ApiKey, names: Mapping[uuid.UUID, str]) -> list[str]:
    """Write what a key is narrowed to, ``names`` being those of projects; nothing where it is not."""
    told = []
    if key.networks:
        told.append(key.networks[0] if len(key.networks) == 1 else f"{count(len(key.networks))} networks")
    if key.verbs:
        told.append(
            f"only {', '.join(key.verbs)}" if len(key.verbs) < 4 else f"{count(len(key.verbs))} operations"
        )
    if key.endpoints:
        told.append(
            "1 endpoint or route" if len(key.endpoints) == 1 else f"{len(key.endpoints)} endpoints or routes"
        )
    if key.projects:
        told.append(f"projects {', '.join(names.get(each, str(each)) for each in key.projects)}")
    return told


def _targets(projects: list[Project]) -> list[tuple[str, str]]:
    """Give what keys of ``projects`` may call, each with its project where there are several."""
    found: dict[uuid.UUID, list[str]] = {}
    called: dict[uuid.UUID, str] = {}
    for project in projects:
        for target_id, name in callable_targets(project.id).items():
            called[target_id] = name
            found.setdefault(target_id, []).append(project.name)
    several = len(projects) > 1
    labels = {
        target_id: f"{called[target_id]} of {where[0]}" if several and len(where) == 1 else called[target_id]
        for target_id, where in found.items()
    }
    return sorted(((str(target_id), label) for target_id, label in labels.items()), key=lambda each: each[1])
