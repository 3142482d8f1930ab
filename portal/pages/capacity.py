"""What is told of a wait for capacity."""

from __future__ import annotations

from typing import Any

from clusters.endpoints.waiting import CapacityAnswer, capacity_of
from clusters.models import Endpoint
from portal.templatetags.berth import money


def endpoint_capacity(endpoint: Endpoint) -> dict[str, Any] | None:
    """Give an endpoint's wait as ``components/capacity.html`` takes it, None where it does not wait."""
    answer = capacity_of(endpoint)
    return show_capacity(answer, currency=endpoint.tenant.currency) if answer else None


def show_capacity(answer: CapacityAnswer, *, currency: str) -> dict[str, Any]:
    """Give a wait as ``components/capacity.html`` takes it; without its beginning for one that was not ordered."""
    return {
        "facts": [
            {"label": "Place in the queue", "value": f"{answer.position} of {answer.waiting}"},
            {"label": "Expected", "value": answer.estimate},
            {"label": "For GPUs of", "value": ", ".join(answer.pools)},
        ],
        "alternatives": [
            {
                "label": option["message"].split(":", 1)[0].capitalize(),
                "price": f"{money(option['price_per_hour'], currency)} per hour",
                "text": f"{option['gpus']} x {option['gpu']} in {option['precision']} on {option['cluster']}, "
                f"{option['region']}",
            }
            for option in answer.alternatives
        ],
    }
