"""An order that can be placed, and placing it."""

from __future__ import annotations

from tests.api.contract import API
from tests.estate import MODEL

ORDER = {"project": "default", "model": MODEL, "slo_class": "standard", "residency": "zone:EU"}


def order(client, name: str = "chat", **changes) -> dict:
    """Place :data:`ORDER` under a name, with changes, and give what was answered."""
    response = client.post(f"{API}/endpoints", {**ORDER, "name": name} | changes)
    assert response.status_code == 201, response.content
    return response.json()
