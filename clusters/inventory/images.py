"""The images that engines, gateways and the loader of weights run from, each pinned by its digest."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from django.db import transaction

from clusters import specs
from clusters.models import EngineImage
from clusters.planning.versions import version_numbers
from tenants.errors import Invalid
from tenants.validation import clean

_TENSORRT_LLM: Final = {
    "reference": "nvcr.io/nvidia/tritonserver:26.07-trtllm-python-py3",
    "engine_version": "1.2.1",
    "min_driver": "590.44.01",
}

#: What every installation begins with; NVIDIA's compatibility table gives versions and drivers.
DEFAULTS: Final[Mapping[str, Mapping[str, str]]] = {
    "triton-llmapi": _TENSORRT_LLM,
    "trtllm-serve": _TENSORRT_LLM,
    "triton-engine": _TENSORRT_LLM,
    # It has numpy and tokenizers, which the plain image lacks.
    "triton-python": {"reference": _TENSORRT_LLM["reference"]},
    "gateway": {"reference": "registry.example.com/berth/gateway:0.1.0"},
    "loader": {"reference": _TENSORRT_LLM["reference"]},
}

_REFERENCE: Final = re.compile(
    r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?(:[0-9]{1,5})?(/[a-z0-9]+([._-]+[a-z0-9]+)*)+:[A-Za-z0-9_][A-Za-z0-9._-]{0,127}"
)


@transaction.atomic
def images_bootstrap() -> None:
    """Write the images that are missing. They carry no digest: an operator looks it up and sets it."""
    for use, values in DEFAULTS.items():
        EngineImage.objects.get_or_create(use=use, defaults=dict(values))


@transaction.atomic
def image_set(
    *, use: str, reference: str, digest: str, engine_version: str = "", min_driver: str = ""
) -> EngineImage:
    """Pin the image of a use; revisions made before keep theirs.

    ``reference`` is registry/repository:tag, ``digest`` sha256:…, empty while nobody has looked it up.

    Raises:
        Invalid: there is no such use, or a value is malformed.
    """
    if use not in DEFAULTS:
        offered = ", ".join(DEFAULTS)
        raise Invalid(f"Choose the use from {offered}.", errors={"use": [f"Choose from {offered}."]})
    if not _REFERENCE.fullmatch(reference):
        text = (
            "Write registry/repository:tag, for instance nvcr.io/nvidia/tritonserver:26.07-trtllm-python-py3."
        )
        raise Invalid(text, errors={"reference": [text]})
    if min_driver and not version_numbers(min_driver):
        text = "Write a driver version, for instance 590.44.01."
        raise Invalid(text, errors={"min_driver": [text]})
    image = EngineImage.objects.select_for_update().filter(use=use).first() or EngineImage(use=use)
    image.reference, image.digest = reference, digest.strip()
    image.engine_version, image.min_driver = engine_version.strip(), min_driver.strip()
    clean(image, identified_by="use")
    image.save()
    return image


def image_of(use: str) -> specs.EngineImage | None:
    """Give the pinned image of a use, None while it has no digest."""
    row = EngineImage.objects.filter(use=use).exclude(digest="").first()
    if row is None:
        return None
    return specs.EngineImage(
        reference=row.reference,
        digest=row.digest,
        engine_version=row.engine_version,
        min_driver=row.min_driver,
    )


def min_drivers() -> dict[str, str]:
    """Give the oldest NVIDIA driver that each use's image runs with, where one is known."""
    return dict(EngineImage.objects.exclude(min_driver="").values_list("use", "min_driver"))


def unpinned() -> frozenset[str]:
    """Give the uses whose image has no digest, so that nothing can be started from it on Kubernetes."""
    return frozenset(DEFAULTS) - set(EngineImage.objects.exclude(digest="").values_list("use", flat=True))
