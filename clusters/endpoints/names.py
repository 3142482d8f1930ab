"""Names of what Berth makes on clusters."""

from __future__ import annotations

import hashlib
import re


def deployment_name(tenant_slug: str, endpoint_name: str, endpoint_id: object, revision: int) -> str:
    """Give a DNS label for a revision: readable, unique by a hash of the endpoint's id, at most 63 characters."""
    digest = hashlib.sha256(str(endpoint_id).encode()).hexdigest()[:8]
    readable = re.sub(r"[^a-z0-9-]+", "-", f"{tenant_slug}-{endpoint_name}".lower()).strip("-")
    tail = f"-{digest}-r{revision}"
    return readable[: 63 - len(tail)].rstrip("-") + tail
