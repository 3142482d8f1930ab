"""Where a model's weights come from: checked before it is written, sealed where it is secret."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec

from clusters.models import CatalogModel, Region
from clusters.specs import WeightsKind
from tenants.errors import Invalid
from tenants.sealing import SealedField, seal, unseal

#: What a job can make of a checkpoint before it is served.
QUANTIZATIONS: Final = ("fp8", "nvfp4", "int4_awq")

_NAME: Final = r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?"
_PVC: Final = re.compile(rf"{_NAME}(/[A-Za-z0-9._-]+)*")
_IMAGE: Final = re.compile(r"[a-z0-9][a-z0-9.-]*(:[0-9]{1,5})?(/[a-z0-9._-]+)+@sha256:[0-9a-f]{64}")
_VARIABLE: Final = re.compile(r"[A-Z_][A-Z0-9_]{0,127}")
_MOST_SECRETS: Final = 32
_LONGEST_SECRET: Final = 16 * 1024
_LONGEST_NOTE: Final = 1000

_EXAMPLES: Final = {
    WeightsKind.BUILT_IN: "nothing: the runtime ships them",
    WeightsKind.PVC: "claim/path, for instance weights/llama-3.1-8b",
    WeightsKind.OBJECT_STORE: "s3://bucket/path, gs://bucket/path or https://host/bucket/path",
    WeightsKind.HUGGING_FACE: "https://host/organisation/model",
    WeightsKind.OCI_IMAGE: "registry/repository@sha256:…, with the digest",
}


class _Note(msgspec.Struct, forbid_unknown_fields=True):
    note: str
    needs_approval: bool = False


def check_weights(model: CatalogModel) -> None:
    """Check the weights' fields of a model against each other.

    Raises:
        Invalid: the address does not fit the kind, a place is unknown, or a quantization is.
    """
    errors: dict[str, list[str]] = {}
    try:
        kind = WeightsKind(model.weights_kind)
    except ValueError:
        offered = ", ".join(WeightsKind)
        raise Invalid(
            f"Choose where the weights come from: {offered}.",
            errors={"weights_kind": [f"Choose from {offered}."]},
        ) from None
    if not _address_fits(kind, model.weights_uri):
        errors["weights_uri"] = [f"For {kind} write {_EXAMPLES[kind]}."]
    if kind is WeightsKind.HUGGING_FACE and not model.weights_revision:
        errors["weights_revision"] = ["Name the commit, so that every replica gets the same weights."]
    if model.weights_size_gib < 0:
        errors["weights_size_gib"] = ["A size is 0 or more."]
    if unknown := _unknown_places(model.weights_zones):
        errors["weights_zones"] = [
            f"No region has the code, and none belongs to the zone: {', '.join(unknown)}."
        ]
    wrong = [
        f"{precision}: {method}"
        for precision, method in model.weights_quantize.items()
        if precision not in model.precisions or method not in QUANTIZATIONS
    ]
    if wrong:
        errors["weights_quantize"] = [
            f"Give for a precision of the model one of {', '.join(QUANTIZATIONS)}; not {', '.join(wrong)}."
        ]
    if errors:
        raise Invalid(next(iter(errors.values()))[0], errors=errors)


def check_notes(model: CatalogModel) -> None:
    """Check what is noted of a model's precisions.

    Raises:
        Invalid: a note is of no precision on offer, is empty or too long, or is no note at all.
    """
    faults = []
    for precision, told in model.precision_notes.items():
        if precision not in model.precisions:
            faults.append(
                f"{model.name} is not offered in {precision}, only in {', '.join(model.precisions)}."
            )
            continue
        try:
            noted = msgspec.convert(told, _Note)
        except msgspec.ValidationError as error:
            faults.append(f"{precision}: {error}.")
            continue
        if not noted.note.strip() or len(noted.note) > _LONGEST_NOTE:
            faults.append(f"{precision}: write a note of 1 to {_LONGEST_NOTE} characters, or none at all.")
    if faults:
        raise Invalid(faults[0], errors={"precision_notes": faults})


def without_note(model: CatalogModel) -> list[str]:
    """Give the precisions that a job makes and nobody noted anything of: orders are refused in them."""
    return [
        name
        for name in model.precisions
        if name in model.weights_quantize and name not in model.precision_notes
    ]


def check_secrets(values: Mapping[str, Any]) -> None:
    """Check that ``values`` can be environment variables of the job that fetches weights.

    Raises:
        Invalid: a name or a value cannot be one.
    """
    errors: list[str] = []
    if len(values) > _MOST_SECRETS:
        errors.append(f"At most {_MOST_SECRETS} values.")
    for name, value in values.items():
        if not _VARIABLE.fullmatch(name):
            errors.append(f"{name!r} is no name of a variable: use capital letters, digits and underscores.")
        elif not isinstance(value, str) or not value or "\0" in value or len(value) > _LONGEST_SECRET:
            errors.append(f"{name}: give a text of at most {_LONGEST_SECRET} characters.")
    if errors:
        raise Invalid(errors[0], errors={"values": errors})


def sealed(values: Mapping[str, str], *, field: SealedField) -> bytes | None:
    """Seal secrets for one row and field; nothing where there are none."""
    return seal(msgspec.json.encode(dict(values)), field=field) if values else None


def opened(secret: bytes | memoryview, *, field: SealedField) -> dict[str, str]:
    """Open what :func:`sealed` gave.

    Raises:
        CannotOpen: it was changed, or sealed for another row, or its key is gone.
        KeysAway: it cannot be opened now.
    """
    return msgspec.json.decode(unseal(secret, field=field), type=dict[str, str])


def _address_fits(kind: WeightsKind, uri: str) -> bool:
    if kind is WeightsKind.BUILT_IN:
        return not uri
    if kind is WeightsKind.PVC:
        return bool(_PVC.fullmatch(uri)) and ".." not in uri.split("/")
    if kind is WeightsKind.OCI_IMAGE:
        return bool(_IMAGE.fullmatch(uri))
    try:
        parts = urlsplit(uri)
        _ = parts.port
    except ValueError:
        return False
    if not parts.hostname or parts.username or parts.query or parts.fragment or any(map(str.isspace, uri)):
        return False
    if kind is WeightsKind.HUGGING_FACE:
        return parts.scheme == "https" and len(parts.path.strip("/").split("/")) >= 2
    return parts.scheme in ("s3", "gs") or (parts.scheme == "https" and len(parts.path) > 1)


def _unknown_places(places: list[str]) -> list[str]:
    if not places:
        return []
    regions = list(Region.objects.values_list("code", "zones"))
    known = {code for code, _ in regions}
    known.update(zone for _, zones in regions for zone in zones)
    return [place for place in places if place not in known]
