"""Berth on real services: every address and secret comes from the environment."""

from portal.settings import env
from portal.settings.base import *  # noqa: F403

SECRET_KEY = env.text("DJANGO_SECRET_KEY")
DATABASES = {
    "default": env.database(
        "DATABASE_URL", pool={"min_size": 2, "max_size": env.number("DATABASE_POOL_SIZE", 20), "timeout": 10}
    )
}
KEY_PEPPERS = env.numbered_keys("BERTH_KEY_PEPPERS")
if SEALING_PROVIDER == "environment":  # noqa: F405
    SEALING_KEYS = env.numbered_keys("BERTH_SEALING_KEYS")
ALLOWED_HOSTS = env.words("ALLOWED_HOSTS")

#: Processes refuse to start with what portal/checks.py finds.
PRODUCTION = True

# A proxy turns plain http away itself, so that Berth need not.
TLS_ENDS_BEFORE = env.flag("TLS_ENDS_BEFORE")
SECURE_SSL_REDIRECT = env.flag("SECURE_SSL_REDIRECT", True)
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
SECURE_HSTS_SECONDS = 31_536_000
SECURE_HSTS_INCLUDE_SUBDOMAINS = True
SECURE_HSTS_PRELOAD = True
SESSION_COOKIE_SECURE = True
CSRF_COOKIE_SECURE = True
# Browsers take a cookie of such a name from this very host alone, over https, for all paths.
SESSION_COOKIE_NAME = "__Host-berth-session"
CSRF_COOKIE_NAME = "__Host-berth-csrf"

MFA_REQUIRED_FOR = env.words("MFA_REQUIRED_FOR", "platform,owners")
