"""Query parameters, read strictly: a misspelt filter must not list everything."""

from __future__ import annotations

import django_filters
from django import forms
from django_filters.rest_framework import DjangoFilterBackend

from tenants.errors import Invalid

PAGING = ("cursor", "page_size")


class _TrueOrFalseField(forms.Field):
    def to_python(self, value: str | None) -> bool | None:
        if not value:
            return None
        if value.lower() not in ("true", "false"):
            raise forms.ValidationError("Say true or false.")
        return value.lower() == "true"


class TrueOrFalseFilter(django_filters.BooleanFilter):
    """Refuses what is neither; django-filter's own filters by nothing then."""

    field_class = _TrueOrFalseField


class StrictFilterBackend(DjangoFilterBackend):
    """Refuses parameters that the list does not know."""

    def filter_queryset(self, request, queryset, view):
        filterset = self.get_filterset_class(view, queryset)
        known = [*(filterset.base_filters if filterset else ()), *PAGING]
        refuse_unknown_parameters(request, known)
        return super().filter_queryset(request, queryset, view)


def refuse_unknown_parameters(request, known: list[str]) -> None:
    """Check the query string's names.

    Raises:
        Invalid: there is one that is not ``known``.
    """
    unknown = sorted(set(request.query_params) - set(known))
    if unknown:
        names = ", ".join(known) or "none"
        raise Invalid(
            f"There is no parameter {unknown[0]!r} here; known are {names}.",
            errors={
                name: [f"There is no such parameter here. Known parameters: {names}."] for name in unknown
            },
        )
