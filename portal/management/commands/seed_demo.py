"""Fill the embedded installation with a small estate and two tenants to look around in."""

from __future__ import annotations

from decimal import Decimal

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand
from django.db import transaction

from billing.gpu_time.rates import asset_rate_set
from clusters.inventory import services as inventory
from clusters.inventory.gateways import gateway_register
from clusters.models import Cluster, GpuType, Region
from portal.demo.accounts import AUDITOR, FINANCE, GATEWAY, OPERATOR, PASSWORD, TENANTS
from tenants import scope, services
from tenants.members import member_add
from tenants.models import PlatformRole, Role, Tenant, User

REGIONS = [
    ("eu-de-1", "Frankfurt", "DE", ["EU", "EEA"], ["ISO27001", "C5"]),
    ("eu-fi-1", "Helsinki", "FI", ["EU", "EEA"], ["ISO27001"]),
    ("us-east-1", "Ashburn", "US", ["US"], ["ISO27001", "SOC2"]),
]
CLUSTERS = [
    ("frankfurt-a", "eu-de-1", [("h100", "h100_sxm", 2, 8), ("l40s", "l40s", 3, 4)]),
    ("helsinki-a", "eu-fi-1", [("l4", "l4", 4, 4)]),
    ("ashburn-a", "us-east-1", [("h200", "h200_sxm", 1, 8)]),
]
#: What an hour of a GPU costs whoever owns the demo's estate.
ASSET_RATES = {"h100_sxm": "1.60", "h200_sxm": "1.95", "l40s": "0.55", "l4": "0.28"}


class Command(BaseCommand):
    help = __doc__

    @transaction.atomic
    def handle(self, *args, **options) -> None:
        call_command("bootstrap", verbosity=0)
        if not Region.objects.exists():
            _make_estate()
        # The gateway's token comes from the data folder, which may have been made anew.
        gateway_register(
            name=GATEWAY,
            region=Region.objects.get(code="eu-de-1"),
            public_url=settings.GATEWAY_PUBLIC_URL,
            token=settings.EMBEDDED_GATEWAY_TOKEN,
        )
        if not User.objects.filter(email=OPERATOR).exists():
            User.objects.create_user(
                OPERATOR, PASSWORD, name="Olga Operator", platform_role=PlatformRole.OPERATOR, is_staff=True,
                is_superuser=True,
            )  # fmt: skip
        for email, name, role in (
            (FINANCE, "Fay Finance", PlatformRole.FINANCE),
            (AUDITOR, "Aude Auditor", PlatformRole.AUDITOR),
        ):
            if not User.objects.filter(email=email).exists():
                User.objects.create_user(email, PASSWORD, name=name, platform_role=role)
        for demo in TENANTS:
            with scope.platform("seed the demo"):
                exists = Tenant.objects.filter(slug=demo.slug).exists()
            if not exists:
                _make_tenant(demo)


def _make_estate() -> None:
    regions = {
        code: inventory.region_register(
            code=code, name=name, country=country, zones=zones, certifications=certifications
        )
        for code, name, country, zones, certifications in REGIONS
    }
    for name, region, pools in CLUSTERS:
        cluster = inventory.cluster_register(
            name=name,
            region=regions[region],
            driver=Cluster.DriverKind.LOCAL,
            runtimes=["triton-python"],
            declared=True,
        )
        for pool, gpu_type, nodes, gpus_per_node in pools:
            inventory.pool_add(
                cluster=cluster,
                name=pool,
                gpu_type=GpuType.objects.get(name=gpu_type),
                nodes=nodes,
                gpus_per_node=gpus_per_node,
            )
    for gpu_type, amount in ASSET_RATES.items():
        asset_rate_set(
            amount=Decimal(amount),
            currency=settings.CURRENCY,
            gpu_type=gpu_type,
            note="Leasing, power and space.",
        )


def _make_tenant(demo) -> None:
    owner = User.objects.create_user(demo.owner, PASSWORD, name=demo.owner_name)
    tenant = services.tenant_create(
        name=demo.name, slug=demo.slug, owner=owner, time_zone=demo.time_zone, currency=settings.CURRENCY,
        gpus=demo.gpus,
    )  # fmt: skip
    with scope.tenant(tenant.id):
        services.project_create(name="Customer assistant", slug="assistant", cost_centre="CC-4200")
        member_add(
            email=demo.developer,
            role=Role.DEVELOPER,
            granter_role=Role.OWNER,
            name="Dev",
            password=PASSWORD,
        )
