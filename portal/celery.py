"""The Celery application. Tasks only wake services: due rows in PostgreSQL are the truth."""

from celery import Celery

app = Celery("berth")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks(["clusters.endpoints", "billing.metering", "tenants"])
