"""Anchors: the ends of all chains as of a moment, to be kept where nobody of the database comes."""

from __future__ import annotations

import json
from collections.abc import Mapping

from django.utils import timezone

from tenants import scope
from tenants.audit.verifying import heads
from tenants.errors import Invalid

FORMAT = "berth-audit-anchor/1"


def anchor_make() -> str:
    """Give the ends of all chains as JSON text."""
    with scope.platform("anchor the audit"):
        found = heads()
    ends = {chain: {"number": head.number, "hash": head.hash} for chain, head in sorted(found.items())}
    return (
        json.dumps({"format": FORMAT, "made_at": timezone.now().isoformat(), "heads": ends}, indent=2) + "\n"
    )


def anchor_read(text: str) -> Mapping[str, Mapping[int, str]]:
    """Give an anchor's hashes by chain and number.

    Raises:
        Invalid: it is none.
    """
    try:
        content = json.loads(text)
        if content["format"] != FORMAT:
            raise Invalid(f"This is no anchor of the form {FORMAT}; it says {content['format']!r}.")
        return {
            str(chain): {int(head["number"]): str(head["hash"])} if head["number"] else {}
            for chain, head in content["heads"].items()
        }
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Invalid("This is no anchor; write one with audit_verify --write-anchor FILE.") from error
