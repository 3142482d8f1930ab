"""The catalog and the SLO classes: what may be ordered, and what is promised with it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any, Final

from django.db import transaction

from clusters.models import CatalogModel, SloClass
from clusters.planning import problem
from tenants.errors import Invalid
from tenants.services import clean

#: How an engine can be run, preferred first.
RUNTIMES: Final = ("triton-llmapi", "triton-engine", "triton-python")

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
    derived_from: CatalogModel | None = None,
    published: bool = True,
) -> CatalogModel:
    """Add a model to the catalog.

    Raises:
        Invalid: the name is taken, or the planner could not work with its numbers; the message names which.
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
        allowed_zones=allowed_zones or [],
        derived_from=derived_from,
        published=published,
    )
    _check_numbers(model)
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
    published: bool | None = None,
) -> CatalogModel:
    """Change what is given of how a model is offered; endpoints that were ordered go on.

    Its numbers never change: what was planned with them would no longer hold. Add another model instead.
    """
    wishes = {
        "title": title,
        "description": description,
        "licence": licence,
        "allowed_zones": allowed_zones,
        "published": published,
    }
    return _change(model, wishes)


@transaction.atomic
def slo_class_add(*, name: str, **values: Any) -> SloClass:
    """Add an SLO class; ``values`` are fields of :class:`SloClass`.

    Raises:
        Invalid: the name is taken, or a value is out of bounds.
    """
    slo_class = SloClass(name=name, **values)
    _check_promises(slo_class)
    clean(slo_class)
    slo_class.save()
    return slo_class


@transaction.atomic
def slo_class_change(*, slo_class: SloClass, **wishes: Any) -> SloClass:
    """Change fields of an SLO class.

    Gateways follow new timeouts and attempts at once; new targets hold for plans made from now on.

    Raises:
        Invalid: a value is out of bounds.
    """
    return _change(slo_class, wishes, check=_check_promises)


def _change(row: Any, wishes: Mapping[str, Any], check: Callable[[Any], None] | None = None) -> Any:
    changed = [field for field, wish in wishes.items() if wish is not None and wish != getattr(row, field)]
    # A latency target is given up by None.
    changed += [
        field
        for field in ("ttft_p95_ms", "itl_p95_ms")
        if field in wishes and wishes[field] is None and getattr(row, field) is not None
    ]
    for field in changed:
        setattr(row, field, wishes[field])
    if changed:
        if check:
            check(row)
        clean(row)
        row.save(update_fields=changed)
    return row


def _check_numbers(model: CatalogModel) -> None:
    missing = [name for name in ARCHITECTURE if not isinstance(model.architecture.get(name), int)]
    if missing:
        raise Invalid(
            f"The planner needs whole numbers for: {', '.join(missing)}.",
            errors={name: ["Give a whole number."] for name in missing},
        )
    unknown = [name for name in model.runtimes if name not in RUNTIMES]
    if unknown or not model.runtimes:
        offered = ", ".join(RUNTIMES)
        raise Invalid(f"Choose runtimes from {offered}.", errors={"runtimes": [f"Choose from {offered}."]})
    try:
        problem.ModelSpec(
            name=model.name,
            context_limit=model.context_tokens,
            precisions=tuple(problem.Precision(name) for name in model.precisions),
            runtimes=tuple(model.runtimes),
            **{theirs: model.architecture[ours] for ours, theirs in ARCHITECTURE.items()},
        )
    except problem.ProblemError as error:
        text = str(error)
        raise Invalid(text, errors={_FIELDS.get(error.field, error.field): [text]}) from error
    except ValueError as error:
        offered = ", ".join(problem.Precision)
        raise Invalid(
            f"Choose precisions from {offered}.", errors={"precisions": [f"From {offered}."]}
        ) from error


_FIELDS: Final = {f"model.{theirs}": ours for ours, theirs in ARCHITECTURE.items()} | {
    "model.context_limit": "context_tokens",
    "model.precisions": "precisions",
}


def _check_promises(slo_class: SloClass) -> None:
    errors: dict[str, list[str]] = {}
    if not Decimal(0) < slo_class.availability < Decimal(1):
        errors["availability"] = ["Write a share above 0 and below 1, for instance 0.999 for 99.9 %."]
    if slo_class.price_factor <= 0:
        errors["price_factor"] = ["The factor on prices must be above 0."]
    if slo_class.priority < 1:
        errors["priority"] = ["1 is the first."]
    if slo_class.attempts < 1:
        errors["attempts"] = ["At least one attempt."]
    for name in ("connect_timeout_s", "first_token_timeout_s", "between_tokens_timeout_s", "total_timeout_s"):
        if getattr(slo_class, name) <= 0:
            errors[name] = ["A timeout must be longer than 0 seconds."]
    if not errors and slo_class.first_token_timeout_s > slo_class.total_timeout_s:
        errors["first_token_timeout_s"] = [
            "Waiting for the first token cannot take longer than the whole answer."
        ]
    if errors:
        raise Invalid(next(iter(errors.values()))[0], errors=errors)
