"""Making evaluation sets, changing them into new versions, and taking them away."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from decimal import Decimal
from typing import Final

from django.db import transaction
from django.db.models import Q, QuerySet
from django.utils import timezone

from clusters.endpoints.evaluations import prompts as written
from clusters.endpoints.evaluations.prompts import Prompt
from clusters.models import CatalogModel, Endpoint, EvaluationSet, EvaluationVersion
from tenants import scope
from tenants.errors import Invalid, NotFound
from tenants.sealing import SealedField, seal, unseal
from tenants.validation import clean

#: Sets of one owner for one model or endpoint: each is asked at every change that asks for an evaluation.
MOST_SETS: Final = 20
USUAL_PERCENT: Final = Decimal(100)
#: Stands for "as it is" where None says something.
_KEEP: Final = Decimal(-1)


@transaction.atomic
def set_create(
    *,
    name: str,
    prompts: Sequence[Prompt],
    actor: str,
    tenant_id: uuid.UUID | None,
    model: CatalogModel | None = None,
    endpoint: Endpoint | None = None,
    pass_percent: Decimal | None = USUAL_PERCENT,
    most_drop: Decimal | None = None,
) -> EvaluationSet:
    """Make a set of a tenant's, for a model or one of its endpoints, or of the platform's (no tenant) for a model.

    Raises:
        Invalid: the name is taken, it is for nothing or for both, it demands nothing, or there are too many.
    """
    if (model is None) == (endpoint is None):
        raise Invalid(
            "An evaluation set is for a model or for an endpoint.", errors={"model": ["Give one of them."]}
        )
    there = EvaluationSet.objects.filter(
        tenant=tenant_id, model=model, endpoint=endpoint, removed_at=None
    ).count()
    if there >= MOST_SETS:
        raise Invalid(
            f"There are {MOST_SETS} sets for this already; remove one first, or add the prompts to one.",
            errors={"name": ["There are too many sets for this."]},
        )
    made = EvaluationSet(tenant_id=tenant_id, name=name, model=model, endpoint=endpoint)
    clean(made)
    made.save()
    _version(made, prompts, actor=actor, pass_percent=pass_percent, most_drop=most_drop)
    return made


@transaction.atomic
def set_change(
    *,
    evaluation_set: EvaluationSet,
    actor: str,
    name: str | None = None,
    prompts: Sequence[Prompt] | None = None,
    pass_percent: Decimal | None = _KEEP,
    most_drop: Decimal | None = _KEEP,
) -> EvaluationSet:
    """Change a set: other prompts or demands make a new version, which holds from then on. Runs keep theirs.

    Raises:
        Invalid: the name is taken, or it would demand nothing.
        NotFound: the set was removed.
    """
    held = EvaluationSet.objects.select_for_update().get(id=evaluation_set.id)
    if held.removed_at is not None:
        raise NotFound
    if name is not None and name != held.name:
        held.name = name
        clean(held)
        held.save(update_fields=["name"])
    newest = newest_version(held)
    before = opened(newest)
    wanted = tuple(before if prompts is None else prompts)
    percent = newest.pass_percent if pass_percent == _KEEP else pass_percent
    drop = newest.most_drop if most_drop == _KEEP else most_drop
    if (wanted, percent, drop) != (before, newest.pass_percent, newest.most_drop):
        held.version += 1
        held.save(update_fields=["version"])
        _version(held, wanted, actor=actor, pass_percent=percent, most_drop=drop)
    return held


@transaction.atomic
def set_remove(*, evaluation_set: EvaluationSet) -> None:
    """Take a set away: it is asked no more. What its versions came to is kept."""
    EvaluationSet.objects.filter(id=evaluation_set.id, removed_at=None).update(removed_at=timezone.now())


def sets_seen() -> QuerySet[EvaluationSet]:
    """Give the sets that the open scope sees: a tenant its own and the platform's."""
    rows = EvaluationSet.objects.filter(removed_at=None).select_related("model", "endpoint__project")
    opened_scope = scope.current()
    if opened_scope.is_platform:
        return rows
    return rows.filter(Q(tenant=None) | Q(tenant=opened_scope.tenant_id))


def sets_for(endpoint: Endpoint, model: CatalogModel) -> QuerySet[EvaluationSet]:
    """Give the sets that a revision of ``endpoint`` with ``model`` has to pass: its own, and those of the model.

    A variant is held to the sets of the model that it was made from as well. Call it in the endpoint's scope.
    """
    models = [each for each in (model.id, model.derived_from_id) if each is not None]
    rows = EvaluationSet.objects.filter(removed_at=None).filter(Q(tenant=None) | Q(tenant=endpoint.tenant_id))
    return rows.filter(Q(model__in=models) | Q(endpoint=endpoint)).order_by("id")


def newest_version(evaluation_set: EvaluationSet) -> EvaluationVersion:
    """Give the version that holds now."""
    return EvaluationVersion.objects.select_related("set").get(
        set=evaluation_set, number=evaluation_set.version
    )


def opened(version: EvaluationVersion) -> tuple[Prompt, ...]:
    """Give the prompts of a version.

    Raises:
        CannotOpen: they were changed in the database, or their key is gone.
        KeysAway: they cannot be opened now.
    """
    return written.unpacked(unseal(version.sealed, field=SealedField.of(version, "sealed")))


def _version(
    made: EvaluationSet,
    prompts: Sequence[Prompt],
    *,
    actor: str,
    pass_percent: Decimal | None,
    most_drop: Decimal | None,
) -> EvaluationVersion:
    if pass_percent is None and most_drop is None:
        text = "Say which share has to be passed, or how many points it may be below the old revision."
        raise Invalid(text, errors={"pass_percent": [text]})
    checks = [check for prompt in prompts for check in prompt.checks]
    version = EvaluationVersion(
        tenant_id=made.tenant_id,
        set=made,
        number=made.version,
        prompts=len(prompts),
        checks=len(checks),
        compares=most_drop is not None or any(check.similar is not None for check in checks),
        pass_percent=pass_percent,
        most_drop=most_drop,
        made_as=actor[:120],
    )
    version.sealed = seal(written.packed(prompts), field=SealedField.of(version, "sealed"))
    clean(version, identified_by="pass_percent")
    version.save()
    return version
