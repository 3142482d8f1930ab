"""The demo's story, told on a running stack."""

from __future__ import annotations

from decimal import Decimal
from urllib.parse import urlsplit

import pytest

from portal.demo.story import ENDPOINT, tell

pytestmark = [pytest.mark.xdist_group("stack"), pytest.mark.timeout(400)]


def test_the_demo_reaches_the_statement_and_its_export(stack, owner):
    ports = {"WEB_PORT": stack.portal, "GATEWAY_PORT": stack.gateway}
    told = tell({name: str(urlsplit(url).port) for name, url in ports.items()}, say=lambda _: None)
    assert (told.endpoint, told.requests) == (ENDPOINT, 3)
    assert Decimal(told.allocation_cost) > 0
    assert Decimal(told.focus_cost) == Decimal(told.statement_total)
    assert told.focus_rows > 0
    (endpoint,) = owner.get("/endpoints", name=ENDPOINT)["results"]
    owner.delete(f"/endpoints/{endpoint['id']}")
