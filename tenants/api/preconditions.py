"""Edits that are meant for one version of an object: ETag and If-Match."""

from __future__ import annotations

import re

from rest_framework.request import Request

from tenants.errors import Stale

_TAG = re.compile(r'\s*(?:W/)?"([^"]*)"\s*')


def etag(version: int) -> str:
    """Give the weak ETag of a version: equal in meaning, not in every byte (states move by themselves)."""
    return f'W/"{version}"'


def wanted_version(request: Request, version: int) -> int | None:
    """Give the version an edit is meant for, None where any will do.

    ``version`` is what the object has now; the service compares again under its lock.

    Raises:
        Stale: If-Match names other versions only.
    """
    header = request.headers.get("If-Match", "").strip()
    if header in ("", "*"):
        return None
    if str(version) not in _TAG.findall(header):
        raise Stale(f"The object is at version {etag(version)} now; read it again, then repeat the change.")
    return version
