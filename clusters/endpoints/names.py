"""Names of what Berth makes on clusters, and of what clients call."""

from __future__ import annotations

import hashlib
import re

from clusters.models import Endpoint, NamedRoute
from tenants.errors import Invalid


def deployment_name(tenant_slug: str, endpoint_name: str, endpoint_id: object, revision: int) -> str:
    """Give a DNS label for a revision: readable, unique by a hash of the endpoint's id, at most 63 characters."""
    digest = hashlib.sha256(str(endpoint_id).encode()).hexdigest()[:8]
    readable = re.sub(r"[^a-z0-9-]+", "-", f"{tenant_slug}-{endpoint_name}".lower()).strip("-")
    tail = f"-{digest}-r{revision}"
    return readable[: 63 - len(tail)].rstrip("-") + tail


def refuse_name_of_route(name: str) -> None:
    """Check that the open tenant has no named route called ``name``: clients send either as the model.

    Call it with the tenant's lock held.

    Raises:
        Invalid: there is one.
    """
    if NamedRoute.objects.filter(name__iexact=name).exists():
        raise _taken(f"A named route is called {name} already; choose another name.")


def refuse_name_of_endpoint(name: str) -> None:
    """Check that the open tenant has no endpoint called ``name``; the counterpart of :func:`refuse_name_of_route`.

    Raises:
        Invalid: there is one.
    """
    if Endpoint.objects.live().filter(name__iexact=name).exists():
        raise _taken(f"An endpoint is called {name} already; choose another name.")


def _taken(text: str) -> Invalid:
    return Invalid(text, errors={"name": [text]})
