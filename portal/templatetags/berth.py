"""Filters and tags of the pages, built in to every template: money, counts, sizes and times in people's words."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterable
from decimal import Decimal, InvalidOperation
from typing import Any

from django import template
from django.core.serializers.json import DjangoJSONEncoder
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html

from clusters.endpoints.runbooks import runbook_of, runbook_of_state, runbook_of_trouble
from portal.charts.finders import style_ids
from portal.pages.troubles import TROUBLES

register = template.Library()


@register.simple_block_tag
def leads(content: str, allowed: Any, page: str, *args: Any) -> str:
    """Make what stands within a link to ``page`` for those who may look there; for others it stays text.

    ``{% leads may.view_tenants 'console:tenant' slug %}Acme{% endleads %}``
    """
    return format_html('<a href="{}">{}</a>', reverse(page, args=args), content) if allowed else content


@register.inclusion_tag("components/charts_head.html")
def charts_head() -> dict[str, Any]:
    """Load what draws charts, so that nothing of it needs an exception from the pages' policy."""
    return {"style_ids": style_ids()}


DASH = "–"
MISSING = "not available"
_STEPS = ((Decimal(10**9), "B"), (Decimal(10**6), "M"), (Decimal(10**3), "k"))
_ACRONYMS = {"ttft": "TTFT", "itl": "ITL", "gpu": "GPU", "gpus": "GPUs", "slo": "SLO"}


@register.filter
def money(amount: Any, currency: str = "") -> str:
    """Write an amount of money: two decimals, below ten up to four, more where that reads as nothing.

    ``{{ 12.5|money:"EUR" }}`` gives ``12.50 EUR``; None gives a dash.
    """
    value = _decimal(amount)
    if value is None:
        return DASH
    size = abs(value)
    if size == 0 or size >= 10:
        text = f"{value:,.2f}"
    elif size >= Decimal("0.0001"):
        text = f"{value:.4f}".rstrip("0")
        text += "0" * (2 - len(text.partition(".")[2]))
    else:
        text = f"{value:.2g}" if size < Decimal("0.000001") else f"{value:.6f}"
    return f"{text} {currency}".strip()


@register.filter
def count(number: Any) -> str:
    """Write a whole number in full with thousands apart: ``12,345``."""
    value = _decimal(number)
    return DASH if value is None else f"{value:,.0f}"


@register.filter
def short(number: Any) -> str:
    """Write a number in three digits or so: ``950``, ``12.3k``, ``4.5M``."""
    value = _decimal(number)
    if value is None:
        return DASH
    for step, letter in _STEPS:
        # 999,950 would be written as 1000k
        if abs(value) >= step * Decimal("0.99995"):
            return f"{_trimmed(value / step, 1)}{letter}"
    return _trimmed(value, 1)


@register.filter
def decimals(number: Any, places: int = 2) -> str:
    """Write a number with at most ``places`` decimals and no trailing zeros."""
    value = _decimal(number)
    return DASH if value is None else _trimmed(value, int(places))


@register.filter
def percent(share: Any, places: int = 1) -> str:
    """Write a share of 1 as percent: 0.995 gives ``99.5 %``."""
    value = _decimal(share)
    return DASH if value is None else f"{_trimmed(value * 100, int(places))} %"


@register.filter
def ms(milliseconds: Any) -> str:
    """Write a time in milliseconds as ``40 ms`` or, from a second on, ``1.5 s``."""
    value = _decimal(milliseconds)
    if value is None:
        return DASH
    if value >= 1000:
        return f"{_trimmed(value / 1000, 2)} s"
    return f"{_trimmed(value, 1 if value < 10 else 0)} ms"


@register.filter
def gib(size: Any) -> str:
    """Write a size in GiB: ``15.0 GiB``."""
    value = _decimal(size)
    return DASH if value is None else f"{value:.1f} GiB"


@register.filter
def since(moment: dt.datetime | None) -> str:
    """Write how long ago something was in its largest unit: ``12 s``, ``5 min``, ``3 h``, ``2 d``."""
    return DASH if moment is None else duration(timezone.now() - moment)


@register.filter
def duration(length: dt.timedelta | float | None) -> str:
    """Write a length of time, also one in seconds, in its largest unit: ``12 s``, ``5 min``, ``3 h``."""
    if length is None:
        return DASH
    seconds = length.total_seconds() if isinstance(length, dt.timedelta) else float(length)
    for unit, name in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= 2 * unit:
            return f"{seconds / unit:.0f} {name}"
    return f"{max(seconds, 0):.0f} s"


@register.filter
def sentence(text: str) -> str:
    """Write a message as a sentence: ``no capacity`` gives ``No capacity.``"""
    text = str(text)
    text = text[:1].upper() + text[1:]
    return text if text.endswith((".", "!", "?")) or not text else f"{text}."


@register.filter
def residency(demand: str) -> str:
    """Write a residency demand: ``zone:EU`` gives ``Zone EU``."""
    kind, _, place = str(demand).partition(":")
    return "Anywhere" if kind == "global" else f"{kind.capitalize()} {place}"


@register.filter
def memory_parts(memory: dict[str, int] | None) -> list[tuple[str, str]]:
    """Write the GPU memory of a replica told apart, as (label, text); what its runtime does not tell says so."""
    told = memory or {}
    used, most = told.get("kv_used"), told.get("kv_max")
    kv = MISSING if used is None and most is None else f"{_bytes(used)} of {_bytes(most)}"
    return [
        ("Weights", _bytes(told.get("weights"))),
        ("KV cache used", kv),
        ("Other", _bytes(told.get("other"))),
    ]


@register.filter
def by_resource(permissions: Iterable[str]) -> list[str]:
    """Gather permissions such as ``list nodes`` by what they are on: ``get, list nodes``."""
    verbs: dict[str, list[str]] = {}
    for permission in permissions:
        verb, _, where = permission.partition(" ")
        verbs.setdefault(where, []).append(verb)
    return [f"{', '.join(found)} {where}" for where, found in verbs.items()]


@register.filter
def trouble(code: str) -> str:
    """Write why a replica does not come up: ``ImagePull`` gives ``Its image cannot be pulled``."""
    known = TROUBLES.get(str(code))
    return known.title if known else words(code)


@register.filter
def remedy(code: str) -> str:
    """Say what to do about a replica's trouble; nothing where none is known."""
    known = TROUBLES.get(str(code))
    return known.remedy if known else ""


register.filter("runbook", runbook_of)
register.filter("trouble_runbook", runbook_of_trouble)
register.filter("state_runbook", runbook_of_state)


@register.filter
def words(code: str) -> str:
    """Write a code such as ``slo_class`` or ``us-east`` as words: ``SLO class``."""
    parts = str(code).replace("_", " ").replace("-", " ").split()
    if not parts:
        return ""
    text = " ".join(_ACRONYMS.get(part.lower(), part) for part in parts)
    return text[0].upper() + text[1:]


@register.filter
def as_json(value: Any) -> str:
    """Write a value as JSON, for a data attribute that a script reads."""
    return json.dumps(value, cls=DjangoJSONEncoder)


def _bytes(size: int | None) -> str:
    return MISSING if size is None else f"{size / 2**30:.1f} GiB"


def _decimal(number: Any) -> Decimal | None:
    if number is None or number == "":
        return None
    try:
        value = number if isinstance(number, Decimal) else Decimal(str(number))
    except InvalidOperation:
        return None
    return value if value.is_finite() else None


def _trimmed(value: Decimal, places: int) -> str:
    text = f"{value:,.{places}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
