"""The Celery application. Tasks only wake services: due rows in PostgreSQL are the truth."""

import contextlib

from celery import Celery
from celery.signals import beat_init, celeryd_init, worker_process_init

app = Celery("berth")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks(
    [
        "clusters.endpoints",
        "billing.budgets",
        "billing.gpu_time",
        "billing.metering",
        "billing.statements",
        "tenants",
        "tenants.webhooks",
    ]
)


@celeryd_init.connect
@beat_init.connect
def _refuse(**_: object) -> None:
    import django

    from portal.checks import refuse_to_start

    django.setup()
    refuse_to_start()


@worker_process_init.connect
def _get_ready(**_: object) -> None:
    from django.db import DatabaseError, InterfaceError, connections

    from clusters.inventory.drivers import warm_up

    with contextlib.suppress(DatabaseError, InterfaceError):  # whoever comes first pays, then
        warm_up()
    connections.close_all()
