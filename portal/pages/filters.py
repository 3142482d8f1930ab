"""Filters of a page whose address says everything: selects that are sent by GET, chips that take one back."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

_SPAN: tuple[str, ...] = ("range", "from", "to", "bucket")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Filter:
    """One select. ``choices`` are values with labels; ``everything`` is what it says while it narrows nothing.

    A filter with no ``everything`` is a setting (such as group by): always chosen, never a chip.
    """

    name: str
    label: str
    choices: Sequence[tuple[str, str]]
    value: str = ""
    everything: str = ""

    @property
    def chosen(self) -> str:
        """The label of what is chosen."""
        return dict(self.choices).get(self.value, self.value)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Address:
    """A page's path with what it asks for, from which addresses of its neighbours are made."""

    path: str
    asked: Mapping[str, str]

    def link(self, path: str = "", **changes: str) -> str:
        """Give the address with these parameters changed; an empty one is left out."""
        return self._to(path or self.path, {**self.asked, **changes})

    def over(self, **span: str) -> str:
        """Give the address with these parameters of time in place of all that it has."""
        return self._to(self.path, {**{k: v for k, v in self.asked.items() if k not in _SPAN}, **span})

    @staticmethod
    def _to(path: str, asked: Mapping[str, str]) -> str:
        kept = {name: value for name, value in asked.items() if value}
        return f"{path}?{urlencode(kept)}" if kept else path


def filter_bar(filters: Iterable[Filter], address: Address) -> dict[str, Any]:
    """Give what ``components/filter_bar.html`` takes: selects, the rest of the address, and chips."""
    filters = list(filters)
    names = {each.name for each in filters}
    narrowing = [each for each in filters if each.everything and each.value]
    return {
        "action": address.path,
        "filters": [each for each in filters if len(each.choices) > 1 or each.value],
        "hidden": [
            {"name": name, "value": value}
            for name, value in address.asked.items()
            if name not in names and value
        ],
        "chips": [
            {"label": each.label, "value": each.chosen, "url": address.link(**{each.name: ""})}
            for each in narrowing
        ],
        "clear_filters_url": address.link(**{each.name: "" for each in narrowing}),
        "clear_url": address.link(**{each.name: "" for each in narrowing}) if len(narrowing) > 1 else "",
    }


def picked(value: str, choices: Sequence[tuple[str, str]], what: str) -> tuple[str, str]:
    """Give the value if it is one of ``choices``, else nothing, and what is wrong with it."""
    if not value or value in dict(choices):
        return value, ""
    return "", f"There is no such {what}: it is left out."
