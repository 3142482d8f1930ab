"""What clients are told of their limits: headers with every answer, and refusals."""

from __future__ import annotations

import math
from collections.abc import Sequence

from gateway import errors
from gateway.limits.book import Limit, Unit
from gateway.limits.charges import Charge, Verdict


def headers(limits: Sequence[Limit], charges: Sequence[Charge], verdict: Verdict) -> dict[str, str]:
    """Give OpenAI's ``x-ratelimit-`` headers: for each unit those of the limit with the least left.

    ``limit`` is what this gateway, or the gateways it shares counters with, may let through; ``reset`` when
    nothing of what counts now will count any more.
    """
    tightest: dict[Unit, tuple[int, int, float]] = {}
    for limit, charge, used, reset_s in zip(limits, charges, verdict.used, verdict.resets_s, strict=True):
        left = max(0, charge.limit - used)
        if limit.unit not in tightest or left < tightest[limit.unit][0]:
            tightest[limit.unit] = (left, charge.limit, reset_s)
    found = {}
    for unit, (left, most, reset_s) in tightest.items():
        found[f"x-ratelimit-limit-{unit}"] = str(most)
        found[f"x-ratelimit-remaining-{unit}"] = str(left)
        found[f"x-ratelimit-reset-{unit}"] = f"{math.ceil(reset_s * 1000) / 1000:g}s"
    return found


def exceeded(limits: Sequence[Limit], charges: Sequence[Charge], verdict: Verdict) -> errors.ApiError:
    """A limit has no room for the request now (429)."""
    limit, charge = limits[verdict.refused], charges[verdict.refused]
    wait_ms = max(1, math.ceil(verdict.wait_s * 1000))
    need = f", and this request may use {charge.cost}" if limit.unit is Unit.TOKENS else ""
    return errors.ApiError(
        status=429,
        message=(
            f"Rate limit reached: {_of(limit)}{_share(limit, charge.limit)}{need}."
            f" There is room again in {wait_ms / 1000:g} s."
        ),
        type="rate_limit_error",
        code="rate_limit_exceeded",
        retry_after_s=math.ceil(wait_ms / 1000),
        more_headers={"retry-after-ms": str(wait_ms), **headers(limits, charges, verdict)},
    )


def too_large(limit: Limit, *, cost: int, share: int) -> errors.ApiError:
    """The request alone is over a limit, so that waiting does not help (429)."""
    return errors.ApiError(
        status=429,
        message=(
            f"This request may use {cost} tokens, its prompt and max_tokens together. That is over a limit:"
            f" {_of(limit)}{_share(limit, share)}. Shorten the prompt or lower max_tokens; to send it again as it"
            " is will not help."
        ),
        type="rate_limit_error",
        code="rate_limit_exceeded",
        more_headers={
            "x-should-retry": "false",
            f"x-ratelimit-limit-{limit.unit}": str(share),
        },
    )


def _of(limit: Limit) -> str:
    return f"{limit.owner} {limit.name!r} may use {limit.number} {limit.unit} per minute"


def _share(limit: Limit, share: int) -> str:
    return "" if share >= limit.number else f" ({share} of them here)"
