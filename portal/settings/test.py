"""The test run: real PostgreSQL and Redis under a data folder of their own, started on import."""

import os
from pathlib import Path

os.environ.setdefault("BERTH_DATA_DIR", str(Path(__file__).resolve().parent.parent.parent / ".berth-test"))
os.environ.setdefault("DJANGO_SECRET_KEY", "only-for-tests-" + "x" * 40)
os.environ.setdefault("BERTH_KEY_PEPPERS", "1:" + "ab" * 32)
os.environ.setdefault("BERTH_SEALING_KEYS", "1:" + "5e" * 32)
os.environ.setdefault("BERTH_SIGNING_KEYS", "1:" + "51" * 32 + ",2:" + "52" * 32)

from embedded import datadir, services

_services = services.start(datadir.open_data_dir())
os.environ.setdefault("DATABASE_URL", _services.database_url)
os.environ.setdefault("DATABASE_OWNER_URL", _services.database_owner_url)
os.environ.setdefault("CELERY_BROKER_URL", _services.redis_url)

from portal.settings.base import *  # noqa: E402, F403

ALLOWED_HOSTS = ["*"]
# Nothing is collected for a test run; WhiteNoise would warn of the missing folder.
MIDDLEWARE = [each for each in MIDDLEWARE if not each.startswith("whitenoise.")]  # noqa: F405
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
}
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
OUTSIDE_ALLOW_LOOPBACK = True
GATEWAY_PUBLIC_URL = "http://127.0.0.1:8100"
CELERY_BROKER_TRANSPORT_OPTIONS = {"visibility_timeout": 600, "global_keyprefix": "test:"}
# What one test counts is not the next one's.
CACHES = CACHES | {"counts": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}  # noqa: F405
