"""The operators' log: who did what to the platform."""

from __future__ import annotations

import logging
from typing import Any

from django.db import transaction

from tenants.models import User

log = logging.getLogger("berth.operator")


def audit(user: User | None, action: str, **facts: Any) -> None:
    """Write who did what into the operators' log, once it is committed; None is a rule that operators set."""
    who = user.email if user else "by rule"
    told = " ".join(f"{name}={value!r}" for name, value in facts.items())
    transaction.on_commit(lambda: log.info("operator=%s action=%s %s", who, action, told))


def access(user: User, what: str, *, reason: str) -> None:
    """Write that a person of the platform read rows across tenants: ``what`` was shown, and for which ``reason``."""
    transaction.on_commit(lambda: log.info("operator=%s read=%s reason=%r", user.email, what, reason))
