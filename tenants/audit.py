"""The operators' log: who did what to the platform."""

from __future__ import annotations

import logging
from typing import Any

from django.db import transaction

from tenants.models import User

log = logging.getLogger("berth.operator")


def audit(user: User, action: str, **facts: Any) -> None:
    """Write who did what into the operators' log, once it is committed."""
    told = " ".join(f"{name}={value!r}" for name, value in facts.items())
    transaction.on_commit(lambda: log.info("operator=%s action=%s %s", user.email, action, told))
