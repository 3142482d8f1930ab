"""What can go wrong with orders and endpoints."""

from __future__ import annotations

from tenants.errors import BerthError


class Impossible(BerthError):
    """No cluster can ever satisfy the order; ``refusals`` says which demand failed where."""

    code = "order-impossible"
    status = 422
    title = "No cluster can satisfy this order"


class PolicyRefused(BerthError):
    """The tenant's own policy does not allow it; ``extra`` names its version and who may change it."""

    code = "policy-refused"
    status = 403
    title = "The tenant's policy does not allow this"


class ApprovalNeeded(BerthError):
    """Somebody has to agree to it first, and nobody asked who could be told; ``extra`` names the rules."""

    code = "approval-needed"
    status = 409
    title = "This needs approval"


class ClusterAway(BerthError):
    """A cluster does not answer; ``retry_after`` says in how many seconds to try again."""

    code = "cluster-away"
    status = 503
    title = "The cluster does not answer"
