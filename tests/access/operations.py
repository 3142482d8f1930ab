"""What there is to ask for: operations from the API's own description, pages from the list of addresses."""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Iterator, Mapping
from typing import Any

from django.urls import URLPattern, URLResolver, get_resolver
from drf_spectacular.generators import SchemaGenerator

from tests.access.world import MISSING

API = "/api/v1/"
_PARAMETER = re.compile(r"\{(\w+)\}")


@dataclasses.dataclass(frozen=True)
class Operation:
    """One method of one path; ``parameters`` are those of the path: name -> the kind of object that it names."""

    method: str
    path: str
    parameters: Mapping[str, str]
    details: Mapping[str, Any] = dataclasses.field(repr=False, compare=False, hash=False)

    @property
    def name(self) -> str:
        return f"{self.method} {self.path}"

    @property
    def writes(self) -> bool:
        return self.method != "GET"

    def url(self, ids: Mapping[str, str]) -> str:
        """Give its address for objects of these ids, by kind."""
        return API + _PARAMETER.sub(lambda found: ids[self.parameters[found[1]]], self.path)

    def missing(self, ids: Mapping[str, str], *names: str) -> str:
        """Give its address for objects that do not exist: all parameters, or only those of these names."""
        return self.url(
            {
                kind: missing_for(ids[kind]) if not names or name in names else ids[kind]
                for name, kind in self.parameters.items()
            }
        )


def missing_for(value: str) -> str:
    """Give a value of the same form as ``value`` that nothing has."""
    if re.fullmatch(r"[0-9a-f-]{36}", value):
        return MISSING["uuid"]
    if "@" in value:
        return MISSING["email"]
    return MISSING["number"] if value.isdigit() else MISSING["name"]


def kinds_of(path: str) -> dict[str, str]:
    """Name for every parameter of ``path`` the kind of object: what stands before it, without other parameters."""
    kinds = {}
    for found in _PARAMETER.finditer(path):
        before = _PARAMETER.sub("", path[: found.start()])
        kinds[found[1]] = "/".join(part for part in re.split(r"[/:]", before) if part)
    return kinds


@functools.cache
def schema() -> dict[str, Any]:
    return SchemaGenerator().get_schema(request=None, public=True)


@functools.cache
def operations() -> tuple[Operation, ...]:
    """Give every operation of the API."""
    found = []
    for path, methods in schema()["paths"].items():
        short = path.removeprefix(API)
        for method, details in methods.items():
            found.append(Operation(method.upper(), short, kinds_of(short), details))
    return tuple(found)


#: Parameters of pages that name what they are themselves.
_BY_THEIR_NAME = {"month", "kind", "digest"}
#: Pages that only clusters driven by Kubernetes have.
_OF_KUBERNETES = {"console:cluster-check", "console:cluster-rotate", "console:cluster-settings"}


@dataclasses.dataclass(frozen=True)
class Page:
    """One address of a page; ``parameters`` as of an :class:`Operation`."""

    name: str
    path: str
    parameters: Mapping[str, str]

    @property
    def door(self) -> str:
        """Say where it belongs: tenant, console or elsewhere."""
        return self.name.partition(":")[0] if ":" in self.name else "elsewhere"

    def url(self, ids: Mapping[str, str], *missing: str) -> str:
        """Give its address for objects of these ids, but for parameters that shall name what does not exist."""

        def value(found: re.Match[str]) -> str:
            known = ids[self.parameters[found[1]]]
            return missing_for(known) if found[1] in missing else known

        return "/" + _PARAMETER.sub(value, self.path)


def _patterns(resolver: URLResolver, before: str = "", space: str = "") -> Iterator[tuple[str, str]]:
    for each in resolver.url_patterns:
        if isinstance(each, URLPattern):
            yield f"{space}{each.name or ''}", before + str(each.pattern)
        else:
            inner = f"{space}{each.namespace}:" if each.namespace else space
            yield from _patterns(each, before + str(each.pattern), inner)


def _page(name: str, route: str) -> Page:
    path = re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", route)
    kinds = {
        parameter: parameter if parameter in _BY_THEIR_NAME else re.sub("^(?:t|console)/", "", kind)
        for parameter, kind in kinds_of(path).items()
    }
    if name in _OF_KUBERNETES:
        kinds["name"] = "kubernetes"
    return Page(name or path, path, kinds)


@functools.cache
def pages() -> tuple[Page, ...]:
    """Give every address but those of the API, which its description lists, of signing in, and of the Django admin."""
    return tuple(
        _page(name, route)
        for name, route in _patterns(get_resolver())
        if not route.startswith(("api/v1/", "accounts/", "admin/", "^"))
    )


@functools.cache
def account_pages() -> tuple[str, ...]:
    """Give every address of signing in and of one's own account, with values that nothing has."""
    return tuple(
        "/" + re.sub(r"<int:[^>]+>", "1", re.sub(r"<[a-z]+>|<(?!int)[^>]+>", "none", route))
        for _, route in _patterns(get_resolver())
        if route.startswith("accounts/") and "^" not in route
    )


@functools.cache
def admin_pages() -> tuple[str, ...]:
    """Give every address of the Django admin, with an id that nothing has where one is needed."""
    return tuple(
        "/" + re.sub(r"<[^>]+>", MISSING["uuid"], route)
        for _, route in _patterns(get_resolver())
        if route.startswith("admin/") and not route.startswith("admin/(?P")
    )
