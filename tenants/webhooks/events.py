"""The events that tenants can be told of."""

from __future__ import annotations

from typing import Final

#: Type of an event, and when it happens.
EVENT_TYPES: Final = {
    "budget.threshold_reached": "A share of a budget's limit was spent.",
    "budget.spent": "A budget is spent: what its policy says holds from now on.",
    "budget.forecast_exceeded": "A budget is expected to pass its limit before its window ends.",
    "statement.finalized": "A statement is final and has its number.",
    "approval.requested": "Somebody has to agree to a wish: an order, a change, an exception.",
    "approval.decided": "A wish that somebody had to agree to was approved, refused, or ended otherwise.",
    "rollout.promoted": "A change of an endpoint is done: its new revision serves alone.",
    "rollout.undone": "A change of an endpoint was undone: its old revision serves, for a reason that is told.",
    "account.parked": "Statements stopped because the books of the tenant disagree; operators look into it.",
}

#: Sent by the button "Send test", whatever the webhook is told of.
TEST: Final = "webhook.test"
