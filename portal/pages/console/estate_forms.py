"""Forms of the estate: register regions and clusters, add and change node pools, cordon and uncordon."""

from __future__ import annotations

from typing import Any

from django import forms
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse

from clusters.inventory import services
from clusters.inventory.catalog import RUNTIMES
from clusters.models import Cluster, GpuType, NodePool, Region
from portal.pages.base import ConsolePage
from portal.pages.console.clusters import clusters_crumb, find_cluster
from portal.pages.console.forms import ConsoleForm, FormPage, WordsField
from tenants.audit import audit
from tenants.errors import NotFound
from tenants.roles import PlatformAction


class RegionForm(ConsoleForm):
    code = forms.CharField(
        max_length=40, help_text="Short and lasting, for instance eu-de-1. Orders name it."
    )
    name = forms.CharField(max_length=120, help_text="What people call the place, for instance Frankfurt.")
    country = forms.CharField(min_length=2, max_length=2, help_text="Two letters, for instance DE.")
    zones = WordsField(help_text="Residency zones it belongs to, apart by commas: EU, EEA, US.")
    certifications = WordsField(
        required=False, help_text="Held at this place, apart by commas: ISO27001, C5."
    )

    def clean_country(self) -> str:
        return self.cleaned_data["country"].upper()


class LocalClusterForm(ConsoleForm):
    name = forms.CharField(max_length=40, help_text="Lower-case letters, digits and hyphens.")
    region = forms.ModelChoiceField(Region.objects.all(), empty_label="Choose a region")
    runtimes = forms.MultipleChoiceField(
        choices=[(name, name) for name in RUNTIMES],
        widget=forms.CheckboxSelectMultiple,
        initial=["triton-python"],
        help_text="Engines that can run there.",
    )
    declared = forms.BooleanField(
        required=False, initial=True, label="Its GPUs are declared by hand, not read from hardware"
    )


class PoolForm(ConsoleForm):
    name = forms.CharField(max_length=40)
    gpu_type = forms.ModelChoiceField(
        GpuType.objects.all(), label="GPU type", empty_label="Choose a GPU type"
    )
    nodes = forms.IntegerField(min_value=1, max_value=100_000)
    gpus_per_node = forms.IntegerField(min_value=1, max_value=64, label="GPUs per node")
    reserve = forms.IntegerField(
        min_value=0, initial=0, label="Reserve", help_text="GPUs you keep back from orders."
    )


class KubernetesPoolForm(PoolForm):
    selector = forms.CharField(
        label="Labels of its nodes", widget=forms.Textarea(attrs={"rows": 3, "class": "mono"}),
        help_text="One key=value a line: engines go onto nodes that carry all of them, "
        "for instance nvidia.com/gpu.product=NVIDIA-H100-80GB-HBM3.",
    )  # fmt: skip
    resource = forms.CharField(
        max_length=80, initial="nvidia.com/gpu", help_text="What pods ask for; of MIG, its profile."
    )
    driver_version = forms.CharField(
        max_length=40, required=False, label="NVIDIA driver", help_text="The oldest among its nodes."
    )

    def clean_selector(self) -> dict[str, str]:
        found: dict[str, str] = {}
        for line in self.cleaned_data["selector"].splitlines():
            key, equals, value = line.strip().partition("=")
            if not line.strip():
                continue
            if not equals:
                raise forms.ValidationError(f"{line.strip()} is not key=value.")
            found[key.strip()] = value.strip()
        return found


class ReserveForm(ConsoleForm):
    reserve = forms.IntegerField(min_value=0, help_text="GPUs you keep back from orders.")
    higher_share = forms.IntegerField(
        min_value=0, max_value=100, label="Kept for higher classes (%)",
        help_text="Endpoints of lower classes that follow their load leave this share free of what endpoints of higher "
        "ones may still grow to here.",
    )  # fmt: skip


class PoolChangeForm(ReserveForm):
    nodes = forms.IntegerField(min_value=1, max_value=100_000, help_text="Nodes in use cannot be taken away.")

    field_order = ("nodes", "reserve", "higher_share")


class CordonForm(ConsoleForm):
    reason = forms.CharField(
        max_length=300, help_text="Other operators read it, for instance: driver update until 18:00."
    )


class RegionRegister(FormPage):
    action = PlatformAction.MANAGE_FLEET
    reason = "register a region"
    form_class = RegionForm
    title = "Register a region"
    lede = "A place where clusters stand. Its zones and certifications decide which orders may run there."
    submit_label = "Register region"

    def crumbs(self) -> list[dict[str, str]]:
        return [clusters_crumb()]

    def save(self, form: RegionForm) -> HttpResponse:
        region = services.region_register(**form.cleaned_data)
        audit(self.request.user, "region.register", **form.cleaned_data)
        self.say(f"Region {region.code} is registered.")
        return redirect("console:clusters")


class LocalClusterRegister(FormPage):
    action = PlatformAction.MANAGE_FLEET
    reason = "register a cluster of processes on this machine"
    form_class = LocalClusterForm
    title = "Register this machine"
    lede = "Engines run as processes where Berth runs. Add its node pools after this."
    submit_label = "Register cluster"

    def crumbs(self) -> list[dict[str, str]]:
        return [clusters_crumb()]

    def more_context(self) -> dict[str, Any]:
        if Region.objects.exists():
            return {}
        return {
            "alert": {
                "tone": "info",
                "title": "There is no region yet",
                "text": "A cluster stands in a region.",
                "url": reverse("console:region-register"),
                "label": "Register a region first",
            }
        }

    def save(self, form: LocalClusterForm) -> HttpResponse:
        cluster = services.cluster_register(**form.cleaned_data, driver=Cluster.DriverKind.LOCAL.value)
        audit(
            self.request.user, "cluster.register", cluster=cluster.name, region=cluster.region.code,
            driver=cluster.driver, declared=cluster.declared,
        )  # fmt: skip
        self.say(f"Cluster {cluster.name} is registered. Add its node pools now.")
        return redirect("console:pool-add", cluster.name)


class _OfCluster(FormPage):
    """A form about the cluster that the path names."""

    action = PlatformAction.MANAGE_ESTATE

    @property
    def cluster(self) -> Cluster:
        return find_cluster(self.kwargs["name"])

    def crumbs(self) -> list[dict[str, str]]:
        name = self.kwargs["name"]
        return [clusters_crumb(), {"label": name, "url": reverse("console:cluster", args=[name])}]

    def show(self, form: forms.Form, *, status: int = 200) -> HttpResponse:
        find_cluster(self.kwargs["name"])
        return super().show(form, status=status)


class PoolAdd(_OfCluster):
    reason = "add a node pool"
    title = "Add a node pool"
    lede = "Nodes of one shape with GPUs of one type. Endpoints that wait for capacity take them at once."
    submit_label = "Add pool"

    @property
    def form_class(self) -> type[ConsoleForm]:
        kubernetes = self.cluster.driver == Cluster.DriverKind.KUBERNETES
        return KubernetesPoolForm if kubernetes else PoolForm

    def save(self, form: PoolForm) -> HttpResponse:
        pool = services.pool_add(cluster=self.cluster, **form.cleaned_data)
        audit(
            self.request.user, "pool.add", pool=str(pool), gpu_type=pool.gpu_type.name, nodes=pool.nodes,
            gpus_per_node=pool.gpus_per_node, reserve=pool.reserve,
        )  # fmt: skip
        self.say(f"Pool {pool.name} is added with {pool.total_gpus} GPUs.")
        return redirect("console:cluster", pool.cluster.name)


class PoolChange(_OfCluster):
    reason = "change a node pool"
    title = "Change pool"

    def heading(self) -> str:
        return f"Change pool {self.kwargs['pool']}"

    @property
    def pool(self) -> NodePool:
        pool = (
            NodePool.objects.select_related("cluster")
            .filter(cluster=self.cluster, name=self.kwargs["pool"])
            .first()
        )
        if pool is None:
            raise NotFound("There is no such pool.")
        return pool

    @property
    def form_class(self) -> type[ConsoleForm]:
        # The nodes of a discovered pool are the cluster's own.
        return ReserveForm if self.pool.discovered else PoolChangeForm

    def initial(self) -> dict[str, Any]:
        pool = self.pool
        return {"nodes": pool.nodes, "reserve": pool.reserve, "higher_share": pool.higher_share}

    def save(self, form: ConsoleForm) -> HttpResponse:
        pool = services.pool_change(pool=self.pool, **{"nodes": self.pool.nodes, **form.cleaned_data})
        audit(self.request.user, "pool.change", pool=str(pool), **form.cleaned_data)
        self.say(f"Pool {pool.name} has {pool.total_gpus} GPUs now, {pool.reserve} in reserve.")
        return redirect("console:cluster", self.kwargs["name"])


class ClusterCordon(_OfCluster):
    reason = "cordon a cluster"
    form_class = CordonForm
    title = "Cordon cluster"
    lede = "No new endpoints are placed there. What runs there goes on, and is billed as before."
    submit_label = "Cordon cluster"

    def heading(self) -> str:
        return f"Cordon {self.kwargs['name']}"

    def save(self, form: CordonForm) -> HttpResponse:
        cluster = services.cluster_cordon(cluster=self.cluster, reason=form.cleaned_data["reason"])
        audit(self.request.user, "cluster.cordon", cluster=cluster.name, reason=cluster.cordon_reason)
        self.say(f"Cluster {cluster.name} is cordoned.")
        return redirect("console:cluster", cluster.name)


class ClusterUncordon(ConsolePage):
    action = PlatformAction.MANAGE_ESTATE
    reason = "take a cluster back into use"
    http_method_names = ["post"]

    def post(self, request: HttpRequest, name: str) -> HttpResponse:
        cluster = services.cluster_uncordon(cluster=find_cluster(name))
        audit(request.user, "cluster.uncordon", cluster=cluster.name)
        again = "as soon as it answers" if cluster.state == Cluster.State.UNREACHABLE else "again"
        self.say(f"Cluster {cluster.name} takes new endpoints {again}.")
        return redirect("console:cluster", cluster.name)
