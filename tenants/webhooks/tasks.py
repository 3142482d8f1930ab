"""What Celery wakes of the outbox. The rows are the truth: the sweeper finds what nobody was woken for."""

from __future__ import annotations

import datetime as dt
from typing import Final

from celery import shared_task
from django.utils import timezone

from tenants import scope
from tenants.locks import Lock, held
from tenants.models import Mail, WebhookDelivery
from tenants.webhooks import wake
from tenants.webhooks.delivery import webhook_deliver
from tenants.webhooks.mailing import mail_send_due

MOST_PER_SWEEP: Final = 500
#: What was sent, was given up, or waits for a webhook that is not active, is kept for so long.
KEPT: Final = dt.timedelta(days=30)


@shared_task(name=wake.DELIVER)
def deliver(endpoint_id: str) -> int:
    """Send what is due for one webhook; return how many were taken."""
    return webhook_deliver(endpoint_id=endpoint_id)


@shared_task(name=wake.SEND_MAIL)
def send_mail() -> int:
    """Send what is due by e-mail; return how many were sent."""
    return mail_send_due()


@shared_task
def sweep() -> int:
    """Wake the sender of each webhook for which something is due, and that of e-mail; return how many were woken."""
    now = timezone.now()
    with scope.platform("find what is due to be sent"), held(Lock.OUTBOX) as mine:
        if not mine:
            return 0
        due = WebhookDelivery.objects.due(now).filter(endpoint__active=True).order_by()
        endpoints = list(due.values_list("endpoint_id", flat=True).distinct()[:MOST_PER_SWEEP])
        by_mail = Mail.objects.due(now).exists()
    for endpoint_id in endpoints:
        wake.wake(endpoint_id)
    if by_mail:
        wake.wake_mail()
    return len(endpoints) + by_mail


@shared_task
def forget_sent() -> int:
    """Delete what was to be sent more than 30 days ago; return how many rows."""
    with scope.platform("forget what was sent long ago"):
        old = {"created_at__lt": timezone.now() - KEPT, "since__lt": timezone.now() - KEPT}
        deliveries, _ = WebhookDelivery.objects.filter(**old).delete()
        mails, _ = Mail.objects.filter(**old).delete()
    return deliveries + mails
