"""The keys of a run: one for each revision that is asked, short-lived, sealed while it runs and revoked at its end."""

from __future__ import annotations

import dataclasses
import datetime as dt
from typing import Final

import msgspec

from clusters.models import EvaluationRun, Revision
from tenants.keys import key_mint, key_revoke
from tenants.models import ApiKey, KeyScope
from tenants.reach import InferenceVerb
from tenants.sealing import SealedField, seal, unseal

NAME: Final = "evaluation"
_LIFE: Final = dt.timedelta(hours=2)
#: With less than this left, keys are replaced before the next prompts are asked.
_LEAST: Final = dt.timedelta(minutes=30)


@dataclasses.dataclass(frozen=True)
class BoundKeys:
    """Texts of keys: for the new revision, and for the old one where that is asked ("" where not)."""

    new: str
    before: str
    until: dt.datetime


def bound_keys(run: EvaluationRun, now: dt.datetime) -> BoundKeys:
    """Give the keys of a run, minted where it has none that last. Call it while the run is held.

    Raises:
        CannotOpen: they were changed in the database, or their key is gone.
        KeysAway: they cannot be opened now.
    """
    field = SealedField.of(run, "sealed")
    # Nobody answers for one that sleeps, and its key alone wakes nothing.
    asks_before = run.before is not None and run.before.retired_at is None and run.before.replicas > 0
    if run.sealed is not None:
        held = msgspec.json.decode(unseal(run.sealed, field=field), type=BoundKeys)
        if held.until - now >= _LEAST:
            return held if asks_before else dataclasses.replace(held, before="")
    let_go(run)
    until = now + _LIFE
    found = BoundKeys(
        new=_mint(run, run.revision, until),
        before=_mint(run, run.before, until) if asks_before and run.before else "",
        until=until,
    )
    run.sealed = seal(msgspec.json.encode(found), field=field)
    run.save(update_fields=["sealed", "keys"])
    return found


def let_go(run: EvaluationRun) -> None:
    """Revoke the keys of a run. Call it while the run is held."""
    for key in ApiKey.objects.filter(id__in=run.keys, revoked_at=None):
        key_revoke(key=key)
    if run.sealed is not None:
        run.sealed = None
        run.save(update_fields=["sealed"])


def _mint(run: EvaluationRun, revision: Revision, until: dt.datetime) -> str:
    key, text = key_mint(
        name=NAME,
        key_scope=KeyScope.INFERENCE,
        project=run.endpoint.project,
        expires_at=until,
        ephemeral=True,
        revision=revision.id,
        narrowed={
            "endpoints": [run.endpoint_id],
            "verbs": [InferenceVerb.CHAT.value, InferenceVerb.COMPLETIONS.value],
        },
    )
    run.keys = [*run.keys, key.id]
    return text
