"""The profile part of the order form: a named profile fills the numbers, numbers of one's own leave it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from django.http import QueryDict

from clusters.endpoints.profiles import SHAPE, USUAL_PROFILE, named_profile, shape_of
from clusters.models import CatalogModel
from clusters.planning.profiles import NAMED
from portal.pages.offered import Offered
from portal.templatetags.berth import count, decimals

#: The numbers of a profile as they are typed; the shared prefix is typed in percent.
TYPED: Final = SHAPE

MOST_TOKENS: Final = 10_000_000
MOST_SPREAD: Final = 10


def follow_profile(data: QueryDict, models: Mapping[str, CatalogModel]) -> tuple[QueryDict, bool]:
    """Give the form's values with the numbers of the profile that was chosen, and whether any were filled in.

    ``profile_seen`` and ``model_seen`` say what the numbers are of so far. Another profile or, while the numbers
    are still the profile's, another model fills them anew. Other numbers than the profile's are one's own: then
    the form has none.
    """
    values = data.copy()
    model, seen = models.get(data.get("model", "")), models.get(data.get("model_seen", ""))
    profile = named_profile(data.get("profile", ""))
    filled = False
    if model is not None and profile is not None:
        own = dict(typed_of(profile.name, seen or model))
        untouched = profile.name == data.get("profile_seen") and _same(data, own)
        if data.get("profile_seen") != profile.name or (untouched and seen not in (None, model)):
            fresh = typed_of(profile.name, model)
            filled = any(data.get(name) != text for name, text in fresh.items())
            for name, text in fresh.items():
                values[name] = text
        elif not untouched:
            values["profile"] = ""
    values["profile_seen"] = values.get("profile", "")
    values["model_seen"] = data.get("model", "")
    return values, filled


def starting_values(offered: Offered, given: QueryDict) -> QueryDict:
    """Give the values of a fresh form: defaults, overridden by what a link to the form gives."""
    values = given.copy()
    model = offered.models.get(given.get("model", "")) or next(iter(offered.models.values()), None)
    slo_class = "standard" if "standard" in offered.classes else next(iter(offered.classes), "")
    # Numbers in a link are somebody's own, unless it names their profile.
    profile = USUAL_PROFILE if not any(name in given for name in TYPED) else ""
    defaults: dict[str, str] = {
        "model": model.name if model else "",
        "project": next(iter(offered.projects), ""),
        "slo_class": slo_class,
        "residency": "global",
        "profile": profile,
        "requests_per_second": "1",
    }
    for name, value in defaults.items():
        values.setdefault(name, value)
    if model is not None:
        numbers = typed_of(values["profile"], model) or typed_of(USUAL_PROFILE, model)
        for name, value in numbers.items():
            values.setdefault(name, value)
    values["profile_seen"], values["model_seen"] = values["profile"], values["model"]
    return follow_profile(values, offered.models)[0]


def typed_of(name: str, model: CatalogModel) -> dict[str, str]:
    """Give the numbers of a named profile for a model, as they are typed."""
    profile = named_profile(name)
    if profile is None:
        return {}
    numbers = shape_of(profile, model)
    numbers["prefix_share"] *= 100
    return {field: decimals(number, 4).replace(",", "") for field, number in numbers.items()}


def numbers_of(data: QueryDict) -> dict[str, Any] | None:
    """Read lengths and their spread as typed, None where they are none."""
    found: dict[str, float] = {}
    for name in ("input_tokens", "input_cv", "output_tokens", "output_cv"):
        least, most = (1, MOST_TOKENS) if name.endswith("tokens") else (0, MOST_SPREAD)
        number = _number(data.get(name, ""))
        if number is None or not least <= number <= most:
            return None
        found[name] = number
    return found | {name: int(found[name]) for name in ("input_tokens", "output_tokens")}


def profile_tiles(chosen: str) -> list[dict[str, Any]]:
    """Give the named profiles as tiles, and one for numbers of one's own."""
    tiles = [
        {
            "value": profile.name,
            "label": profile.title,
            "text": profile.description,
            "price": f"{count(profile.input.mean)} tokens in, {count(profile.output.mean)} out",
            "checked": profile.name == chosen,
        }
        for profile in NAMED.values()
    ]
    own = {
        "value": "",
        "label": "My own numbers",
        "text": "The load as you give it below.",
        "checked": not chosen,
    }
    return [*tiles, own]


def _same(data: QueryDict, typed: Mapping[str, str]) -> bool:
    return all(_number(data.get(name, "")) == float(text) for name, text in typed.items())


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if abs(number) < float("inf") else None
