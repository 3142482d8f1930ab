"""The Celery application. Tasks only wake services: due rows in PostgreSQL are the truth."""

import contextlib
from typing import Any

from celery import Celery, Task
from celery.signals import (
    beat_init,
    before_task_publish,
    celeryd_init,
    task_postrun,
    task_prerun,
    worker_process_init,
)
from kombu.transport.redis import Channel
from redis.exceptions import ConnectionError

from tenants import acting

_connparams = Channel._connparams


def _params_of_an_open_connection(channel: Channel, asynchronous: bool = False) -> dict[str, Any]:
    if channel.connection is None or channel.connection.client is None:
        raise ConnectionError("the connection to the broker is closed")
    return _connparams(channel, asynchronous)


# A worker whose Redis died puts back, and acknowledges, what it had in hand over a connection that is closed already.
# kombu 5.7 then raises what Celery takes for a mistake in the program, and the worker ends; this it logs, and goes on.
Channel._connparams = _params_of_an_open_connection

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
        "tenants.identity",
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


ACTED = "berth_acted"  # the header in which a task carries who enqueued it, and in which request
_blocks: dict[str, contextlib.ExitStack] = {}


@before_task_publish.connect
def _tell_who_enqueued(headers: dict[str, Any], **_: object) -> None:
    if request := acting.request_id():
        headers[ACTED] = {"request": request, "by": acting.actor().name}


@task_prerun.connect
def _act_as_task(task_id: str, task: Task, **_: object) -> None:
    acted = (task.request.headers or {}).get(ACTED) or task.request.get(ACTED) or {}
    who = acting.Actor("task", task_id, task.name, str(acted.get("by", "")))
    stack = contextlib.ExitStack()
    stack.enter_context(acting.acting(acting.Acting(who=who, request_id=str(acted.get("request", "")))))
    _blocks[task_id] = stack


@task_postrun.connect
def _act_no_more(task_id: str, **_: object) -> None:
    if stack := _blocks.pop(task_id, None):
        stack.close()
