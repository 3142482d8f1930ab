"""Kubernetes clusters: registering, checking, setting, giving new credentials, deregistering."""

from __future__ import annotations

from typing import Any

from django import forms
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse

from clusters.inventory import registration
from clusters.inventory.catalog import RUNTIMES
from clusters.models import Cluster, Gateway, Region
from portal.pages.base import ConsolePage, put_on_form
from portal.pages.console.clusters import clusters_crumb, find_cluster, find_endpoints_on
from portal.pages.console.credentials_form import CREDENTIAL_GROUPS, CredentialsForm
from portal.pages.console.forms import ConsoleForm, FormPage, WordsField
from tenants.audit import audit
from tenants.errors import BerthError, NotFound
from tenants.roles import PlatformAction

CLUSTER_WIDE, NAMESPACES = "cluster-wide", "namespaces"
_NOT_FOR_A_CHECK = ("name", "region", "runtimes")


class KubernetesForm(CredentialsForm):
    name = forms.CharField(max_length=40, help_text="Lower-case letters, digits and hyphens.")
    region = forms.ModelChoiceField(Region.objects.all(), empty_label="Choose a region")
    runtimes = forms.MultipleChoiceField(
        choices=[(name, name) for name in RUNTIMES],
        widget=forms.CheckboxSelectMultiple,
        initial=["triton-llmapi"],
        help_text="Engines that may run there. Each needs a pinned image.",
    )
    mode = forms.ChoiceField(
        label="What Berth may do there",
        choices=[
            (CLUSTER_WIDE, "Cluster-wide: it reads nodes and makes a namespace per project"),
            (NAMESPACES, "Namespaces: it keeps to those named below and reads no nodes"),
        ],
        widget=forms.RadioSelect,
        initial=CLUSTER_WIDE,
        help_text="deploy/cluster/ holds what the cluster's admin applies first, for either.",
    )
    namespaces = WordsField(
        required=False, help_text="Made beforehand by the cluster's admin, apart by commas or blanks."
    )

    groups = (
        ("Cluster", "", ("name", "region", "runtimes")),
        *CREDENTIAL_GROUPS,
        ("Grants", "", ("mode", "namespaces")),
    )

    def clean(self) -> dict[str, Any]:
        values = super().clean()
        named = values.get("namespaces")
        if values.get("mode") == NAMESPACES and not named:
            self.add_error("namespaces", "Name at least one namespace, or choose cluster-wide.")
        if values.get("mode") == CLUSTER_WIDE and named:
            self.add_error("namespaces", "Leave this empty, or choose the mode that keeps to namespaces.")
        return values


class SettingsForm(ConsoleForm):
    runtimes = forms.MultipleChoiceField(
        choices=[(name, name) for name in RUNTIMES], widget=forms.CheckboxSelectMultiple,
        help_text="Engines that may run there.",
    )  # fmt: skip
    namespaces = WordsField(
        required=False,
        help_text="Berth keeps to these, made by the cluster's admin. Empty: it makes its own.",
    )
    drift = forms.ChoiceField(
        choices=Cluster.Drift.choices, widget=forms.RadioSelect,
        label="When somebody changes what Berth made",
        help_text="Reporting shows the difference on the endpoint and leaves it.",
    )  # fmt: skip
    autoscaler = forms.ChoiceField(
        choices=Cluster.Autoscaler.choices, widget=forms.RadioSelect,
        label="Who decides how many replicas run",
        help_text="One owner only: with KEDA or HPA Berth never writes the number.",
    )  # fmt: skip
    storage_class = forms.CharField(
        max_length=63, required=False, help_text="For weights and engine caches. Empty: the default one."
    )
    storage_access_mode = forms.ChoiceField(
        choices=Cluster.AccessMode.choices, widget=forms.RadioSelect,
        label="Its volumes can be used by",
        help_text="With one node at a time, a model whose weights are fetched runs in one pod only.",
    )  # fmt: skip
    pull_secret = forms.CharField(
        max_length=63, required=False, help_text="Name of the Secret for the engine images' registry."
    )
    prometheus_namespace = forms.CharField(
        max_length=63, required=False, help_text="From where metrics may be read. Empty: nowhere."
    )
    prometheus_url = forms.URLField(
        required=False, assume_scheme="http", label="Prometheus address",
        help_text="Where KEDA asks how much is in flight; only with KEDA.",
    )  # fmt: skip
    loader_cidrs = WordsField(
        required=False, label="Networks that weights come from",
        help_text="Addresses such as 10.20.0.0/16. Empty: the public internet, and no private network.",
    )  # fmt: skip
    dra = forms.BooleanField(
        required=False, label="Ask for GPUs by resource claims (DRA)",
        help_text="Where the cluster serves them and NVIDIA's DRA driver runs.",
    )  # fmt: skip
    gateway_namespace = forms.CharField(
        max_length=63, help_text="Where gateways run; only from there may engines be called."
    )
    kueue_queue = forms.CharField(
        max_length=63, required=False, label="Kueue queue", help_text="Empty: pods are not queued."
    )
    tolerate = WordsField(
        required=False, label="Taints to bear",
        help_text="Keys of taints beyond nvidia.com/gpu, apart by commas or blanks.",
    )  # fmt: skip

    groups = (
        ("What runs there", "", ("runtimes", "namespaces")),
        ("Who decides", "", ("drift", "autoscaler")),
        ("What the cluster offers", "",
         ("storage_class", "storage_access_mode", "pull_secret", "prometheus_namespace", "prometheus_url",
          "gateway_namespace", "kueue_queue", "loader_cidrs", "dra", "tolerate")),
    )  # fmt: skip


class RotateForm(CredentialsForm):
    pass


class _Checks(FormPage):
    """A form whose credentials can be tried by its second button, which saves nothing."""

    template = "console/credentials_form.html"

    def post(self, request: HttpRequest, **kwargs: Any) -> HttpResponse:
        if "check" not in request.POST:
            return super().post(request, **kwargs)
        form = self.form_class(request.POST, request.FILES, initial=self.initial(), **self.form_arguments())
        # A check needs neither name nor place.
        spared = [field for name, field in form.fields.items() if field.required and name in _NOT_FOR_A_CHECK]
        for field in spared:
            field.required = False
        report = None
        if form.is_valid():
            try:
                report = registration.connection_check(
                    credentials=form.credentials(), namespaces=self.namespaces(form)
                )
            except BerthError as error:
                put_on_form(form, error)
        for field in spared:
            field.required = True
        if request.htmx:
            problems = [text for errors in form.errors.values() for text in errors]
            return self.render("console/report.html", {"report": report, "problems": problems})
        self.report = report
        form.forget(as_error=bool(form.errors))
        return self.show(form, status=200 if report else 422)

    def namespaces(self, form: forms.Form) -> list[str]:
        """Give the namespaces that Berth is to keep to."""
        return form.cleaned_data.get("namespaces") or []

    def more_context(self) -> dict[str, Any]:
        return {"report": getattr(self, "report", None)}


class ClusterRegister(_Checks):
    action = PlatformAction.MANAGE_FLEET
    reason = "register a Kubernetes cluster"
    form_class = KubernetesForm
    title = "Register a Kubernetes cluster"
    lede = (
        "The cluster's admin applies deploy/cluster/ first; it makes the account whose token is given here."
    )
    submit_label = "Register cluster"

    def crumbs(self) -> list[dict[str, str]]:
        return [clusters_crumb()]

    def more_context(self) -> dict[str, Any]:
        context = super().more_context() | {"local_url": reverse("console:cluster-register-local")}
        if not Region.objects.exists():
            context["alert"] = {
                "tone": "info",
                "title": "There is no region yet",
                "text": "A cluster stands in a region.",
                "url": reverse("console:region-register"),
                "label": "Register a region first",
            }
        return context

    def save(self, form: KubernetesForm) -> HttpResponse:
        values = form.cleaned_data
        cluster = registration.kubernetes_cluster_register(
            name=values["name"],
            region=values["region"],
            credentials=form.credentials(),
            runtimes=values["runtimes"],
            namespaces=values["namespaces"],
        )
        audit(
            self.request.user, "cluster.register", cluster=cluster.name, region=cluster.region.code,
            driver=cluster.driver, server=cluster.server, namespaces=cluster.namespaces,
        )  # fmt: skip
        self.say(f"Cluster {cluster.name} is registered.")
        return redirect("console:cluster", cluster.name)


class OfKubernetes(FormPage):
    """A form about the Kubernetes cluster that the path names."""

    action = PlatformAction.MANAGE_ESTATE

    @property
    def cluster(self) -> Cluster:
        cluster = find_cluster(self.kwargs["name"])
        if cluster.driver != Cluster.DriverKind.KUBERNETES:
            raise NotFound("This cluster is not driven by Kubernetes.")
        return cluster

    def crumbs(self) -> list[dict[str, str]]:
        name = self.cluster.name
        return [clusters_crumb(), {"label": name, "url": reverse("console:cluster", args=[name])}]


class ClusterRotate(_Checks, OfKubernetes):
    action = PlatformAction.MANAGE_ESTATE
    reason = "give a cluster new credentials"
    form_class = RotateForm
    title = "New credentials"
    lede = "They are tried first. The old ones serve until the new ones are in place; nothing is interrupted."
    submit_label = "Rotate credentials"

    def heading(self) -> str:
        return f"New credentials for {self.kwargs['name']}"

    def namespaces(self, form: forms.Form) -> list[str]:
        return self.cluster.namespaces

    def save(self, form: RotateForm) -> HttpResponse:
        cluster = registration.credentials_rotate(cluster=self.cluster, credentials=form.credentials())
        audit(
            self.request.user, "cluster.credentials", cluster=cluster.name,
            version=cluster.credentials_version,
        )  # fmt: skip
        self.say(f"Cluster {cluster.name} is reached with its new credentials now.")
        return redirect("console:cluster", cluster.name)


class ClusterSettings(OfKubernetes):
    action = PlatformAction.MANAGE_ESTATE
    reason = "change how Berth works on a cluster"
    form_class = SettingsForm
    title = "Settings"
    lede = "What runs there is brought in line with them; images and engine settings of revisions stay."
    submit_label = "Save settings"

    def heading(self) -> str:
        return f"Settings of {self.kwargs['name']}"

    def initial(self) -> dict[str, Any]:
        cluster = self.cluster
        return {name: getattr(cluster, name) for name in SettingsForm.base_fields}

    def save(self, form: SettingsForm) -> HttpResponse:
        cluster = registration.cluster_change(cluster=self.cluster, **form.cleaned_data)
        audit(
            self.request.user, "cluster.change", cluster=cluster.name,
            **{name: form.cleaned_data[name] for name in form.changed_data},
        )  # fmt: skip
        self.say(f"The settings of {cluster.name} are saved.")
        return redirect("console:cluster", cluster.name)


class ClusterCheck(ConsolePage):
    """Tries the credentials that are kept, and shows what was found."""

    action = PlatformAction.MANAGE_ESTATE
    reason = "check the connection to a cluster"
    http_method_names = ["post"]

    def post(self, request: HttpRequest, name: str) -> HttpResponse:
        cluster = find_cluster(name)
        if cluster.driver != Cluster.DriverKind.KUBERNETES or not cluster.credentials:
            raise NotFound("There are no credentials to try.")
        report = registration.connection_check(
            credentials=registration.credentials_of(cluster), namespaces=cluster.namespaces
        )
        if request.htmx:
            return self.render("console/report.html", {"report": report})
        url = reverse("console:cluster", args=[name])
        context = {
            "breadcrumbs": [clusters_crumb(), {"label": name, "url": url}, {"label": "Connection"}],
            "cluster": cluster,
            "report": report,
            "back_url": url,
        }
        return self.render("console/cluster_check.html", context)


class ClusterRemove(ConsolePage):
    """Asks for the name, then forgets the cluster."""

    action = PlatformAction.MANAGE_ESTATE
    reason = "deregister a cluster"

    def get(self, request: HttpRequest, name: str) -> HttpResponse:
        return self._ask(find_cluster(name))

    def post(self, request: HttpRequest, name: str) -> HttpResponse:
        cluster = find_cluster(name)
        typed = request.POST.get("confirm", "").strip()
        if typed != cluster.name:
            return self._ask(cluster, typed=typed, error="This is not the name of the cluster.", status=422)
        registration.cluster_remove(cluster=cluster)
        audit(request.user, "cluster.remove", cluster=name)
        self.say(f"Cluster {name} is deregistered.")
        return redirect("console:clusters")

    def _ask(self, cluster: Cluster, *, typed: str = "", error: str = "", status: int = 200) -> HttpResponse:
        url = reverse("console:cluster", args=[cluster.name])
        here = find_endpoints_on(cluster)
        gateways = list(Gateway.objects.filter(cluster=cluster))
        context = {
            "breadcrumbs": [
                clusters_crumb(),
                {"label": cluster.name, "url": url},
                {"label": "Deregister"},
            ],
            "cluster": cluster,
            "endpoints": here,
            "gateways": gateways,
            "blocked": bool(here or gateways),
            "consequences": [
                "Its pools, nodes and credentials are forgotten here; nothing is changed in the cluster itself.",
                "What deploy/cluster/ made there stays; its admin takes it away with kubectl delete.",
                "Cost of endpoints that ran there stays on the statements.",
            ],
            "typed": typed,
            "error": error,
            "cancel_url": url,
        }
        return self.render("console/cluster_remove.html", context, status=status)
