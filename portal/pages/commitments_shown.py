"""Commitments and credits of the open tenant as pages show them, its own and the operators'."""

from __future__ import annotations

import datetime as dt
from typing import Any

from billing.commitments import CommitmentUse, commitments_use
from billing.credits import CreditState, credit_balances
from billing.models import Commitment, Credit

#: Badges of a credit by where it stands: the tone and the word.
CREDIT_BADGES = {
    CreditState.COMING: ("info", "To come"),
    CreditState.AVAILABLE: ("ok", "Available"),
    CreditState.USED: ("info", "Used up"),
    CreditState.EXPIRED: ("warn", "Expired"),
}


def agreements_shown(*, now: dt.datetime) -> dict[str, Any]:
    """Give ``commitments`` with their use in the running month, ``overflow`` beside them, and ``credits``."""
    use = commitments_use(now=now)
    used = {each.commitment.id: each for each in use.uses}
    commitments = Commitment.objects.order_by("-ends_at", "-id")
    balances = credit_balances(Credit.objects.order_by("-available_from", "-id"), now=now)
    return {
        "commitments": [_commitment(each, used.get(each.id), now) for each in commitments],
        "overflow": [{"gpu_type": name, "gpu_hours": hours} for name, hours in use.overflow.items() if hours],
        "credits": [
            {
                "balance": balance,
                "credit": balance.credit,
                "tone": CREDIT_BADGES[balance.state][0],
                "word": CREDIT_BADGES[balance.state][1],
            }
            for balance in balances
        ],
    }


def _commitment(commitment: Commitment, use: CommitmentUse | None, now: dt.datetime) -> dict[str, Any]:
    if commitment.ends_at == commitment.starts_at:
        tone, word = "info", "Withdrawn"
    elif commitment.ends_at <= now:
        tone, word = "info", "Ended"
    elif commitment.starts_at > now:
        tone, word = "info", "To come"
    else:
        tone, word = "ok", "In force"
    return {
        "commitment": commitment,
        "tone": tone,
        "word": word,
        "use": use,
        "ends_early": commitment.ends_at > max(now, commitment.starts_at),
    }
