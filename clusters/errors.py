"""What can go wrong with orders and endpoints."""

from __future__ import annotations

from tenants.errors import BerthError


class Impossible(BerthError):
    """No cluster can ever satisfy the order; ``refusals`` says which demand failed where."""

    code = "order-impossible"
    status = 422
    title = "No cluster can satisfy this order"


class ClusterAway(BerthError):
    """A cluster does not answer; ``retry_after`` says in how many seconds to try again."""

    code = "cluster-away"
    status = 503
    title = "The cluster does not answer"
