"""What a what-if asks for, in the portal and in the console."""

from __future__ import annotations

from typing import Any

from django import forms
from django.utils import timezone

from billing.models import Price
from clusters.endpoints.what_if.one import MOST_NODES, AddedGpus, Changes
from clusters.models import Cluster, GpuType
from portal.pages.console.forms import ConsoleForm


class WhatIfForm(ConsoleForm):
    """Changes of prices and GPUs."""

    price_percent = forms.DecimalField(
        min_value=-100, max_value=1000, max_digits=7, decimal_places=3, required=False,
        label="GPU prices change by percent", help_text="Negative makes them cheaper.",
    )  # fmt: skip
    prices_at = forms.TypedChoiceField(
        required=False, label="Prices as they will be from", empty_value=None,
        help_text="When a price that is known already begins.",
    )  # fmt: skip
    cluster = forms.ModelChoiceField(
        Cluster.objects.present(), to_field_name="name", required=False, empty_label="No GPUs are added",
        label="GPUs are added to",
    )  # fmt: skip
    gpu_type = forms.ModelChoiceField(
        GpuType.objects.all(), to_field_name="name", required=False, empty_label="Choose", label="GPU type"
    )
    nodes = forms.IntegerField(min_value=1, max_value=MOST_NODES, required=False, label="Nodes")

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        moments = (
            Price.objects.filter(kind=Price.Kind.GPU_HOUR, effective_from__gt=timezone.now())
            .order_by("effective_from")
            .values_list("effective_from", flat=True)
            .distinct()
        )
        self._moments = {moment.isoformat(): moment for moment in moments}
        field = self.fields["prices_at"]
        field.choices = [
            ("", "As today"),
            *((key, f"{moment:%Y-%m-%d %H:%M} UTC") for key, moment in self._moments.items()),
        ]
        field.coerce = self._moments.get

    def clean(self) -> dict[str, Any]:
        asked = super().clean()
        together = {name: asked.get(name) for name in ("cluster", "gpu_type", "nodes")}
        if any(together.values()):
            for name, value in together.items():
                if not value and name not in self.errors:
                    self.add_error(name, "Cluster, GPU type and nodes go together.")
        return asked

    def changes(self, **more: Any) -> Changes:
        """Give the valid form's changes with ``more`` of them.

        Raises:
            Invalid: nothing was changed.
        """
        asked = self.cleaned_data
        added = None
        if asked["cluster"]:
            added = AddedGpus(cluster=asked["cluster"], gpu_type=asked["gpu_type"], nodes=asked["nodes"])
        return Changes(
            price_percent=asked["price_percent"], prices_at=asked["prices_at"], added=added, **more
        )
