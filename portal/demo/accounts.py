"""Who is who in the demo. The password is no secret: it guards made-up data on this machine alone."""

from __future__ import annotations

import dataclasses

PASSWORD = "berth-demo-only"  # noqa: S105
OPERATOR = "operator@berth.example"
FINANCE = "finance@berth.example"
AUDITOR = "auditor@berth.example"
GATEWAY = "gw-frankfurt-1"
GATEWAY_REGION = "eu-de-1"


@dataclasses.dataclass(frozen=True)
class DemoTenant:
    """One tenant of the demo."""

    name: str
    slug: str
    owner: str
    owner_name: str
    developer: str
    time_zone: str
    gpus: int


TENANTS = (
    DemoTenant(
        "Nordwind Logistics", "nordwind", "ada@nordwind.example", "Ada Berg", "dev@nordwind.example",
        "Europe/Berlin", 16,
    ),
    DemoTenant(
        "Atlas Insurance", "atlas", "noor@atlas.example", "Noor Haddad", "dev@atlas.example", "America/New_York", 4,
    ),
)  # fmt: skip
