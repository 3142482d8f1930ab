"""Hurrying what is to be sent. The row of the outbox is the truth; the sweeper finds it anyway."""

from __future__ import annotations

import logging
import uuid
from typing import Final

from celery import current_app
from celery.exceptions import OperationalError

log = logging.getLogger(__name__)

DELIVER: Final = "tenants.webhooks.tasks.deliver"
SEND_MAIL: Final = "tenants.webhooks.tasks.send_mail"


def wake(endpoint_id: uuid.UUID) -> None:
    """Have what is due for a webhook delivered soon."""
    _enqueue(DELIVER, str(endpoint_id))


def wake_mail() -> None:
    """Have what is due by e-mail sent soon."""
    _enqueue(SEND_MAIL)


def _enqueue(task: str, *args: str) -> None:
    try:
        current_app.send_task(task, args=args, retry=False)
    except OperationalError as error:
        log.warning("broker away, %s waits for the sweeper: %s", task, error)
