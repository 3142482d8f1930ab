"""Which replica gets a request: filter, score, pick. Pure functions over a snapshot."""

from gateway.routing.filter import allows, eligible, resides
from gateway.routing.pick import Target, choose, pick
from gateway.routing.score import least_outstanding

__all__ = ["Target", "allows", "choose", "eligible", "least_outstanding", "pick", "resides"]
