"""Telling gateways that rows changed from which they serve.

It stands in the lowest room, for keys, projects and budgets change here and in billing; who listens, and what a
gateway is then given, is the clusters room's.
"""

from __future__ import annotations

from typing import Final

from tenants import notices

CHANNEL: Final = "berth_snapshot"


def announce() -> None:
    """Let waiting gateways look again, once the open transaction has committed."""
    notices.announce(CHANNEL)
