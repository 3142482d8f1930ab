"""Engine settings: how each SLO class runs its engines, knob by knob with unit and purpose."""

from __future__ import annotations

import dataclasses
from typing import Any, Final

from django import forms
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse

from clusters.inventory import tuning
from clusters.models import ClassTuning, SloClass
from portal.pages.base import ConsolePage
from portal.pages.console.forms import ConsoleForm, FormPage
from tenants.audit import audit
from tenants.errors import NotFound
from tenants.roles import PlatformAction


@dataclasses.dataclass(frozen=True)
class Knob:
    """One engine setting as people read it."""

    name: str
    label: str
    unit: str
    why: str


KNOBS: Final = (
    Knob("max_batch_size", "Largest batch", "requests",
         "Caps how many requests one engine works on at once. Smaller: steadier tokens. Empty: as the plan says."),
    Knob("max_num_tokens", "Tokens per iteration", "tokens",
         "What one step of the scheduler may hold. Smaller: shorter pauses between tokens; larger: more throughput."),
    Knob("scheduler_policy", "Scheduler", "",
         "GUARANTEED_NO_EVICT never takes memory from a request it has begun; MAX_UTILIZATION may, and packs tighter."),
    Knob("kv_cache_fraction", "KV cache share", "of free GPU memory",
         "How much of what is free after loading goes to the KV cache. Lower it when engines run out of memory."),
    Knob("kv_cache_dtype", "KV cache precision", "",
         "fp8 holds twice the tokens at a little loss of quality; auto follows the model."),
    Knob("kv_block_reuse", "Reuse of prefixes", "",
         "Prompts that begin alike are computed once: a faster first token."),
    Knob("chunked_prefill", "Chunked prefill", "",
         "Long prompts are read in parts, so that they do not hold up the tokens of others."),
    Knob("attention_backend", "Attention", "", "Which kernels compute attention; TRTLLM is the engine's own choice."),
    Knob("cuda_graphs", "CUDA graphs", "", "Replays recorded steps: less work per token, slower start."),
    Knob("overlap_scheduler", "Overlapped scheduling", "", "Plans the next step while the GPU works on this one."),
    Knob("stream_interval", "Stream every", "tokens", "1 sends each token at once; more costs less, less smoothly."),
    Knob("drain_s", "Drain", "seconds", "How long open streams may take once an engine is told to go."),
    Knob("load_s", "Load", "seconds", "How long an engine may take until it is ready, before it is started again."),
)  # fmt: skip

_BY_NAME: Final = {knob.name: knob for knob in KNOBS}
_LATENCY = ("max_batch_size", "max_num_tokens", "scheduler_policy", "chunked_prefill", "stream_interval")
_MEMORY = ("kv_cache_fraction", "kv_cache_dtype", "kv_block_reuse")
_KERNELS = ("attention_backend", "cuda_graphs", "overlap_scheduler")
_LIFE = ("drain_s", "load_s")


class TuningForm(ConsoleForm):
    max_batch_size = forms.IntegerField(min_value=1, max_value=65_536, required=False)
    max_num_tokens = forms.IntegerField(min_value=64, max_value=262_144)
    scheduler_policy = forms.ChoiceField(choices=ClassTuning.SchedulerPolicy.choices)
    chunked_prefill = forms.BooleanField(required=False)
    stream_interval = forms.IntegerField(min_value=1, max_value=1000)
    kv_cache_fraction = forms.FloatField(min_value=0.05, max_value=0.98)
    kv_cache_dtype = forms.ChoiceField(choices=ClassTuning.KvCacheDtype.choices)
    kv_block_reuse = forms.BooleanField(required=False)
    attention_backend = forms.ChoiceField(choices=ClassTuning.AttentionBackend.choices)
    cuda_graphs = forms.BooleanField(required=False)
    overlap_scheduler = forms.BooleanField(required=False)
    drain_s = forms.IntegerField(min_value=1, max_value=3600)
    load_s = forms.IntegerField(min_value=30, max_value=14_400)

    groups = (
        ("Batches and steps", "", _LATENCY),
        ("Memory", "", _MEMORY),
        ("Kernels", "", _KERNELS),
        ("Coming and going", "", _LIFE),
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name, field in self.fields.items():
            knob = _BY_NAME[name]
            field.label = f"{knob.label} ({knob.unit})" if knob.unit else knob.label
            field.help_text = knob.why


class EngineSettings(ConsolePage):
    action = PlatformAction.VIEW_OFFER
    reason = "show the engine settings of the SLO classes"

    def get(self, request: HttpRequest) -> HttpResponse:
        classes = list(SloClass.objects.all())
        by_class = [tuning.tuning_of(each) for each in classes]
        rows = [
            {"knob": knob, "values": [_shown(getattr(each, knob.name)) for each in by_class]}
            for knob in KNOBS
        ]
        return self.render("console/engine_settings.html", {"classes": classes, "rows": rows})


class EngineSettingsEdit(FormPage):
    action = PlatformAction.MANAGE_OFFER
    reason = "change the engine settings of an SLO class"
    form_class = TuningForm
    title = "Engine settings"
    lede = (
        "They hold for revisions made from now on. Endpoints that run keep theirs until they are "
        "ordered, moved or resumed."
    )
    submit_label = "Save settings"

    def heading(self) -> str:
        return f"Engine settings of {self.slo_class.title}"

    @property
    def slo_class(self) -> SloClass:
        found = SloClass.objects.filter(name=self.kwargs["name"]).first()
        if found is None:
            raise NotFound("There is no such SLO class.")
        return found

    def crumbs(self) -> list[dict[str, str]]:
        return [{"label": "Engine settings", "url": reverse("console:engine-settings")}]

    def initial(self) -> dict[str, Any]:
        return dataclasses.asdict(tuning.tuning_of(self.slo_class))

    def save(self, form: TuningForm) -> HttpResponse:
        slo_class = self.slo_class
        tuning.tuning_change(slo_class=slo_class, **form.cleaned_data)
        audit(
            self.request.user, "engine-settings.change", slo_class=slo_class.name,
            **{name: form.cleaned_data[name] for name in form.changed_data},
        )  # fmt: skip
        self.say(f"The engine settings of {slo_class.title} hold for revisions made from now on.")
        return redirect("console:engine-settings")


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    if value is None:
        return "as planned"
    return f"{value:,}" if isinstance(value, int) else str(value)
