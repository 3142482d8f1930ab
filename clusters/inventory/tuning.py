"""The table that turns an SLO class into engine settings: read and changed by operators."""

from __future__ import annotations

import dataclasses
from typing import Any, Final

from django.db import transaction

from clusters.models import ClassTuning, SloClass
from clusters.specs import Tuning
from clusters.triton.tuning import defaults_for
from tenants.errors import Invalid
from tenants.validation import clean

FIELDS: Final = tuple(field.name for field in dataclasses.fields(Tuning))


@transaction.atomic
def tuning_bootstrap() -> None:
    """Give every SLO class that has no engine settings those it starts with."""
    for slo_class in SloClass.objects.filter(tuning=None):
        ClassTuning.objects.create(slo_class=slo_class, **dataclasses.asdict(_defaults(slo_class)))


def tuning_of(slo_class: SloClass) -> Tuning:
    """Give the engine settings of a class: its row of the table, or the defaults."""
    row = ClassTuning.objects.filter(slo_class=slo_class).first()
    if row is None:
        return _defaults(slo_class)
    return Tuning(**{name: getattr(row, name) for name in FIELDS})


@transaction.atomic
def tuning_change(*, slo_class: SloClass, **values: Any) -> ClassTuning:
    """Change engine settings of a class; ``values`` are fields of :class:`clusters.specs.Tuning`.

    Revisions made before keep theirs.

    Raises:
        Invalid: there is no such setting, or a value is out of bounds.
    """
    unknown = sorted(set(values) - set(FIELDS))
    if unknown:
        raise Invalid(
            f"There is no engine setting {', '.join(unknown)}.",
            errors={name: [f"Choose from {', '.join(FIELDS)}."] for name in unknown},
        )
    row = ClassTuning.objects.select_for_update().filter(slo_class=slo_class).first()
    if row is None:
        row = ClassTuning(slo_class=slo_class, **dataclasses.asdict(_defaults(slo_class)))
    for name, value in values.items():
        setattr(row, name, value)
    clean(row, identified_by="slo_class")
    if row.max_batch_size is not None and row.max_num_tokens < row.max_batch_size:
        text = "An iteration must hold at least one token of every request of the batch."
        raise Invalid(text, errors={"max_num_tokens": [text]})
    row.save()
    return row


def _defaults(slo_class: SloClass) -> Tuning:
    return defaults_for(
        slo_class.name,
        ttft_bound=slo_class.ttft_p95_ms is not None,
        itl_bound=slo_class.itl_p95_ms is not None,
    )
