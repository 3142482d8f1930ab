"""What usage and cost may be told apart by, and narrowed to."""

from __future__ import annotations

import dataclasses
import enum
import uuid
from collections.abc import Collection, Iterable
from typing import Any

from django.db.models import QuerySet

from billing.models import EndpointLabel, SharedPeriod
from billing.sharing import shared_names
from tenants import narrowing
from tenants.errors import NotFound
from tenants.models import ApiKey, Project


class Dimension(enum.StrEnum):
    """By the names of OpenAI's usage API where that has one; the values are those of the REST API."""

    PROJECT = "project_id"
    ENDPOINT = "endpoint_id"
    KEY = "api_key_id"
    MODEL = "model"
    SLO_CLASS = "slo_class"
    ROUTE = "route_id"
    REGION = "region"

    @property
    def column(self) -> str:
        """Its column in the rollups."""
        return "key_id" if self is Dimension.KEY else self.value

    @property
    def filter(self) -> str:
        """What a filter on it is called."""
        return f"{self.value}es" if self is Dimension.SLO_CLASS else f"{self.value}s"

    @property
    def is_id(self) -> bool:
        """Whether its values are ids."""
        return self.value.endswith("_id")


#: GPU time has no key and no route: it is split over them by what they used.
SPLIT = (Dimension.KEY, Dimension.ROUTE)

Group = tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Narrow:
    """Only these values of some dimensions; a dimension that is not named is whole."""

    to: tuple[tuple[Dimension, tuple[str, ...]], ...] = ()

    @classmethod
    def of(cls, wanted: dict[Dimension, Collection[Any]]) -> Narrow:
        """Narrow to the values of each dimension that has any."""
        return cls(tuple((each, tuple(map(str, values))) for each, values in wanted.items() if values))

    @property
    def dimensions(self) -> set[Dimension]:
        """What is narrowed."""
        return {dimension for dimension, _ in self.to}

    def where(self) -> tuple[str, dict[str, Any]]:
        """Give the condition on rollups, beginning with AND, and its parameters."""
        texts, parameters = [], {}
        for dimension, values in self.to:
            kind = "uuid[]" if dimension.is_id else "text[]"
            texts.append(f" AND {dimension.column} = ANY(%(only_{dimension.column})s::{kind})")
            parameters[f"only_{dimension.column}"] = list(values)
        return "".join(texts), parameters

    def values(self, dimension: Dimension) -> tuple[str, ...] | None:
        """Give to what a dimension is narrowed, None where it is whole."""
        return dict(self.to).get(dimension)


def narrow_to(wanted: dict[Dimension, Collection[Any]]) -> Narrow:
    """Narrow to values that the open tenant has, and to the projects that whoever asks may see.

    Raises:
        NotFound: it has no such project, endpoint or key; another tenant's reads like none.
    """
    for dimension, what, known in (
        (Dimension.PROJECT, "project", lambda ids: _seen(Project.objects.filter(id__in=ids), "id")),
        (Dimension.KEY, "key", lambda ids: _seen(ApiKey.objects.filter(id__in=ids), "project")),
        (Dimension.ENDPOINT, "endpoint", _known_endpoints),
    ):  # fmt: skip
        asked = {uuid.UUID(str(value)) for value in wanted.get(dimension, ())}
        missing = asked - set(known(asked)) if asked else set()
        if missing:
            raise NotFound(f"There is no {what} {min(map(str, missing))}.")
    seen = narrowing.projects()
    if seen is not None and not seen:
        raise NotFound("There is no project that may be seen.")
    if seen is not None and not wanted.get(Dimension.PROJECT):
        wanted = {**wanted, Dimension.PROJECT: sorted(seen)}
    return Narrow.of(wanted)


def _seen(rows: QuerySet, field: str) -> QuerySet:
    return narrowing.within(rows, field).values_list("id", flat=True)


def _known_endpoints(ids: Collection[uuid.UUID]) -> set[uuid.UUID]:
    mine = set(EndpointLabel.objects.filter(endpoint_id__in=ids).values_list("endpoint_id", flat=True))
    return mine | set(shared_names(ids))


class Names:
    """What groups of the open tenant are called, read once and only those asked for."""

    def __init__(self) -> None:
        self._called: dict[tuple[Dimension, str], str] = {}
        self._projects = dict(Project.objects.values_list("id", "name"))
        self.labels = {label.endpoint_id: label for label in EndpointLabel.objects.all()}
        self._keys: dict[str, str] | None = None
        self._shared: dict[uuid.UUID, EndpointLabel] = {}
        self._routes: dict[str, str] = {}

    def label(self, endpoint_id: uuid.UUID | None) -> EndpointLabel:
        """Give the endpoint's label, or one that shows its id where none was written.

        Another tenant's endpoint, sold by the token, has the name that it is sold under.
        """
        if endpoint_id in self.labels:
            return self.labels[endpoint_id]
        if endpoint_id is None:
            return EndpointLabel(name="(no endpoint)")
        if endpoint_id not in self._shared:
            self.read_shared([endpoint_id])
        return self._shared.setdefault(endpoint_id, EndpointLabel(name=str(endpoint_id)))

    def projects(self) -> list[tuple[str, str]]:
        """Give the ids and names of all projects, by name."""
        return sorted(((str(id), name) for id, name in self._projects.items()), key=lambda each: each[1])

    def project(self, project_id: uuid.UUID) -> str:
        return self._projects.get(project_id, str(project_id))

    def endpoint(self, endpoint_id: uuid.UUID | None) -> str:
        return self.label(endpoint_id).name

    def read_shared(self, endpoint_ids: Iterable[uuid.UUID]) -> None:
        """Read the names of other tenants' endpoints at once."""
        unknown = {each for each in endpoint_ids if each} - set(self.labels)
        for period in SharedPeriod.objects.filter(endpoint_id__in=unknown).order_by("started_at"):
            self._shared[period.endpoint_id] = EndpointLabel(
                name=period.name, model=period.model, slo_class=period.slo_class
            )

    def of(self, dimension: Dimension, value: str) -> str:
        """Give what a value of a dimension is called; an empty one says what it stands for."""
        found = self._called.get((dimension, value))
        if found is None:
            found = self._called[dimension, value] = self._of(dimension, value)
        return found

    def _of(self, dimension: Dimension, value: str) -> str:
        if not value:
            return _EMPTY.get(dimension, "(none)")
        if dimension is Dimension.PROJECT:
            return self.project(uuid.UUID(value))
        if dimension is Dimension.ENDPOINT:
            return self.endpoint(uuid.UUID(value))
        if dimension is Dimension.KEY:
            if self._keys is None:
                self._keys = {str(key.id): str(key) for key in ApiKey.objects.all()}
            return self._keys.get(value, value)
        return self._routes.get(value, value) if dimension is Dimension.ROUTE else value

    def name_routes(self, routes: dict[str, str]) -> None:
        """Tell what routes are called, which this room does not know."""
        self._routes = routes


_EMPTY = {
    Dimension.ENDPOINT: "(no endpoint)",
    Dimension.KEY: "(no key: idle)",
    Dimension.ROUTE: "(no route)",
}
