"""Which replica gets a request: filter, score, pick. Plain Python over a snapshot and what was seen of replicas."""

from gateway.routing.affinity import PrefixIndex, cuts
from gateway.routing.breaker import Breaker
from gateway.routing.draw import draw, salted
from gateway.routing.filter import Option, allows, eligible, narrowed, options, resides
from gateway.routing.pick import Target, draw_revision, pick, stick
from gateway.routing.retries import RetryBudget, pause_s
from gateway.routing.score import least_tokens, scores

__all__ = [
    "Breaker",
    "Option",
    "PrefixIndex",
    "RetryBudget",
    "Target",
    "allows",
    "cuts",
    "draw",
    "draw_revision",
    "eligible",
    "least_tokens",
    "narrowed",
    "options",
    "pause_s",
    "pick",
    "resides",
    "salted",
    "scores",
    "stick",
]
