"""What a live object differs in from the one that was rendered: fields, list elements, quantities.

A live object holds more than was asked for: defaults, status, what controllers write. So fields are compared where
the render names them; lists, and the maps of :data:`EXACT_MAPS`, must hold nothing else.
"""

from __future__ import annotations

import dataclasses
import decimal
import enum
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

EXACT_MAPS: Final = frozenset(
    (
        *("binaryData", "capabilities", "data", "hard", "limits", "matchLabels", "namespaceSelector"),
        *("nodeSelector", "podSelector", "requests", "securityContext", "selector"),
    )
)
QUANTITIES: Final = frozenset(
    (
        "capacity",
        "default",
        "defaultRequest",
        "divisor",
        "hard",
        "limits",
        "max",
        "min",
        "requests",
        "sizeLimit",
    )
)
# Not pointers in Kubernetes' types: false, 0 and "" leave the server as if they had never been given.
OMITTED_WHEN_EMPTY: Final = frozenset(
    ("hostIPC", "hostNetwork", "hostPID", "optional", "publishNotReadyAddresses", "readOnly", "value")
)
LIST_KEYS: Final[Mapping[str, str]] = {
    "volumeMounts": "mountPath",
    "topologySpreadConstraints": "topologyKey",
    "volumeDevices": "devicePath",
}
_SUFFIXES: Final[Mapping[str, decimal.Decimal]] = {
    **{f"{unit}i": decimal.Decimal(1024) ** power for power, unit in enumerate("KMGTPE", 1)},
    **{unit: decimal.Decimal(1000) ** power for power, unit in enumerate("kMGTPE", 1)},
    "m": decimal.Decimal("0.001"),
    "u": decimal.Decimal("0.000001"),
    "n": decimal.Decimal("0.000000001"),
    "": decimal.Decimal(1),
}
_QUANTITY: Final = re.compile(r"([+-]?[0-9.]+(?:[eE][+-]?[0-9]+)?)([KMGTPE]i|[numkMGTPE]?)")
_SHOWN: Final = 80  # characters of a value


class Way(enum.Enum):
    """How something differs."""

    MISSING = "missing"
    CHANGED = "changed"
    EXTRA = "extra"


@dataclasses.dataclass(frozen=True)
class Difference:
    """One difference. ``pointer`` leads to it in the live object, ``label`` is the same for people."""

    way: Way
    pointer: tuple[str | int, ...]
    label: str
    wanted: Any = None
    found: Any = None

    def __str__(self) -> str:
        if self.way is Way.MISSING:
            return f"{self.label} is missing, ordered {_shown(self.wanted)}"
        if self.way is Way.EXTRA:
            return f"{self.label} was added: {_shown(self.found)}"
        return f"{self.label} is {_shown(self.found)}, ordered {_shown(self.wanted)}"


def differences(wanted: Mapping[str, Any], live: Mapping[str, Any]) -> list[Difference]:
    """Give what of ``wanted`` the live object lacks or has otherwise, and what its lists hold beside it."""
    if wanted.get("kind") == "PersistentVolumeClaim":
        return list(_claim(wanted, live))
    return list(_mapping(wanted, live, (), ""))


def removals(found: Sequence[Difference]) -> list[dict[str, Any]]:
    """Give the JSON patch that takes out what was added; each step checks that it takes out what was seen."""
    extras = sorted(
        (each for each in found if each.way is Way.EXTRA),
        key=lambda each: tuple((isinstance(part, int), str(part).zfill(6)) for part in each.pointer),
        reverse=True,
    )
    return [
        {"op": op, "path": pointer(each.pointer), **({"value": each.found} if op == "test" else {})}
        for each in extras
        for op in ("test", "remove")
    ]


def quantity(value: Any) -> decimal.Decimal | None:
    """Read a Kubernetes quantity ("1500m", "16Gi", 8); None where it is none."""
    match = _QUANTITY.fullmatch(str(value)) if not isinstance(value, bool) else None
    if match is None:
        return None
    try:
        return decimal.Decimal(match[1]) * _SUFFIXES[match[2]]
    except decimal.InvalidOperation:
        return None


def _mapping(
    wanted: Mapping[str, Any], live: Mapping[str, Any], at: tuple[str | int, ...], label: str
) -> Iterator[Difference]:
    for key, value in wanted.items():
        name = _joined(label, key)
        if key in live:
            yield from _value(value, live[key], (*at, key), name)
        elif not _is_nothing(value, key):
            yield Difference(Way.MISSING, (*at, key), name, wanted=value)
    if at and at[-1] in EXACT_MAPS:
        for key in live:
            if key not in wanted and not _is_nothing(live[key], key):
                yield Difference(Way.EXTRA, (*at, key), _joined(label, key), found=live[key])


def _value(wanted: Any, live: Any, at: tuple[str | int, ...], label: str) -> Iterator[Difference]:
    if isinstance(wanted, Mapping) and isinstance(live, Mapping):
        yield from _mapping(wanted, live, at, label)
    elif isinstance(wanted, list | tuple) and isinstance(live, list):
        yield from _list(wanted, live, at, label)
    elif not _same(wanted, live, at):
        yield Difference(Way.CHANGED, at, label, wanted=wanted, found=live)


def _list(
    wanted: Sequence[Any], live: Sequence[Any], at: tuple[str | int, ...], label: str
) -> Iterator[Difference]:
    key = LIST_KEYS.get(str(at[-1]), "name")
    if all(isinstance(each, Mapping) and key in each for each in (*wanted, *live)):
        yield from _keyed(wanted, live, at, label, key)
        return
    for index, (ours, theirs) in enumerate(zip(wanted, live, strict=False)):
        yield from _value(ours, theirs, (*at, index), f"{label}[{index}]")
    for index in range(len(live), len(wanted)):
        yield Difference(Way.MISSING, (*at, index), f"{label}[{index}]", wanted=wanted[index])
    for index in range(len(wanted), len(live)):
        yield Difference(Way.EXTRA, (*at, index), f"{label}[{index}]", found=live[index])


def _keyed(
    wanted: Sequence[Mapping[str, Any]],
    live: Sequence[Mapping[str, Any]],
    at: tuple[str | int, ...],
    label: str,
    key: str,
) -> Iterator[Difference]:
    there = {each[key]: (index, each) for index, each in enumerate(live)}
    for each in wanted:
        name = f"{label}[{each[key]}]"
        if each[key] in there:
            index, found = there[each[key]]
            yield from _mapping(each, found, (*at, index), name)
        else:
            yield Difference(Way.MISSING, (*at, len(live)), name, wanted=each)
    ours = {each[key] for each in wanted}
    for index, each in enumerate(live):
        if each[key] not in ours:
            yield Difference(Way.EXTRA, (*at, index), f"{label}[{each[key]}]", found=each)


def _claim(wanted: Mapping[str, Any], live: Mapping[str, Any]) -> Iterator[Difference]:
    """A claim is fixed once it is made, except that it may grow; endpoints that share it ask for different sizes."""
    at = ("spec", "resources", "requests", "storage")
    asked, given = _at(wanted, at), _at(live, at)
    smaller, larger = quantity(given), quantity(asked)
    if smaller is not None and larger is not None and smaller < larger:
        yield Difference(Way.CHANGED, at, ".".join(at), wanted=asked, found=given)


def _at(obj: Mapping[str, Any], path: Sequence[str]) -> Any:
    value: Any = obj
    for part in path:
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def _same(wanted: Any, live: Any, at: tuple[str | int, ...]) -> bool:
    if wanted == live and isinstance(wanted, bool) == isinstance(live, bool):
        return True
    if len(at) > 1 and (at[-1] in QUANTITIES or at[-2] in QUANTITIES):
        ours = quantity(wanted)
        return ours is not None and ours == quantity(live)
    return False


def _is_nothing(value: Any, key: str | int) -> bool:
    if value is None or (isinstance(value, Mapping | list | tuple) and not value):
        return True
    return key in OMITTED_WHEN_EMPTY and not value


def _joined(label: str, key: str) -> str:
    plain = re.fullmatch(r"[A-Za-z0-9_-]+", key)
    return f"{label}.{key}".lstrip(".") if plain else f"{label}[{key}]"


def pointer(parts: Sequence[str | int]) -> str:
    """Write a way into an object as JSON patches name it."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in parts)


def _shown(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, sort_keys=True, default=str)
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"
