"""The audit as pages show it: a search, a list of entries, one entry with before beside after."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from typing import Any, Final
from urllib.parse import urlencode

from django import forms
from django.http import FileResponse, Http404, HttpRequest

from tenants.api.audit import audit_file
from tenants.audit.exporting import FORMATS
from tenants.audit.searching import AuditFilter, asked, chain_rows
from tenants.errors import Invalid
from tenants.models import AuditEntry

PER_PAGE: Final = 50
_LONGEST: Final = 19


def search(request: HttpRequest, tenant_id: uuid.UUID | None) -> AuditFilter:
    """Read from the address what is looked for in a chain."""
    filters = AuditFilter(request.GET, queryset=chain_rows(tenant_id))
    for name, field in filters.form.fields.items():
        field.help_text = ""  # their labels say enough here
        if name in ("since", "until"):
            field.widget = forms.DateTimeInput(attrs={"type": "datetime-local"})
    return filters


def page_of(
    filters: AuditFilter, path: str, entry_url: Callable[[AuditEntry], str], **kept: str
) -> dict[str, Any]:
    """Give a page of what is found, the newest first, with links to its neighbours and downloads.

    ``kept`` stays in every address.
    """
    found = filters.qs if filters.is_valid() else AuditEntry.objects.none()
    before, after = _number(filters.data.get("before")), _number(filters.data.get("after"))
    if after is not None:
        rows = list(found.filter(number__gt=after).order_by("number")[: PER_PAGE + 1])
        newer, older, rows = len(rows) > PER_PAGE, True, rows[:PER_PAGE][::-1]
    else:
        rows = list((found.filter(number__lt=before) if before is not None else found)[: PER_PAGE + 1])
        newer, older, rows = before is not None, len(rows) > PER_PAGE, rows[:PER_PAGE]
    here = {**kept, **asked(filters)}

    def link(**more: object) -> str:
        return f"{path}?{urlencode({**here, **more})}"

    return {
        "form": filters.form,
        "searching": bool(asked(filters)),
        "kept": kept,
        "rows": [{"entry": entry, "url": entry_url(entry)} for entry in rows],
        "newer_url": link(after=rows[0].number) if newer and rows else "",
        "older_url": link(before=rows[-1].number) if older and rows else "",
        "path": path,
        "clear_url": f"{path}?{urlencode(kept)}" if kept else path,
        "downloads": [
            {"label": form.label, "url": f"{path}/export?{urlencode({**here, 'file': kind})}"}
            for kind, form in FORMATS.items()
        ],
    }


def download(filters: AuditFilter, tenant_id: uuid.UUID | None) -> FileResponse:
    """Answer with what is found as a file.

    Raises:
        Invalid: the search is malformed, or finds more than one file takes.
    """
    kind = filters.data.get("file", "jsonl")
    if kind not in FORMATS:
        raise Http404
    if not filters.is_valid():
        raise Invalid("The search is malformed; look at the audit's page what is wrong with it.")
    return audit_file(filters, kind=kind, tenant_id=tenant_id)


def entry_shown(entry: AuditEntry) -> dict[str, Any]:
    """Give one entry in full."""
    before, after = entry.before or {}, entry.after or {}
    facts = [
        ("Time", f"{entry.at:%Y-%m-%d %H:%M:%S.%f} UTC"),
        ("Who", who(entry)),
        ("On behalf of", entry.on_behalf),
        ("What", " ".join(filter(None, (entry.target_kind, entry.target_name)))),
        ("Its id", entry.target_id),
        ("From", entry.address),
        ("By", entry.user_agent),
        ("Request", entry.request_id),
    ]
    return {
        "entry": entry,
        "facts": [{"label": label, "value": value} for label, value in facts if value],
        "changes": [
            {"name": name, "before": _text(before, name), "after": _text(after, name)}
            for name in sorted({*before, *after})
        ],
        "told": [{"label": name, "value": _text(entry.facts, name)} for name in sorted(entry.facts or {})],
        "chain": [
            {"label": "Number", "value": entry.number},
            {"label": "Hash", "value": entry.hash, "code": True},
            {"label": "Hash before", "value": entry.previous, "code": True},
        ],
    }


def who(entry: AuditEntry) -> str:
    """Name who acted."""
    return f"{entry.actor_kind.replace('-', ' ')} {entry.actor_name}".strip()


def _text(values: dict[str, Any], name: str) -> str:
    if name not in values:
        return ""
    value = values[name]
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _number(text: str | None) -> int | None:
    return int(text) if text and text.isascii() and text.isdigit() and len(text) < _LONGEST else None
