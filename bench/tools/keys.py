"""``python -m bench.tools.keys TENANT COUNT``: give a tenant so many inference keys, of whose texts nothing is kept.

Runs in a process of its own because Django is set up for one database.
"""

from __future__ import annotations

import datetime as dt
import secrets
import sys

import django


def main(slug: str, count: int) -> None:
    """Make the keys."""
    django.setup()
    from django.utils import timezone

    from tenants import scope, secret_keys
    from tenants.models import ApiKey, KeyScope, Project, Tenant

    with scope.platform("find the tenant whose keys are made"):
        tenant = Tenant.objects.get(slug=slug)
    pepper_id, until = secret_keys.newest_pepper(), timezone.now() + dt.timedelta(days=90)
    with scope.tenant(tenant.id):
        project = Project.objects.earliest("created_at")
        ApiKey.objects.bulk_create(
            (
                ApiKey(
                    tenant=tenant, project=project, name=f"filling {number}", scope=KeyScope.INFERENCE,
                    hint="berth_bench_", digest=secrets.token_hex(32), pepper_id=pepper_id, expires_at=until,
                )
                for number in range(count)
            ),
            batch_size=2_000,
        )  # fmt: skip


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
