"""Workload profiles: named ones, how bursty a history is, and how far traffic left an order.

Where the named numbers come from is said with each. Azure: the 2023 traces of Azure's LLM inference (CC-BY 4.0;
Patel et al., Splitwise, ISCA 2024). Jiang: the nine workload types of Jiang et al., ICML 2025 (arXiv 2502.00722),
inputs of 2455, 824 or 496 tokens times outputs of 510, 253 or 18.
"""

from __future__ import annotations

import dataclasses
import enum
import math
import statistics
from collections.abc import Mapping
from typing import Final

from clusters.planning.performance.bursts import BUSIEST_OF_60
from clusters.planning.problem import LoadProfile, ProblemError

#: Outside the order: so many times more, or less, than was declared; so much more or less of prompts shared.
MORE: Final = 1.25
LESS: Final = 0.5
SHARE_APART: Final = 0.15

_normal = statistics.NormalDist()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Lengths:
    """Tokens of inputs or outputs, lognormal; ``cv`` is the standard deviation over the mean.

    Raises:
        ProblemError: no lengths are so distributed.
    """

    mean: float
    cv: float = 1.0

    def __post_init__(self) -> None:
        if not 1 <= self.mean < math.inf:
            raise ProblemError("mean", f"the mean length is at least 1 token, not {self.mean:g}")
        if not 0 <= self.cv <= 10:
            raise ProblemError(
                "cv", f"a coefficient of variation is 0 (always the same) to 10, not {self.cv:g}"
            )

    def quantile(self, part: float) -> float:
        """The length that ``part`` of them do not exceed.

        Raises:
            ValueError: ``part`` is not between 0 and 1.
        """
        if not 0 < part < 1:
            raise ValueError(f"{part} is not between 0 and 1")
        sigma = math.sqrt(math.log(1 + self.cv**2))
        return self.mean * math.exp(sigma * _normal.inv_cdf(part) - sigma**2 / 2)

    @property
    def p95(self) -> float:
        """The length that 19 of 20 do not exceed."""
        return self.quantile(0.95)


@dataclasses.dataclass(frozen=True, kw_only=True)
class NamedProfile:
    """A shape of load that can be ordered by name; the caps hold nearly all of its requests.

    ``burstiness`` is the busiest minute's rate over the mean rate, ``prefix_share`` the share of input tokens that
    a cache holds because other requests began with them.
    """

    name: str
    title: str
    description: str
    burstiness: float
    input: Lengths
    output: Lengths
    prefix_share: float
    context_tokens: int
    max_output_tokens: int
    source: str

    def at(self, requests_per_second: float) -> LoadProfile:
        """This shape at a rate."""
        return LoadProfile(
            requests_per_second=requests_per_second,
            input_tokens=round(self.input.mean),
            output_tokens=round(self.output.mean),
            burstiness=self.burstiness,
            input_cv=self.input.cv,
            output_cv=self.output.cv,
            prefix_share=self.prefix_share,
        )


CHAT: Final = NamedProfile(
    name="chat",
    title="Chat",
    description="People in conversation: prompts of about a page, answers of a paragraph or two.",
    burstiness=1.5,
    input=Lengths(mean=1155, cv=0.96),
    output=Lengths(mean=211, cv=0.77),
    prefix_share=0.0,
    context_tokens=8192,
    max_output_tokens=1024,
    source="Azure conversation trace, 19,366 requests; it does not tell what prompts share",
)
LONG_INPUT: Final = NamedProfile(
    name="long-input",
    title="Long input, short output",
    description="Completions and classifications: much to read, a line to write, in sudden bursts.",
    burstiness=3.8,
    input=Lengths(mean=2048, cv=1.0),
    output=Lengths(mean=28, cv=1.0),
    prefix_share=0.0,
    context_tokens=8192,
    max_output_tokens=256,
    source="Azure code trace, 8,819 requests: means and busiest minute; spreads are assumed",
)
LONG_OUTPUT: Final = NamedProfile(
    name="long-output",
    title="Short input, long output",
    description="Writing and reasoning: a short question, an answer as long or longer.",
    burstiness=1.5,
    input=Lengths(mean=496, cv=1.0),
    output=Lengths(mean=510, cv=1.0),
    prefix_share=0.0,
    context_tokens=8192,
    max_output_tokens=4096,
    source="Jiang's shortest inputs and longest outputs; spreads are assumed, bursts those of Azure's conversations",
)
RETRIEVAL: Final = NamedProfile(
    name="retrieval",
    title="Retrieval",
    description="Questions answered from passages that were found: fixed instructions, then much to read.",
    burstiness=1.5,
    input=Lengths(mean=2455, cv=0.5),
    output=Lengths(mean=253, cv=0.8),
    prefix_share=0.2,
    context_tokens=8192,
    max_output_tokens=1024,
    source="Jiang's longest inputs and middle outputs; spreads and the shared instructions are assumed",
)
BATCH: Final = NamedProfile(
    name="batch",
    title="Batch",
    description="Jobs that nobody waits for, sent as evenly as their sender likes.",
    burstiness=1.0,
    input=Lengths(mean=824, cv=1.0),
    output=Lengths(mean=253, cv=1.0),
    prefix_share=0.0,
    context_tokens=8192,
    max_output_tokens=2048,
    source="Jiang's middle inputs and outputs; spreads are assumed",
)

#: The named profiles by name.
NAMED: Final[Mapping[str, NamedProfile]] = {
    profile.name: profile for profile in (CHAT, LONG_INPUT, LONG_OUTPUT, RETRIEVAL, BATCH)
}


def burstiness_of(*, busiest_minute: float, mean_minute: float, minutes: float) -> float:
    """The busiest minute's rate over the mean rate, as of an hour, from the busiest of any number of minutes.

    Chance alone makes some minutes of a steady load busier: what the busiest exceeds the largest of so many
    Poisson counts by is taken as a normal spread of the rate. An hour's busiest minute has that and chance.
    """
    if mean_minute <= 0 or minutes < 1:
        return 1.0
    by_chance = _largest_poisson(mean_minute, minutes)
    farthest = max(_largest_normal(minutes), 0.5)
    spread = max(0.0, busiest_minute - by_chance) / mean_minute / farthest
    return 1 + BUSIEST_OF_60 * math.sqrt(spread**2 + 1 / mean_minute)


def _largest_normal(count: float) -> float:
    """The expected largest of ``count`` standard normal numbers (Blom, 1958)."""
    return _normal.inv_cdf((count - 0.375) / (count + 0.25)) if count > 1 else 0.0


def _largest_poisson(mean: float, count: float) -> float:
    """A count that the largest of ``count`` Poisson counts exceeds about every second time.

    Square roots of Poisson counts are about normal with deviation 1/2 (Anscombe, 1948).
    """
    return max(mean, (math.sqrt(mean + 3 / 8) + _largest_normal(count) / 2) ** 2 - 3 / 8)


class Part(enum.StrEnum):
    """What may leave an ordered profile."""

    RATE = "rate"
    INPUT = "input"
    OUTPUT = "output"
    MIX = "mix"  # how unlike requests are, and what their prompts share
    BURSTINESS = "burstiness"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Drift:
    """One part of the load that is outside the order. ``heavier`` loads ask for more than was planned."""

    part: Part
    declared: float
    seen: float
    heavier: bool
    message: str


def drift(declared: LoadProfile, learnt: LoadProfile) -> tuple[Drift, ...]:
    """Say which parts of ``learnt`` are outside ``declared``, and by how much."""
    steady = 1 + BUSIEST_OF_60 / math.sqrt(max(60 * learnt.requests_per_second, 1e-9))  # by chance alone
    return tuple(
        found
        for found in (
            _apart(
                Part.RATE, declared.requests_per_second, learnt.requests_per_second, "requests per second"
            ),
            _apart(Part.INPUT, declared.input_tokens, learnt.input_tokens, "input tokens in a mean request"),
            _apart(
                Part.OUTPUT, declared.output_tokens, learnt.output_tokens, "output tokens in a mean request"
            ),
            _apart(Part.MIX, declared.input_cv, learnt.input_cv, "as coefficient of variation of inputs"),
            _apart(Part.MIX, declared.output_cv, learnt.output_cv, "as coefficient of variation of outputs"),
            _shares_apart(declared.prefix_share, learnt.prefix_share),
            _apart(
                Part.BURSTINESS,
                max(declared.burstiness, steady),
                max(learnt.burstiness, steady),
                "times the mean rate in the busiest minute",
            ),
        )
        if found is not None
    )


def _apart(part: Part, declared: float, seen: float, what: str) -> Drift | None:
    if LESS * declared <= seen <= MORE * declared:
        return None
    times = f" (x{seen / declared:.2f})" if declared else ""
    return Drift(
        part=part,
        declared=declared,
        seen=seen,
        heavier=seen > declared,
        message=f"{seen:.4g} {what} where {declared:.4g} were ordered{times}",
    )


def _shares_apart(declared: float, seen: float) -> Drift | None:
    if abs(seen - declared) <= SHARE_APART:
        return None
    return Drift(
        part=Part.MIX,
        declared=declared,
        seen=seen,
        heavier=seen < declared,
        message=f"{seen:.0%} of input tokens found in the cache where {declared:.0%} were ordered",
    )
