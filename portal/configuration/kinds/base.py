"""What each kind of document knows: its rows, their specs, and the services that make, change and remove them."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any, ClassVar

from rest_framework import serializers
from rest_framework.exceptions import ValidationError

from portal.configuration.applier import Applier
from portal.configuration.documents import Document
from portal.configuration.problems import did_you_mean
from portal.configuration.writing import plain
from tenants.api.fields import ReferenceField, StrictSerializer
from tenants.errors import Invalid
from tenants.roles import Action, PlatformAction

#: What became of a document, or of an object that no document names any more.
CREATED, CHANGED, UNCHANGED = "created", "changed", "unchanged"
ASKED_FOR, WAITING = "asked-for", "waiting"
REMOVED, LEFT = "removed", "left"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Money:
    """What an order costs an hour."""

    currency: str
    before: Decimal | None = None
    after: Decimal | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Done:
    """What became of one object: ``result`` is one of the words above, ``note`` says more."""

    result: str
    row: Any = None
    note: str = ""
    money: Money | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Wanted:
    """A checked spec: ``values`` as services take them, ``spec`` as a document would say them."""

    values: Mapping[str, Any]
    spec: Mapping[str, Any]


class Kind(abc.ABC):
    """One kind of object. All of it runs in the scope of the tenant that the document belongs to, or the platform's."""

    name: ClassVar[str]
    #: Whether its objects are tenants'; others are the platform's.
    of_tenants: ClassVar[bool] = True
    #: Whether ``metadata.project`` says where an object belongs.
    in_project: ClassVar[bool] = False
    action: ClassVar[Action | PlatformAction]
    #: What an export of it asks of whoever reads.
    view: ClassVar[Action | PlatformAction] = Action.VIEW
    spec_class: ClassVar[type[serializers.Serializer]]

    @abc.abstractmethod
    def rows(self) -> Iterable[Any]:
        """Give all objects, in the order in which they are exported."""

    @abc.abstractmethod
    def find(self, name: str) -> Any | None:
        """Give the object of a name."""

    @abc.abstractmethod
    def spec(self, row: Any) -> dict[str, Any]:
        """Give an object's spec as a plain value, whole."""

    def name_of(self, row: Any) -> str:
        """Give an object's name in documents."""
        return str(row.name)

    def project_of(self, row: Any) -> str:
        """Give the slug of an object's project, "" where it has none."""
        return ""

    def wanted(self, document: Document, row: Any | None) -> Wanted:
        """Check what a document says.

        Raises:
            ValidationError: a value is wrong.
        """
        serializer = checked(self.spec_class, document.spec, partial=row is not None)
        values = serializer.validated_data
        return Wanted(
            values=values, spec={name: _named(serializer, name, value) for name, value in values.items()}
        )

    def after(self, row: Any | None, before: Mapping[str, Any] | None, wanted: Wanted) -> dict[str, Any]:
        """Give the spec that there will be: what a document leaves out stays as it is."""
        return {**(before or {}), **wanted.spec}

    @abc.abstractmethod
    def create(self, document: Document, wanted: Wanted, by: Applier) -> Done:
        """Make the object."""

    @abc.abstractmethod
    def change(
        self, row: Any, document: Document, wanted: Wanted, changed: frozenset[str], by: Applier
    ) -> Done:
        """Change the fields ``changed`` of an object."""

    def finish(self, row: Any, wanted: Wanted, by: Applier) -> None:
        """Do what has to wait until all objects of the kind are there."""
        return

    @abc.abstractmethod
    def remove(self, row: Any, by: Applier) -> Done:
        """Take the object away, or say why it is left."""

    def asked(self, row: Any) -> bool:
        """Say whether a change of it waits for somebody's agreement."""
        return False


def checked(
    spec_class: type[serializers.Serializer], spec: Mapping[str, Any], **options: Any
) -> serializers.Serializer:
    """Check a spec, telling all that is wrong at once: fields that there are not beside wrong values of others.

    Raises:
        ValidationError: something is.
    """
    known = spec_class(**options).fields
    serializer = spec_class(data={name: value for name, value in spec.items() if name in known}, **options)
    errors = {} if serializer.is_valid() else dict(serializer.errors)
    for name in spec.keys() - known.keys():
        errors[name] = [f"There is no such field here. {did_you_mean(name, known)}"]
    if errors:
        raise ValidationError(errors)
    return serializer


def changed_values(wanted: Wanted, changed: Iterable[str]) -> dict[str, Any]:
    """Give the values of the fields that change."""
    return {name: wanted.values[name] for name in changed}


def refuse_fixed(changed: Iterable[str], fixed: Iterable[str], *, why: str) -> None:
    """Refuse a change of what stays.

    Raises:
        Invalid: one of ``fixed`` would change.
    """
    found = [name for name in fixed if name in changed]
    if found:
        raise Invalid(why, errors={name: [why] for name in found})


class ModelSpec(StrictSerializer, serializers.ModelSerializer):
    """A spec that is a model's own fields."""

    def get_validators(self) -> list[Any]:
        return []  # the services look at the whole row


def fields_of(model: Any, *, without: Iterable[str]) -> list[str]:
    """Give the names of a model's own fields but for ``without``."""
    left_out = {"id", "created_at", *without}
    return [field.name for field in model._meta.concrete_fields if field.name not in left_out]


def fields_spec(row: Any, names: Iterable[str]) -> dict[str, Any]:
    """Give fields of a row as a plain value."""
    return {name: plain(getattr(row, name)) for name in names}


def _named(serializer: serializers.Serializer, name: str, value: Any) -> Any:
    field = serializer.fields.get(name)
    if value is not None and isinstance(field, ReferenceField):
        return getattr(value, field.by)
    if value is not None and isinstance(field, serializers.SlugRelatedField):
        return getattr(value, field.slug_field)
    return plain(value)
