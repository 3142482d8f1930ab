"""Headers that every answer carries, whoever made it: pages, the API, static files, refusals of the outermost layer."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from django.conf import settings

#: Features of browsers that no page of Berth uses.
_UNUSED: Final = (
    "accelerometer", "autoplay", "camera", "display-capture", "encrypted-media", "fullscreen", "geolocation",
    "gyroscope", "hid", "idle-detection", "magnetometer", "microphone", "midi", "payment", "picture-in-picture",
    "screen-wake-lock", "serial", "usb", "xr-spatial-tracking",
)  # fmt: skip
_ALWAYS: Final = {
    b"cross-origin-opener-policy": b"same-origin",
    b"cross-origin-resource-policy": b"same-origin",
    b"permissions-policy": ", ".join(f"{each}=()" for each in _UNUSED).encode(),
    b"referrer-policy": b"same-origin",
    b"x-content-type-options": b"nosniff",
    b"x-frame-options": b"DENY",
}
_POLICY: Final = b"content-security-policy"
#: For answers that no page policy was made for: nothing in them is ever run, framed or loaded.
_NOTHING: Final = b"default-src 'none'; frame-ancestors 'none'"

#: Where people sign out: browsers are told to forget what they kept. Only the chosen colours are kept besides.
SIGNED_OUT_AT: Final = "/accounts/logout/"

Headers = list[tuple[bytes, bytes]]


def completed(path: str, headers: Iterable[tuple[bytes, bytes]]) -> Headers:
    """Give the headers of an answer with those that it lacks.

    Nothing but static files is kept by browsers and proxies: all else may be somebody's alone.
    """
    given = [(name.lower(), value) for name, value in headers]
    is_static = path.startswith(settings.STATIC_URL)
    if not is_static:
        given = [(name, value) for name, value in given if name != b"cache-control"]
        given.append((b"cache-control", b"no-store"))
    names = {name for name, _ in given}
    wanted = dict(_ALWAYS)
    if path == SIGNED_OUT_AT:
        wanted[b"clear-site-data"] = b'"cache"'
    wanted[_POLICY] = _NOTHING
    if settings.SECURE_HSTS_SECONDS:
        wanted[b"strict-transport-security"] = _transport()
    return [*given, *((name, value) for name, value in wanted.items() if name not in names)]


def _transport() -> bytes:
    text = f"max-age={settings.SECURE_HSTS_SECONDS}"
    if settings.SECURE_HSTS_INCLUDE_SUBDOMAINS:
        text += "; includeSubDomains"
    if settings.SECURE_HSTS_PRELOAD:
        text += "; preload"
    return text.encode()
