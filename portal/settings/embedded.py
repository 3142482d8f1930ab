"""Everything on this machine: PostgreSQL, Redis and tritonserver from their wheels (see ``embedded``).

``python -m embedded up`` starts the services and passes their addresses by environment. Any other
command finds them through the data folder, so that ``manage.py shell`` works in a second terminal.
"""

import os

from embedded import up

for _name, _value in up.environment().items():
    os.environ.setdefault(_name, _value)
for _name, _port in (("PORTAL_PUBLIC_URL", "WEB_PORT"), ("GATEWAY_PUBLIC_URL", "GATEWAY_PORT")):
    if _port in os.environ:
        os.environ.setdefault(_name, f"http://127.0.0.1:{os.environ[_port]}")

from portal.settings import env  # noqa: E402
from portal.settings.base import *  # noqa: E402, F403

DATABASES = {
    "default": env.database(
        "DATABASE_URL",
        "postgresql://berth_app@127.0.0.1:1/berth",
        pool={"min_size": 1, "max_size": 20, "timeout": 10},
    )
}
ALLOWED_HOSTS = ["localhost", "127.0.0.1", "[::1]", *env.words("ALLOWED_HOSTS")]
# No mail leaves this machine: messages (password resets) are files in the data folder.
EMAIL_BACKEND = "django.core.mail.backends.filebased.EmailBackend"
EMAIL_FILE_PATH = DATA_DIR / "mail"  # noqa: F405
# Nothing crosses a network here, so nothing is compressed at every start.
STORAGES = {
    **STORAGES,  # noqa: F405
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.ManifestStaticFilesStorage"},
}
# A webhook's receiver may run on this machine, too.
OUTSIDE_ALLOW_LOOPBACK = True
# Plain http on loopback; nothing here is meant to be reached from outside.
SILENCED_SYSTEM_CHECKS = ["security.W004", "security.W008", "security.W012", "security.W016"]

EMBEDDED_GATEWAY_TOKEN = env.text("BERTH_GATEWAY_TOKEN")
