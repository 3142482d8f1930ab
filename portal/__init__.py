"""The front door and the project package: settings, urls, API router, pages. It owns no tables."""

from portal.celery import app as celery_app

__all__ = ["celery_app"]
