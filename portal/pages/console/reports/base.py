"""What the report pages share: the range control, filters, groups, tables and their downloads."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

from django.http import HttpRequest, HttpResponse
from django.utils import timezone

from billing.buckets import Width
from billing.models import EndpointLabel
from billing.reports.asking import Asked, Dimension, ask, narrowed_by
from billing.reports.documents import table
from clusters.inventory import remit
from clusters.models import CatalogModel, GpuType, SloClass
from portal.charts import TimeAxis, axis_of
from portal.pages.base import ConsolePage
from portal.pages.csv_files import csv_download, csv_text
from portal.pages.filters import Address, Filter, filter_bar
from portal.pages.ranges import Span, range_control, span_of
from tenants.errors import Invalid
from tenants.models import Project

#: What a page may be narrowed by, with what the select says while it narrows nothing.
FILTERS: Mapping[str, tuple[str, str]] = {
    "cluster": ("Cluster", "All clusters"),
    "pool": ("Pool", "All pools"),
    "gpu_type": ("GPU type", "All GPU types"),
    "tenant": ("Tenant", "All tenants"),
    "project": ("Project", "All projects"),
    "endpoint": ("Endpoint", "All endpoints"),
    "model": ("Model", "All models"),
    "slo_class": ("SLO class", "All classes"),
}


class ReportPage(ConsolePage):
    """A report: ``template`` shows it, ``name`` heads its downloads, ``groups`` are what may be told apart.

    ``?csv=PART`` gives the rows of :meth:`tables` as CSV instead of the page.
    """

    template: ClassVar[str]
    name: ClassVar[str]
    groups: ClassVar[Mapping[str, tuple[Dimension, ...]]] = {}
    filters: ClassVar[tuple[str, ...]] = ()

    def get(self, request: HttpRequest) -> HttpResponse:
        self._complaints: list[str] = []
        self.now = timezone.now()
        self.span = span_of(request.GET, self.now)
        self.group = self._group()
        self.given = self._given()
        self.asked = self._asked()
        self.span = dataclasses.replace(self.span, width=self.asked.width)
        part = request.GET.get("csv", "")
        if part:
            rows = self.tables()
            if part in rows:
                return csv_download(
                    f"{self.name}-{part}-{self.span.file_name}.csv", csv_text(*table(rows[part]))
                )
            self._complaints.append(f"There is no table called {part[:40]!r} on this page.")
        address = self.address
        context = {
            "range": range_control(self._told_span(), address.over),
            "range_action": address.path,
            "hidden": [
                {"name": name, "value": value}
                for name, value in address.asked.items()
                if value and name not in ("range", "from", "to", "bucket")
            ],
            "bar": filter_bar(self._bar(), address),
            "group": self.group,
            "asked": self.asked,
            **self.content(),
        }
        return self.render(self.template, context)

    def tables(self) -> dict[str, Iterable[Any]]:
        """Give the rows that can be downloaded, by the name of the part."""
        raise NotImplementedError

    def content(self) -> dict[str, Any]:
        """Give what the template shows besides the controls."""
        raise NotImplementedError

    @property
    def address(self) -> Address:
        """Give the page's address with all that it asks for."""
        asked = {**self.span.query, **self.given}
        if len(self.groups) > 1 and self.group != next(iter(self.groups)):
            asked["by"] = self.group
        if self.span.key != "custom" and not self.request.GET.get("bucket"):
            asked.pop("bucket", None)
        return Address(path=self.request.path, asked=asked)

    def csv_url(self, part: str) -> str:
        """Give the address of a part's download."""
        return self.address.link(csv=part)

    @property
    def axis(self) -> TimeAxis:
        """Give the axis of the buckets."""
        return axis_of(self.asked.buckets, self.asked.width)

    def _group(self) -> str:
        by = self.request.GET.get("by", "")
        if by and by not in self.groups:
            self._complaints.append(f"Nothing can be told apart by {by[:40]!r} here.")
        return by if by in self.groups else next(iter(self.groups), "")

    def _given(self) -> dict[str, str]:
        given = {name: self.request.GET.get(name, "").strip() for name in self.filters}
        try:
            narrowed_by(given, tenants=remit.tenants())
        except Invalid as error:
            self._complaints.append(error.message)
            for name in error.errors:
                given[name] = ""
        return given

    def _asked(self) -> Asked:
        facts: dict[str, Any] = {
            "start": self.span.start,
            "end": self.span.end,
            "group_by": self.groups.get(self.group, ()),
            "narrowed": narrowed_by(self.given, tenants=remit.tenants()),
            "within": remit.names(),
        }
        chosen = self.request.GET.get("bucket", "") in list(Width)
        try:
            return ask(**facts, width=self.span.width)
        except Invalid as error:
            if chosen:
                self._complaints.append(error.message)
            return ask(**facts)

    def _told_span(self) -> Span:
        told = [self.span.problem, *self._complaints]
        return dataclasses.replace(self.span, problem=" ".join(filter(None, told)))

    def _bar(self) -> list[Filter]:
        bar = []
        if len(self.groups) > 1:
            choices = [(name, _label(dimensions)) for name, dimensions in self.groups.items()]
            bar.append(Filter(name="by", label="Group by", choices=choices, value=self.group))
        for name in self.filters:
            label, everything = FILTERS[name]
            value = self.given[name]
            choices = list(self._choices(name))
            if value and value not in dict(choices):
                choices.append((value, value))
            bar.append(Filter(name=name, label=label, choices=choices, value=value, everything=everything))
        return bar

    def _choices(self, name: str) -> Iterable[tuple[str, str]]:
        if name == "tenant":
            return remit.tenants().order_by("name").values_list("slug", "name")
        if name in ("project", "endpoint"):
            return self._of_tenant(name)
        rows = {
            "cluster": remit.clusters(ever=True).order_by("name").values_list("name", "name"),
            "pool": remit.pools().order_by("name").values_list("name", "name").distinct(),
            "gpu_type": GpuType.objects.filter(pools__isnull=False)
            .order_by("title")
            .values_list("name", "title"),
            "model": CatalogModel.objects.order_by("name").values_list("name", "name"),
            "slo_class": SloClass.objects.order_by("priority").values_list("name", "title"),
        }
        return dict(rows[name]).items()

    def _of_tenant(self, name: str) -> list[tuple[str, str]]:
        """Give a tenant's projects or endpoints; of all tenants they would be too many to choose from."""
        slug = self.given.get("tenant")
        if not slug:
            return []
        projects, endpoints = Project.objects.all(), EndpointLabel.objects.all()
        if remit.is_narrowed():
            projects = projects.filter(endpoints__revisions__in=remit.revisions()).distinct()
            endpoints = endpoints.filter(endpoint_id__in=remit.revisions().values("endpoint"))
        if name == "project":
            found = projects.filter(tenant__slug=slug).order_by("name").values_list("id", "name")
        else:
            found = endpoints.filter(tenant__slug=slug).order_by("name").values_list("endpoint_id", "name")
        return [(str(each), label) for each, label in found]


def _label(dimensions: Sequence[Dimension]) -> str:
    return " and ".join(
        each.label if number == 0 or each in (Dimension.GPU_TYPE, Dimension.SLO_CLASS) else each.label.lower()
        for number, each in enumerate(dimensions)
    )
