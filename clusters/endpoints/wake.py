"""Telling the reconciler that an endpoint wants a look. The due row is the truth; the task only hurries."""

from __future__ import annotations

import functools
import logging

from celery import current_app
from celery.exceptions import OperationalError
from django.db import transaction
from django.db.models import F
from django.utils import timezone

from clusters.models import Endpoint

log = logging.getLogger(__name__)

RECONCILE = "clusters.endpoints.tasks.reconcile"


def wake(endpoint: Endpoint) -> None:
    """Make the endpoint due now and, once the transaction has committed, enqueue a pass."""
    Endpoint.objects.filter(id=endpoint.id).update(due_at=timezone.now(), wakes=F("wakes") + 1)
    transaction.on_commit(functools.partial(enqueue, str(endpoint.id)))


def enqueue(endpoint_id: str, delay: float = 0) -> None:
    """Enqueue a pass. A broker that is away costs only time: the sweeper finds the due row."""
    try:
        current_app.send_task(RECONCILE, args=[endpoint_id], countdown=delay or None, retry=False)
    except OperationalError as error:
        log.warning("broker away, endpoint %s waits for the sweeper: %s", endpoint_id, error)
