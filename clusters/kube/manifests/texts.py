"""Objects as YAML, for people and for diffs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import yaml  # type: ignore[import-untyped]

HIDDEN: Final = "(hidden)"


def dumper_on(base: type[Any]) -> type[Any]:
    """Give a dumper that writes texts of several lines as blocks, and no anchors."""
    dumper = type("Dumper", (base,), {"ignore_aliases": lambda self, data: True})
    dumper.add_representer(str, _text)  # type: ignore[attr-defined]
    return dumper


def _text(dumper: Any, text: str) -> Any:
    style = "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


#: libyaml's takes a fifth of the time; for what is rendered here the text is the same.
DUMPER: Final = dumper_on(getattr(yaml, "CSafeDumper", yaml.SafeDumper))


def to_texts(objects: list[dict[str, Any]], *, dumper: type[Any] = DUMPER) -> dict[str, str]:
    """Give each object as YAML under a name of its kind and name, the values of secrets hidden."""
    return {
        f"{obj['kind'].lower()}-{obj['metadata']['name']}.yaml": yaml.dump(
            _shown(obj), Dumper=dumper, sort_keys=False, width=110, allow_unicode=True
        )
        for obj in objects
    }


def _shown(obj: Mapping[str, Any]) -> dict[str, Any]:
    if obj["kind"] != "Secret":
        return dict(obj)
    return {**obj, "data": dict.fromkeys(obj.get("data", {}), HIDDEN)}
