"""The catalog: what may be ordered, and where its weights are."""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import Callable, Mapping
from typing import Any, Final

from django.db import transaction

from clusters.inventory.weights import check_notes, check_secrets, check_weights, opened, sealed
from clusters.models import CatalogModel, ModelSecret, Region
from clusters.planning import problem
from clusters.planning.architecture import Architecture, ArchitectureError
from clusters.specs import Weights, WeightsKind
from tenants import scope
from tenants.errors import Invalid
from tenants.sealing import SealedField
from tenants.validation import clean

#: How an engine can be run, preferred first.
RUNTIMES: Final = ("triton-llmapi", "trtllm-serve", "triton-engine", "triton-python")

#: Numbers of ``CatalogModel.architecture`` and the planner's names for them.
ARCHITECTURE: Final = {
    "parameters": "parameters_total",
    "active_parameters": "parameters_active",
    "layers": "layers",
    "hidden": "hidden_size",
    "heads": "heads",
    "kv_heads": "kv_heads",
    "head_size": "head_size",
    "vocabulary": "vocabulary",
}

#: Numbers that only some models have, 0 where they are not given; see ``clusters.planning.architecture``.
OPTIONAL_ARCHITECTURE: Final = tuple(
    field.name for field in dataclasses.fields(Architecture) if field.default is not dataclasses.MISSING
)


@transaction.atomic
def model_add(
    *,
    name: str,
    title: str,
    description: str,
    licence: str,
    runtimes: list[str],
    precisions: list[str],
    architecture: Mapping[str, int],
    context_tokens: int,
    chat_template: str,
    allowed_zones: list[str] | None = None,
    tool_parser: str = "",
    derived_from: CatalogModel | None = None,
    published: bool = True,
    weights_kind: str = WeightsKind.BUILT_IN,
    weights_uri: str = "",
    weights_revision: str = "",
    weights_size_gib: float = 0.0,
    weights_zones: list[str] | None = None,
    weights_quantize: Mapping[str, str] | None = None,
    precision_notes: Mapping[str, Any] | None = None,
) -> CatalogModel:
    """Add a model to the catalog. The ``weights_`` values and notes are those of :func:`model_weights_set`.

    The first of ``precisions`` is the checkpoint's own. ``architecture`` has all numbers of
    :data:`ARCHITECTURE` and may have those of :data:`OPTIONAL_ARCHITECTURE`.

    Raises:
        Invalid: the name is taken, the planner could not work with its numbers, or its weights' address
            does not fit their kind; the message names which.
    """
    model = CatalogModel(
        name=name,
        title=title,
        description=description,
        licence=licence,
        runtimes=runtimes,
        precisions=precisions,
        architecture=dict(architecture),
        context_tokens=context_tokens,
        chat_template=chat_template,
        tool_parser=tool_parser,
        allowed_zones=allowed_zones or [],
        derived_from=derived_from,
        published=published,
        weights_kind=str(weights_kind),
        weights_uri=weights_uri,
        weights_revision=weights_revision,
        weights_size_gib=weights_size_gib,
        weights_zones=weights_zones or [],
        weights_quantize=dict(weights_quantize or {}),
        precision_notes=dict(precision_notes or {}),
    )
    _check_numbers(model)
    _check_offer(model)
    clean(model)
    model.save()
    return model


@transaction.atomic
def model_change(
    *,
    model: CatalogModel,
    title: str | None = None,
    description: str | None = None,
    licence: str | None = None,
    allowed_zones: list[str] | None = None,
    tool_parser: str | None = None,
    published: bool | None = None,
    weights_kind: str | None = None,
    weights_uri: str | None = None,
    weights_revision: str | None = None,
    weights_size_gib: float | None = None,
    weights_zones: list[str] | None = None,
    weights_quantize: Mapping[str, str] | None = None,
    precision_notes: Mapping[str, Any] | None = None,
) -> CatalogModel:
    """Change what is given of how a model is offered; endpoints that were ordered go on.

    Its numbers never change: what was planned with them would no longer hold. Add another model instead.

    Raises:
        Invalid: the weights' address does not fit their kind, a note is of no precision on offer, or another
            value is malformed.
    """
    wishes = {
        "title": title,
        "description": description,
        "licence": licence,
        "allowed_zones": allowed_zones,
        "tool_parser": tool_parser,
        "published": published,
        "weights_kind": weights_kind and str(weights_kind),
        "weights_uri": weights_uri,
        "weights_revision": weights_revision,
        "weights_size_gib": weights_size_gib,
        "weights_zones": weights_zones,
        "weights_quantize": weights_quantize and dict(weights_quantize),
        "precision_notes": precision_notes and dict(precision_notes),
    }
    return _change(model, wishes, check=_check_offer)


def model_weights_set(
    *,
    model: CatalogModel,
    kind: str,
    uri: str = "",
    revision: str = "",
    size_gib: float = 0.0,
    zones: list[str] | None = None,
    quantize: Mapping[str, str] | None = None,
    notes: Mapping[str, Any] | None = None,
) -> CatalogModel:
    """Say where a model's weights come from; engines that run keep what they were started with.

    ``zones`` are the regions or zones where ``uri`` stands, empty when nobody knows. ``quantize`` gives, for a
    precision, what a job makes of the checkpoint before it is served. ``notes`` give, for such a precision, what
    is known of its answers (``note``) and whether an order must accept it (``needs_approval``): without a note
    it is not offered. None leaves the notes as they are.

    Raises:
        Invalid: the address does not fit the kind, or a zone or quantization is unknown, or a note is of no
            precision on offer.
    """
    return model_change(
        model=model,
        weights_kind=kind,
        weights_uri=uri,
        weights_revision=revision,
        weights_size_gib=size_gib,
        weights_zones=zones or [],
        weights_quantize=quantize or {},
        precision_notes=notes,
    )


@transaction.atomic
def model_secret_set(*, model: CatalogModel, values: Mapping[str, str]) -> CatalogModel:
    """Keep the platform's credentials for fetching a model's weights; none takes them away.

    ``values`` are environment variables of the job that fetches, for instance HF_TOKEN.

    Raises:
        Invalid: a name or a value cannot be an environment variable.
    """
    check_secrets(values)
    model.weights_secret = sealed(values, field=SealedField.of(model, "weights_secret"))
    model.save(update_fields=["weights_secret"])
    return model


@transaction.atomic
def tenant_model_secret_set(*, model: CatalogModel, values: Mapping[str, str]) -> ModelSecret | None:
    """Keep the open tenant's own credentials for a model's weights; none takes them away and gives None.

    Raises:
        Invalid: a name or a value cannot be an environment variable.
    """
    check_secrets(values)
    secret = ModelSecret.objects.select_for_update().filter(model=model).first()
    if not values:
        if secret is not None:
            secret.delete()
        return None
    if secret is None:
        secret = ModelSecret(tenant_id=scope.current_tenant_id(), model=model)
    secret.sealed = sealed(values, field=SealedField.of(secret, "sealed"))
    secret.save()
    return secret


def weights_of(model: CatalogModel, *, precision: str = "") -> Weights:
    """Give where a model's weights come from and what is made of them for ``precision``."""
    return Weights(
        kind=WeightsKind(model.weights_kind),
        uri=model.weights_uri,
        revision=model.weights_revision,
        size_gib=model.weights_size_gib,
        quantize=model.weights_quantize.get(precision, ""),
    )


def weights_places(model: CatalogModel) -> frozenset[str]:
    """Give the places where a model's weights lie, a region with the zones it belongs to; empty when unknown."""
    named = set(model.weights_zones)
    if not named:
        return frozenset()
    regions = Region.objects.filter(code__in=named).values_list("zones", flat=True)
    return frozenset(named.union(*regions))


def weights_secrets(model: CatalogModel, tenant_id: uuid.UUID | str) -> dict[str, str]:
    """Give the credentials for fetching weights for a tenant: its own, else the platform's, else none.

    They are never mixed: half of one and half of the other would open nothing.

    Raises:
        CannotOpen: a secret was changed in the database, or copied from another row, or its key is gone.
        KeysAway: it cannot be opened now.
    """
    with scope.tenant(tenant_id):
        secret = ModelSecret.objects.filter(model=model).first()
    if secret is not None:
        return opened(secret.sealed, field=SealedField.of(secret, "sealed"))
    if model.weights_secret:
        return opened(model.weights_secret, field=SealedField.of(model, "weights_secret"))
    return {}


def _change(row: CatalogModel, wishes: Mapping[str, Any], check: Callable[[Any], None]) -> CatalogModel:
    changed = [field for field, wish in wishes.items() if wish is not None and wish != getattr(row, field)]
    for field in changed:
        setattr(row, field, wishes[field])
    if changed:
        check(row)
        clean(row)
        row.save(update_fields=changed)
    return row


def _check_offer(model: CatalogModel) -> None:
    check_weights(model)
    check_notes(model)


def _check_numbers(model: CatalogModel) -> None:
    missing = [name for name in ARCHITECTURE if not isinstance(model.architecture.get(name), int)]
    if missing:
        raise Invalid(
            f"The planner needs whole numbers for: {', '.join(missing)}.",
            errors={name: ["Give a whole number."] for name in missing},
        )
    strange = sorted(set(model.architecture) - set(ARCHITECTURE) - set(OPTIONAL_ARCHITECTURE))
    strange += [
        name for name in OPTIONAL_ARCHITECTURE if not isinstance(model.architecture.get(name, 0), int)
    ]
    if strange:
        raise Invalid(
            f"The planner knows no such numbers: {', '.join(strange)}.",
            errors={name: ["Give a whole number that the planner knows."] for name in strange},
        )
    unknown = [name for name in model.runtimes if name not in RUNTIMES]
    if unknown or not model.runtimes:
        offered = ", ".join(RUNTIMES)
        raise Invalid(f"Choose runtimes from {offered}.", errors={"runtimes": [f"Choose from {offered}."]})
    try:
        problem.ModelSpec(
            name=model.name,
            architecture=architecture_of(model),
            context_limit=model.context_tokens,
            precisions=tuple(problem.Precision(name) for name in model.precisions),
            runtimes=tuple(model.runtimes),
        )
    except (problem.ProblemError, ArchitectureError) as error:
        text = str(error)
        raise Invalid(text, errors={_FIELDS.get(error.field, error.field): [text]}) from error
    except ValueError as error:
        offered = ", ".join(problem.Precision)
        raise Invalid(
            f"Choose precisions from {offered}.", errors={"precisions": [f"From {offered}."]}
        ) from error


def architecture_of(model: CatalogModel) -> Architecture:
    """Give a catalog model's numbers as the planner takes them.

    Raises:
        ArchitectureError: they contradict each other.
    """
    numbers = model.architecture
    return Architecture(
        **{theirs: numbers[ours] for ours, theirs in ARCHITECTURE.items()},
        **{name: numbers[name] for name in OPTIONAL_ARCHITECTURE if name in numbers},
    )


_FIELDS: Final = {theirs: ours for ours, theirs in ARCHITECTURE.items()} | {
    "model.context_limit": "context_tokens",
    "model.precisions": "precisions",
}
