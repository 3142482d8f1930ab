"""What must not be in production: checks of settings and of the database's role, each with its remedy.

Those of settings are Django's system checks, too, so that ``manage.py check`` lists them. Processes look at all and
refuse to start (:func:`refuse_to_start`).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import Any, Final
from urllib.parse import urlsplit

from django.conf import settings
from django.core import checks
from django.db import DatabaseError, connection

#: Secrets that stand in this repository, for tests, and ones that people type where a secret is asked for.
_KNOWN_BEGINNINGS: Final = (
    "only-for-tests",
    "django-insecure",
    "changeme",
    "change-me",
    "secret",
    "insecure",
)
_SHORTEST_SECRET: Final = 50
_SHORTEST_KEY: Final = 32
_NOT_SENDING: Final = ("console", "filebased", "dummy", "locmem")
_ADDRESSES: Final = {
    "PORTAL_PUBLIC_URL": "PORTAL_PUBLIC_URL",
    "GATEWAY_PUBLIC_URL": "GATEWAY_PUBLIC_URL",
    "CONTROL_PLANE_URL": "BERTH_CONTROL_PLANE_URL",
}

Complaints = Iterator[tuple[str, str, str]]


class RefusedToStart(SystemExit):
    """The process must not run so; standard error says why."""


def refuse_to_start() -> None:
    """End the process where it runs in production and something is wrong.

    Raises:
        RefusedToStart: something is wrong; each setting was named with its remedy.
    """
    if found := [*settings_complaints(), *role_complaints()]:
        lines = [f"  {each.msg} {each.hint} ({each.id})" for each in found]
        # Celery has put its logs in the place of sys.stderr already.
        print("Berth does not start in production like this:", *lines, sep="\n", file=sys.__stderr__)
        raise RefusedToStart(1)


@checks.register(checks.Tags.security)
def settings_complaints(app_configs: Any = None, **options: Any) -> list[checks.Error]:
    """Look at the settings of a production process."""
    if not settings.PRODUCTION:
        return []
    return [_error(*each) for look in _LOOKS for each in look()]


@checks.register(checks.Tags.security)
def faults_warning(app_configs: Any = None, **options: Any) -> list[checks.Warning]:
    """Warn where faults may be made on purpose in what is set up like production: a staging installation may be."""
    if not (settings.PRODUCTION and settings.FAULTS_ALLOWED):
        return []
    return [
        checks.Warning(
            "BERTH_FAULTS is allowed: whoever may run commands here can break what runs, on purpose.",
            hint="Unset it, unless this is a staging installation.",
            id="berth.faults",
        )
    ]


def role_complaints() -> list[checks.Error]:
    """Ask the database which rights the role of a production process has.

    No check of ``manage.py``: migrate runs as the owner, and must.
    """
    if not settings.PRODUCTION:
        return []
    try:
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT rolname, rolsuper, rolbypassrls,"
                " (SELECT count(*) FROM pg_class WHERE relowner = pg_roles.oid AND relkind IN ('r', 'p')"
                " AND relnamespace = 'public'::regnamespace)"
                " FROM pg_roles WHERE rolname = current_user"
            )
            name, is_superuser, passes_by, owned = cursor.fetchone()
    except DatabaseError as error:
        remedy = "Look whether it runs and whether DATABASE_URL is right; then start again."
        return [_error("away", f"The database cannot be asked which role this is: {error}", remedy)]
    found = []
    if is_superuser or passes_by:
        what = "is a superuser" if is_superuser else "has BYPASSRLS"
        remedy = f"Let it name a role without: ALTER ROLE {name} NOSUPERUSER NOBYPASSRLS, or another role."
        found.append(_error("role", f"The role {name!r} of DATABASE_URL {what}: tenants would meet.", remedy))
    if owned:
        remedy = "Let it name the application's role; the owner belongs into DATABASE_OWNER_URL, for migrate alone."
        found.append(_error("owner", f"The role {name!r} of DATABASE_URL owns {owned} tables.", remedy))
    return found


def _error(name: str, message: str, remedy: str) -> checks.Error:
    return checks.Error(message, hint=remedy, id=f"berth.{name}")


def _debug() -> Complaints:
    if settings.DEBUG:
        yield "debug", "DEBUG is on: error pages would show settings and data.", "Leave it off."


def _secrets() -> Complaints:
    for secret in (settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS):
        if secret.lower().startswith(_KNOWN_BEGINNINGS):
            what = "begins like one that is written down in public"
        elif len(secret) < _SHORTEST_SECRET or len(set(secret)) < 5:
            what = f"is guessed easily: it has less than {_SHORTEST_SECRET} characters, or few different ones"
        else:
            continue
        yield "secret-key", f"DJANGO_SECRET_KEY {what}.", "Make one: openssl rand -base64 48."
    for name, keys in (
        ("BERTH_KEY_PEPPERS", settings.KEY_PEPPERS),
        ("BERTH_SEALING_KEYS", settings.SEALING_KEYS),
    ):
        for number, key in sorted(keys.items()):
            if len(key) < _SHORTEST_KEY or len(set(key)) < 5:
                yield (
                    "keys",
                    f"Key {number} of {name} has less than {_SHORTEST_KEY} bytes, or few different ones.",
                    "Make one: openssl rand -hex 32.",
                )
    if set(settings.KEY_PEPPERS.values()) & set(settings.SEALING_KEYS.values()):
        yield (
            "keys",
            "BERTH_KEY_PEPPERS and BERTH_SEALING_KEYS share a key, and gateways have the peppers.",
            "Make another sealing key: openssl rand -hex 32.",
        )


def _transport() -> Complaints:
    for setting, variable in _ADDRESSES.items():
        address = getattr(settings, setting)
        if address and urlsplit(address).scheme != "https":
            yield (
                "http",
                f"{variable} is {address}: keys and sessions would cross networks in the open.",
                ("Give an address that begins with https://."),
            )
    if not settings.PORTAL_PUBLIC_URL:
        yield "http", "PORTAL_PUBLIC_URL is not set.", "Give the address at which browsers reach the portal."
    if not settings.SECURE_SSL_REDIRECT and not settings.TLS_ENDS_BEFORE:
        yield (
            "http",
            "SECURE_SSL_REDIRECT is off: plain http would be answered.",
            "Leave it on; where a proxy turns plain http away itself, say so with TLS_ENDS_BEFORE=1.",
        )
    for name in ("SESSION_COOKIE_SECURE", "CSRF_COOKIE_SECURE"):
        if not getattr(settings, name):
            yield "cookies", f"{name} is off.", "Leave it on: the cookie would cross networks in the open."


def _hosts() -> Complaints:
    if not settings.ALLOWED_HOSTS:
        yield "hosts", "ALLOWED_HOSTS is empty.", "Name the hosts under which browsers reach the portal."
    if any(host in ("*", ".") for host in settings.ALLOWED_HOSTS):
        yield (
            "hosts",
            "ALLOWED_HOSTS holds *: whoever asks may choose the host in links of mails.",
            ("Name the hosts under which browsers reach the portal."),
        )


def _outside() -> Complaints:
    if settings.OUTSIDE_ALLOW_LOOPBACK:
        yield (
            "loopback",
            "OUTSIDE_ALLOW_LOOPBACK is on: tenants' webhooks could reach what runs on this machine.",
            "Leave it off; name single networks in OUTSIDE_ALLOWED_NETWORKS instead.",
        )
    backend = settings.EMAIL_BACKEND
    if backend.split(".")[-2] in _NOT_SENDING:
        yield (
            "mail",
            f"EMAIL_BACKEND is {backend}: mails would go nowhere, or lie in a file.",
            ("Leave it alone and set EMAIL_HOST."),
        )


_LOOKS: Final[tuple[Callable[[], Complaints], ...]] = (_debug, _secrets, _transport, _hosts, _outside)
