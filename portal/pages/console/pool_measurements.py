"""What replays measured on a pool: the table beside what the planner expects, qualifying by a report, undoing one."""

from __future__ import annotations

from typing import Any, Final

import msgspec
from django import forms
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse

from clusters.endpoints.qualifying import served_by
from clusters.inventory.catalog import RUNTIMES
from clusters.inventory.qualification import (
    Judged,
    Served,
    measurement_remove,
    measurements_judged,
    pool_qualify,
)
from clusters.models import CatalogModel, Endpoint, NodePool, PoolMeasurement
from clusters.planning.problem import Precision
from portal.pages.base import ConsolePage
from portal.pages.console.clusters import clusters_crumb, find_cluster, find_endpoints_on
from portal.pages.console.forms import ConsoleForm, FormPage
from portal.templatetags.berth import ms, percent
from tenants.audit import audit
from tenants.errors import NotFound
from tenants.roles import PlatformAction

MOST_BYTES: Final = 16 * 1024 * 1024

#: Rows that the page shows, the newest.
MOST_SHOWN: Final = 50


class QualifyForm(ConsoleForm):
    report = forms.FileField(
        label="Report", help_text="As python -m gateway.replay … --out report.json keeps it, 16 MiB at most."
    )
    target = forms.CharField(
        max_length=120, required=False, help_text="Its name in the report, where that has several."
    )
    endpoint = forms.ModelChoiceField(
        Endpoint.objects.none(), required=False, empty_label="None of these: it is said below",
        label="What served", help_text="An endpoint that runs here says model, precision, layout and settings itself.",
    )  # fmt: skip
    revision = forms.IntegerField(
        min_value=1, max_value=2**31 - 1, required=False,
        help_text="The number of the endpoint's revision that served, where that is not the only one now.",
    )  # fmt: skip
    model = forms.ModelChoiceField(
        CatalogModel.objects.none(), required=False, empty_label="Choose a model", to_field_name="name"
    )
    runtime = forms.ChoiceField(choices=[(name, name) for name in RUNTIMES], required=False)
    engine_version = forms.CharField(max_length=40, required=False)
    precision = forms.ChoiceField(choices=[(name.value, name.value) for name in Precision], required=False)
    tensor_parallel = forms.IntegerField(min_value=1, max_value=64, initial=1, required=False)
    pipeline_parallel = forms.IntegerField(min_value=1, max_value=64, initial=1, required=False)
    replicas = forms.IntegerField(min_value=1, max_value=10_000, initial=1, required=False)
    max_batch_size = forms.IntegerField(
        min_value=1, max_value=4096, required=False, label="Largest batch", help_text="Requests at once."
    )
    max_num_tokens = forms.IntegerField(
        min_value=1, max_value=1_000_000, initial=8192, required=False, label="Tokens of a step"
    )

    by_hand = (
        "model", "runtime", "engine_version", "precision", "tensor_parallel", "pipeline_parallel", "replicas",
        "max_batch_size", "max_num_tokens",
    )  # fmt: skip
    groups = (
        ("Report", "", ("report", "target", "endpoint", "revision")),
        ("Served by something else", "Only where no endpoint of Berth answered.", by_hand),
    )
    folded = ("Served by something else",)

    def __init__(self, *args: Any, pool: NodePool, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        here = find_endpoints_on(pool.cluster).filter(
            revisions__pool=pool, revisions__retired_at=None, revisions__cleaned_at=None
        )
        self.fields["endpoint"].queryset = here.select_related("tenant", "model")
        self.fields["endpoint"].label_from_instance = lambda each: f"{each.name} of {each.tenant.name}"
        self.fields["model"].queryset = CatalogModel.objects.all()

    def clean_report(self) -> dict[str, Any]:
        file = self.cleaned_data["report"]
        if file.size > MOST_BYTES:
            raise forms.ValidationError("It is larger than 16 MiB. Leave its single answers out.")
        try:
            return msgspec.json.decode(file.read(), type=dict)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            raise forms.ValidationError("This is no JSON object.") from None

    def clean(self) -> dict[str, Any]:
        values = super().clean()
        if not values.get("endpoint"):
            if values.get("revision"):
                self.add_error("revision", "Choose the endpoint too, or leave it empty.")
            for name in ("model", "max_batch_size", "max_num_tokens"):
                if not values.get(name) and name not in self.errors:
                    self.add_error(name, "Say it, or choose the endpoint that served.")
        return values

    def served(self, pool: NodePool) -> Served:
        """Give what answered the replay."""
        values = self.cleaned_data
        if values["endpoint"]:
            return served_by(
                values["endpoint"],
                pool,
                report=values["report"],
                target=values["target"],
                number=values["revision"],
            )
        return Served(**{name: values[name] for name in self.by_hand if values[name]})


class PoolMeasurements(ConsolePage):
    action = PlatformAction.VIEW_ESTATE
    reason = "show what replays measured on a pool"

    def get(self, request: HttpRequest, name: str, pool: str) -> HttpResponse:
        found = find_pool(name, pool)
        rows = PoolMeasurement.objects.filter(pool=found).select_related(
            "pool__cluster", "pool__gpu_type", "model"
        )
        shown = measurements_judged(list(rows[:MOST_SHOWN]))
        context = {
            "breadcrumbs": [*_cluster_crumbs(found), {"label": f"Measurements of {found.name}"}],
            "pool": found,
            "rows": [_row(judged) for judged in shown],
            "more": max(0, rows.count() - MOST_SHOWN) if len(shown) == MOST_SHOWN else 0,
        }
        return self.render("console/pool_measurements.html", context)


class PoolQualify(FormPage):
    action = PlatformAction.MANAGE_ESTATE
    reason = "qualify a pool by what a replay measured there"
    form_class = QualifyForm
    title = "Qualify pool"
    lede = "What the replay measured corrects what plans expect of GPUs of this type. It can be taken back."
    submit_label = "Qualify pool"

    @property
    def pool(self) -> NodePool:
        return find_pool(self.kwargs["name"], self.kwargs["pool"])

    def heading(self) -> str:
        return f"Qualify pool {self.kwargs['pool']}"

    def form_arguments(self) -> dict[str, Any]:
        return {"pool": self.pool}

    def crumbs(self) -> list[dict[str, str]]:
        return _pool_crumbs(self.pool)

    def save(self, form: QualifyForm) -> HttpResponse:
        pool, values = self.pool, form.cleaned_data
        rows, made = pool_qualify(
            pool=pool, report=values["report"], served=form.served(pool), target=values["target"],
            actor=self.actor,
        )  # fmt: skip
        if made:
            audit(
                self.request.user, "pool.qualify", cluster=pool.cluster.name, pool=pool.name,
                report=rows[0].digest, target=rows[0].target,
            )  # fmt: skip
            self.say(f"Pool {pool.name} is qualified: plans use what was measured there from now on.")
        else:
            self.say("This report was there already; nothing changed.")
        return redirect("console:pool-measurements", pool.cluster.name, pool.name)


class PoolMeasurementRemove(ConsolePage):
    """Asks, then takes a measurement out of the planner's table."""

    action = PlatformAction.MANAGE_ESTATE
    reason = "take back what a replay measured on a pool"

    def get(self, request: HttpRequest, name: str, pool: str, id: Any) -> HttpResponse:
        found = _find_measurement(name, pool, id)
        context = {
            "breadcrumbs": [*_pool_crumbs(found.pool), {"label": "Remove measurement"}],
            "consequences": [
                "Plans are made without it from now on. What runs goes on as it was planned.",
                "The same report can qualify the pool again.",
            ],
            "intro": f"{found.model.title} on {found.pool.name}, replayed as {found.target} at speed {found.speed:g}.",
            "cancel_url": _pool_crumbs(found.pool)[-1]["url"],
        }
        return self.render("console/pool_measurement_remove.html", context)

    def post(self, request: HttpRequest, name: str, pool: str, id: Any) -> HttpResponse:
        found = _find_measurement(name, pool, id)
        measurement_remove(measurement=found)
        audit(
            request.user, "pool.unqualify", cluster=name, pool=pool, report=found.digest, target=found.target
        )
        self.say("The measurement is removed: plans are made without it from now on.")
        return redirect("console:pool-measurements", name, pool)


def find_pool(name: str, pool: str) -> NodePool:
    """Find a pool of a cluster in reach.

    Raises:
        NotFound: there is none.
    """
    rows = NodePool.objects.select_related("cluster", "gpu_type")
    found = rows.filter(cluster=find_cluster(name), name=pool).first()
    if found is None:
        raise NotFound("There is no such pool.")
    return found


def _find_measurement(name: str, pool: str, id: Any) -> PoolMeasurement:
    rows = PoolMeasurement.objects.select_related("pool__cluster", "model")
    found = rows.filter(pool=find_pool(name, pool), id=id).first()
    if found is None:
        raise NotFound("There is no such measurement.")
    return found


def _cluster_crumbs(pool: NodePool) -> list[dict[str, str]]:
    name = pool.cluster.name
    return [clusters_crumb(), {"label": name, "url": reverse("console:cluster", args=[name])}]


def _pool_crumbs(pool: NodePool) -> list[dict[str, str]]:
    url = reverse("console:pool-measurements", args=[pool.cluster.name, pool.name])
    return [*_cluster_crumbs(pool), {"label": f"Measurements of {pool.name}", "url": url}]


def _row(judged: Judged) -> dict[str, Any]:
    row = judged.row
    return {
        "row": row,
        "layout": f"{row.replicas} × TP {row.tensor_parallel}"
        + (f" × PP {row.pipeline_parallel}" if row.pipeline_parallel > 1 else ""),
        "times": [
            _time("Between tokens", row.itl_mean_ms, row.itl_p95_ms, judged.before.itl_ms, judged.after.itl_ms),
            _time("First token", row.ttft_mean_ms, row.ttft_p95_ms, judged.before.ttft_ms, judged.after.ttft_ms),
        ],
        "reasons": judged.reasons,
    }  # fmt: skip


def _time(what: str, mean: float, p95: float, before: float | None, after: float | None) -> dict[str, str]:
    return {
        "what": what,
        "mean": ms(mean),
        "p95": ms(p95),
        "before": _off(before, mean),
        "after": _off(after, mean),
    }


def _off(expected: float | None, measured: float) -> str:
    if expected is None:
        return "queues would grow"
    off = expected / measured - 1
    return f"{ms(expected)}, {'+' if off >= 0 else '−'}{percent(abs(off), 0)}"
