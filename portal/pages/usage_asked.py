"""What the usage page is asked for, all of it in the address: span, group, basis and filters."""

from __future__ import annotations

import dataclasses
import datetime as dt
import uuid
from collections.abc import Mapping
from typing import Final

from billing.costs import Dimension, Names, Narrow
from billing.models import EndpointLabel
from clusters.models import NamedRoute, SloClass
from portal.pages.filters import Address, Filter, picked
from portal.pages.ranges import Span, span_of
from tenants.models import ApiKey, Tenant

#: What can be chosen to group by, and what one of them is called.
GROUPS: Final = {
    Dimension.ENDPOINT: "Endpoint",
    Dimension.PROJECT: "Project",
    Dimension.KEY: "Key",
    Dimension.MODEL: "Model",
    Dimension.SLO_CLASS: "Class",
    Dimension.ROUTE: "Route",
    Dimension.REGION: "Region",
}
_EVERYTHING: Final = {
    Dimension.PROJECT: "All projects",
    Dimension.ENDPOINT: "All endpoints",
    Dimension.KEY: "All keys",
    Dimension.MODEL: "All models",
    Dimension.SLO_CLASS: "All classes",
}
#: Of longer spans, latencies are shown when they are asked for: their histograms take long to add up.
_LATENCY_SHOWN: Final = dt.timedelta(days=100)

#: On which basis the charts of cost are drawn.
BASES: Final = {
    "charged": "What is charged",
    "allocation": "GPU time held",
    "usage": "Tokens at the price list",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Asked:
    """A question, made good where it was wrong: ``problems`` say what was."""

    span: Span
    group: Dimension
    basis: str
    narrow: Narrow
    filters: tuple[Filter, ...]
    address: Address
    csv_path: str
    names: Names
    problems: tuple[str, ...]
    latency: bool

    @property
    def group_label(self) -> str:
        """What one group is called."""
        return GROUPS[self.group]

    @property
    def endpoint_ids(self) -> list[uuid.UUID] | None:
        """The endpoints that the filters on project, endpoint, model and class leave; None: all."""
        labelled = (Dimension.PROJECT, Dimension.ENDPOINT, Dimension.MODEL, Dimension.SLO_CLASS)
        narrowed = {each: values for each in labelled if (values := self.narrow.values(each)) is not None}
        if not narrowed:
            return None
        if set(narrowed) == {Dimension.ENDPOINT}:
            return [uuid.UUID(value) for value in narrowed[Dimension.ENDPOINT]]
        return [
            id
            for id, label in self.names.labels.items()
            if all(str(_of(label, each)) in values for each, values in narrowed.items())
        ]

    def csv_url(self, chart: str) -> str:
        """Give the address of what is behind a chart, as CSV."""
        return self.address.link(self.csv_path, chart=chart)


def asked(
    query: Mapping[str, str],
    *,
    path: str,
    csv_path: str,
    tenant: Tenant,
    now: dt.datetime,
    fixed: Mapping[Dimension, str] | None = None,
) -> Asked:
    """Read a question from an address. ``fixed`` dimensions are narrowed to that and offer no choice."""
    fixed = fixed or {}
    names = Names()
    names.name_routes({str(id): name for id, name in NamedRoute.objects.values_list("id", "name")})
    span = span_of(query, now, tenant.time_zone)
    groups = {each: label for each, label in GROUPS.items() if each not in fixed}
    choices = [(each.value, label) for each, label in groups.items()]
    group, group_problem = picked(query.get("group", ""), choices, "group")
    basis, basis_problem = picked(query.get("basis", ""), list(BASES.items()), "basis")
    group = Dimension(group) if group else next(iter(groups)) if not fixed else Dimension.KEY
    wanted = {dimension: [value] for dimension, value in fixed.items()}
    filters, problems = [], [span.problem, group_problem, basis_problem]
    for dimension, offered in _choices(names).items():
        if dimension in fixed:
            continue
        value, problem = picked(query.get(dimension.value, ""), offered, GROUPS[dimension].lower())
        problems.append(problem)
        if value:
            wanted[dimension] = [value]
        filters.append(
            Filter(
                name=dimension.value, label=GROUPS[dimension], choices=offered, value=value,
                everything=_EVERYTHING[dimension],
            )
        )  # fmt: skip
    settings = (
        Filter(name="group", label="Group by", choices=choices, value=group.value),
        Filter(name="basis", label="Cost is", choices=list(BASES.items()), value=basis or "charged"),
    )
    known = {
        **span.query,
        **{each.name: each.value for each in filters},
        "group": query.get("group", "") and group.value,
        "basis": query.get("basis", "") and basis,
        "latency": "yes" if query.get("latency") == "yes" else "",
    }
    return Asked(
        span=span,
        group=group,
        basis=basis or "charged",
        narrow=Narrow.of(wanted),
        filters=(*filters, *settings),
        address=Address(path=path, asked=known),
        csv_path=csv_path,
        names=names,
        problems=tuple(filter(None, problems[1:])),
        latency=span.end - span.start <= _LATENCY_SHOWN or query.get("latency") == "yes",
    )


def _of(label: EndpointLabel, dimension: Dimension) -> object:
    return getattr(label, {Dimension.ENDPOINT: "endpoint_id"}.get(dimension, dimension.value))


def _choices(names: Names) -> dict[Dimension, list[tuple[str, str]]]:
    labels = names.labels.values()
    classes = dict(SloClass.objects.values_list("name", "title"))
    keys = ApiKey.objects.filter(scope="inference", ephemeral=False).order_by("name", "id")
    return {
        Dimension.PROJECT: names.projects(),
        Dimension.ENDPOINT: sorted(
            ((str(id), label.name) for id, label in names.labels.items()), key=lambda each: each[1]
        ),
        Dimension.KEY: [(str(key.id), str(key)) for key in keys],
        Dimension.MODEL: [(name, name) for name in sorted({label.model for label in labels} - {""})],
        Dimension.SLO_CLASS: [
            (name, classes.get(name, name)) for name in sorted({label.slo_class for label in labels} - {""})
        ],
    }
