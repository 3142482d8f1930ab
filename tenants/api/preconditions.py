"""Edits that are meant for one version of an object: ETag and If-Match.

The tags are weak: equal in meaning, not in every byte (states and times move by themselves).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Any

from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request

from tenants.errors import Stale

_TAG = re.compile(r'\s*(?:W/)?"([^"]*)"\s*')


def etag(version: int | str) -> str:
    """Give the ETag of a version."""
    return f'W/"{version}"'


def content_version(shown: Mapping[str, Any]) -> str:
    """Give the version of an object that counts none, from what is shown of it."""
    return hashlib.sha256(JSONRenderer().render(shown)).hexdigest()[:16]


def asks_for_version(request: Request) -> bool:
    """Say whether the request is meant for certain versions only."""
    return request.headers.get("If-Match", "").strip() not in ("", "*")


def refuse_stale(request: Request, version: int | str) -> None:
    """Check If-Match against the present version.

    Raises:
        Stale: it names other versions only.
    """
    if asks_for_version(request) and str(version) not in _TAG.findall(request.headers["If-Match"]):
        raise Stale(f"The object is at version {etag(version)} now; read it again, then repeat the change.")
