"""Named profiles of load, fitted to a model; and how long requests and answers may be where an order does not say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from clusters.models import CatalogModel
from clusters.planning.profiles import NAMED, Lengths, NamedProfile

#: The fields of an order that a named profile gives, besides its caps. The rate is everybody's own.
SHAPE: Final = ("burstiness", "input_tokens", "input_cv", "output_tokens", "output_cv", "prefix_share")

#: What an order begins with that says nothing of its load.
USUAL_PROFILE: Final = "chat"

#: Smallest caps that are proposed.
LEAST_CONTEXT: Final = 4096
LEAST_ANSWER: Final = 256

#: Part of the requests that proposed caps hold.
NEARLY_ALL: Final = 0.99


def named_profile(name: str) -> NamedProfile | None:
    """Give a named profile, None where there is none of that name."""
    return NAMED.get(name)


def shape_of(profile: NamedProfile, model: CatalogModel) -> dict[str, Any]:
    """Give the numbers of a profile by :data:`SHAPE`, its lengths shortened to what the model takes."""
    load = profile.at(1.0)
    numbers = {name: getattr(load, name) for name in SHAPE}
    most = model.context_tokens
    return numbers | {
        "input_tokens": max(1, min(numbers["input_tokens"], most // 2)),
        "output_tokens": max(1, min(numbers["output_tokens"], most // 4)),
    }


def caps_for(model: CatalogModel, shape: Mapping[str, Any], profile: NamedProfile | None) -> tuple[int, int]:
    """Propose the longest context and the longest answer, in tokens: the profile's, or what the lengths need.

    ``shape`` has lengths and their spread; mean requests fit, and the model's own limit is kept.
    """
    if profile is None:
        answer = Lengths(mean=shape["output_tokens"], cv=shape["output_cv"]).quantile(NEARLY_ALL)
        context = answer + Lengths(mean=shape["input_tokens"], cv=shape["input_cv"]).quantile(NEARLY_ALL)
    else:
        answer = max(profile.max_output_tokens, shape["output_tokens"])
        context = max(profile.context_tokens, shape["input_tokens"] + shape["output_tokens"])
    limit = min(_power_of_two(context, LEAST_CONTEXT), model.context_tokens)
    # An answer leaves room for at least one token of its question.
    return limit, max(1, min(_power_of_two(answer, LEAST_ANSWER), limit - 1))


def completed(given: Mapping[str, Any], model: CatalogModel) -> dict[str, Any]:
    """Give the fields of an order with what its profile says of those that are not given.

    A cap that is not given is proposed; one that is None stays so: all that the model takes.
    """
    profile = named_profile(given.get("profile", ""))
    numbers = shape_of(profile, model) if profile else {}
    order = {**numbers, **given}
    usual = {"input_tokens": 500, "output_tokens": 200, "input_cv": 1.0, "output_cv": 1.0}
    context, answer = caps_for(model, usual | order, profile)
    order.setdefault("context_tokens", context)
    room = (order["context_tokens"] or model.context_tokens) - 1
    order.setdefault("output_limit", max(1, min(answer, room)))
    return order


def _power_of_two(number: float, least: int) -> int:
    size = least
    while size < number:
        size *= 2
    return size
