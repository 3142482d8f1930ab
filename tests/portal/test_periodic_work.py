"""What Celery beat wakes is there to be woken."""

from __future__ import annotations

import pytest
from django.conf import settings

from portal.celery import app


@pytest.mark.parametrize("entry", sorted(settings.CELERY_BEAT_SCHEDULE))
def test_every_periodic_task_is_one_that_workers_know(entry):
    app.loader.import_default_modules()
    assert settings.CELERY_BEAT_SCHEDULE[entry]["task"] in app.tasks
