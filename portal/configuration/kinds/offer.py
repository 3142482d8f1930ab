"""What the platform offers: SLO classes, their engine settings, the catalog's models, the engines' images."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any, Final

from rest_framework import serializers

from clusters.api.cluster_serializers import ImageBody, TuningBody
from clusters.inventory import catalog, images, slo_classes, tuning
from clusters.models import CatalogModel, EngineImage, SloClass
from portal.configuration.applier import Applier
from portal.configuration.documents import Document
from portal.configuration.kinds.base import (
    CHANGED,
    CREATED,
    LEFT,
    REMOVED,
    Done,
    Kind,
    ModelSpec,
    Wanted,
    changed_values,
    fields_of,
    fields_spec,
    refuse_fixed,
)
from portal.configuration.writing import plain
from tenants.errors import Invalid
from tenants.roles import PlatformAction

_CLASS_FIELDS: Final = fields_of(SloClass, without=["name"])
#: The tokenizer is a file, and the credentials are secrets: neither stands in a document.
_MODEL_FIELDS: Final = fields_of(CatalogModel, without=["name", "tokenizer", "weights_secret"])
#: What a model was planned with, which never changes.
_MODEL_NUMBERS: Final = (
    "runtimes", "precisions", "architecture", "context_tokens", "chat_template", "derived_from",
)  # fmt: skip


class _OfOffer(Kind):
    of_tenants = False
    action = PlatformAction.MANAGE_OFFER
    view = PlatformAction.VIEW_OFFER


class SloClassSpec(ModelSpec):
    class Meta:
        model = SloClass
        fields = _CLASS_FIELDS


class SloClassKind(_OfOffer):
    name = "SloClass"
    spec_class = SloClassSpec

    def rows(self) -> Iterable[SloClass]:
        return SloClass.objects.order_by("priority", "name")

    def find(self, name: str) -> SloClass | None:
        return SloClass.objects.filter(name=name).first()

    def spec(self, row: SloClass) -> dict[str, Any]:
        return fields_spec(row, _CLASS_FIELDS)

    def create(self, document: Document, wanted: Wanted, by: Applier) -> Done:
        return Done(result=CREATED, row=slo_classes.slo_class_add(name=document.name, **wanted.values))

    def change(
        self, row: SloClass, document: Document, wanted: Wanted, changed: frozenset[str], by: Applier
    ) -> Done:
        slo_classes.slo_class_change(slo_class=row, **changed_values(wanted, changed))
        return Done(result=CHANGED, row=row)

    def remove(self, row: SloClass, by: Applier) -> Done:
        return Done(
            result=LEFT, row=row, note="Classes are never removed: endpoints and statements name them."
        )


class EngineSettingsKind(_OfOffer):
    """The table of knobs: how the engines of a class run. Its name is the class's."""

    name = "EngineSettings"
    spec_class = TuningBody

    def rows(self) -> Iterable[SloClass]:
        return SloClass.objects.order_by("priority", "name")

    def find(self, name: str) -> SloClass | None:
        return SloClass.objects.filter(name=name).first()

    def spec(self, row: SloClass) -> dict[str, Any]:
        return {name: plain(value) for name, value in dataclasses.asdict(tuning.tuning_of(row)).items()}

    def create(self, document: Document, wanted: Wanted, by: Applier) -> Done:
        text = f"There is no SLO class {document.name!r}."
        raise Invalid(text, errors={"metadata.name": [text]})

    def change(
        self, row: SloClass, document: Document, wanted: Wanted, changed: frozenset[str], by: Applier
    ) -> Done:
        tuning.tuning_change(slo_class=row, **changed_values(wanted, changed))
        return Done(result=CHANGED, row=row)

    def remove(self, row: SloClass, by: Applier) -> Done:
        return Done(result=LEFT, row=row, note="A class always has engine settings; they stay as they are.")


class EngineImageKind(_OfOffer):
    """The image of a use. Its name is the use."""

    name = "EngineImage"
    spec_class = ImageBody

    def rows(self) -> Iterable[EngineImage]:
        return EngineImage.objects.order_by("use")

    def find(self, name: str) -> EngineImage | None:
        return EngineImage.objects.filter(use=name).first()

    def name_of(self, row: EngineImage) -> str:
        return row.use

    def spec(self, row: EngineImage) -> dict[str, Any]:
        return fields_spec(row, ("reference", "digest", "engine_version", "min_driver"))

    def create(self, document: Document, wanted: Wanted, by: Applier) -> Done:
        return Done(result=CREATED, row=self._set(document.name, wanted.values))

    def change(
        self, row: EngineImage, document: Document, wanted: Wanted, changed: frozenset[str], by: Applier
    ) -> Done:
        return Done(result=CHANGED, row=self._set(row.use, {**self.spec(row), **wanted.values}))

    def remove(self, row: EngineImage, by: Applier) -> Done:
        return Done(result=LEFT, row=row, note="Every use has an image; it stays as it is.")

    def _set(self, use: str, values: Mapping[str, Any]) -> EngineImage:
        try:
            return images.image_set(use=use, **values)
        except Invalid as error:
            if "use" not in error.errors:
                raise
            raise Invalid(error.message, errors={"metadata.name": error.errors["use"]}) from error


class CatalogModelSpec(ModelSpec):
    derived_from = serializers.SlugRelatedField(
        slug_field="name", queryset=CatalogModel.objects.all(), allow_null=True, required=False
    )

    class Meta:
        model = CatalogModel
        fields = _MODEL_FIELDS


class CatalogModelKind(_OfOffer):
    name = "CatalogModel"
    spec_class = CatalogModelSpec

    def rows(self) -> Iterable[CatalogModel]:
        # What others are derived from comes first.
        return CatalogModel.objects.select_related("derived_from").order_by("created_at", "id")

    def find(self, name: str) -> CatalogModel | None:
        return CatalogModel.objects.select_related("derived_from").filter(name=name).first()

    def spec(self, row: CatalogModel) -> dict[str, Any]:
        parent = row.derived_from.name if row.derived_from else None
        return {
            name: parent if name == "derived_from" else plain(getattr(row, name)) for name in _MODEL_FIELDS
        }

    def create(self, document: Document, wanted: Wanted, by: Applier) -> Done:
        return Done(result=CREATED, row=catalog.model_add(name=document.name, **wanted.values))

    def change(
        self, row: CatalogModel, document: Document, wanted: Wanted, changed: frozenset[str], by: Applier
    ) -> Done:
        refuse_fixed(
            changed, _MODEL_NUMBERS,
            why="What a model was planned with never changes. Add another model instead.",
        )  # fmt: skip
        catalog.model_change(model=row, **changed_values(wanted, changed))
        return Done(result=CHANGED, row=row)

    def remove(self, row: CatalogModel, by: Applier) -> Done:
        if not row.published:
            return Done(result=LEFT, row=row, note="It is not offered already.")
        catalog.model_change(model=row, published=False)
        return Done(result=REMOVED, row=row, note="No longer offered; endpoints that were ordered go on.")
