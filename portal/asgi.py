"""ASGI entry point of the portal, console and REST API."""

import os

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "portal.settings.embedded")

django.setup(set_prefix=False)

from clusters.api import usage_door  # noqa: E402
from portal import checks, databases  # noqa: E402
from portal.middleware.guard import guarded  # noqa: E402
from portal.middleware.streams import StreamingHandler  # noqa: E402

databases.limit_statements()
checks.refuse_to_start()
application = guarded(usage_door.before(StreamingHandler()))
