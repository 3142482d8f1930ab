"""ASGI entry point of the portal, console and REST API."""

import os

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "portal.settings.embedded")

_django = get_asgi_application()

from clusters.api import usage_door  # noqa: E402
from portal import checks, databases  # noqa: E402
from portal.middleware.guard import guarded  # noqa: E402

databases.limit_statements()
checks.refuse_to_start()
application = guarded(usage_door.before(_django))
