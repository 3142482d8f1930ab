"""Every door of the platform says what it asks for, and the documentation's table is the code's."""

from __future__ import annotations

import re
from pathlib import Path

from django.urls import get_resolver

from clusters.api.operators import OperatorScoped
from portal.pages.base import ConsolePage
from tenants.models import SUPERUSER, PlatformRole
from tenants.roles import PlatformAction, platform_allows

DOCS = Path(__file__).parents[2] / "docs" / "operations.md"
#: Actions that are posted to, for what they are asked about is long.
CHANGE_NOTHING = {"diff"}
_ROW = re.compile(r"^\| `([a-z-]+)` \|[^|]*\|([^|]*)\|([^|]*)\|([^|]*)\|([^|]*)\|$", re.M)


def views(resolver=None):
    """Give the classes behind all addresses."""
    for each in (resolver or get_resolver()).url_patterns:
        if hasattr(each, "url_patterns"):
            yield from views(each)
        else:
            found = getattr(each.callback, "view_class", None) or getattr(each.callback, "cls", None)
            yield from [(found, each.callback)] if found else []


def test_every_page_of_the_console_says_what_it_asks_for():
    pages = {page for page, _ in views() if issubclass(page, ConsolePage)}
    assert len(pages) > 50
    for page in pages:
        assert isinstance(getattr(page, "action", None), PlatformAction), page
        writes = page.write_action or page.action
        posts = "post" in page.http_method_names and hasattr(page, "post")
        changes_nothing = page.__name__ == "WhatIf"
        assert not posts or changes_nothing or writes.name.startswith("MANAGE_"), f"{page} writes by {writes}"


def test_every_view_of_the_platform_says_what_it_asks_for():
    found = {(view, callback) for view, callback in views() if issubclass(view, OperatorScoped)}
    assert len(found) > 30
    for view, callback in found:
        actions = getattr(callback, "actions", None) or {
            method: method for method in ("get", "post", "put", "patch", "delete") if hasattr(view, method)
        }
        for method, name in actions.items():
            asked = view.platform_actions.get(name, getattr(view, "default_platform_action", None))
            assert isinstance(asked, PlatformAction), (view, name)
            if method not in ("get", "head") and name not in CHANGE_NOTHING:
                assert asked.name.startswith("MANAGE_"), f"{view}.{name} writes by {asked}"
        assert set(view.platform_actions) <= set(dir(view)), view


def test_the_table_of_roles_is_the_codes():
    section = DOCS.read_text().partition("## Who may do what on the platform\n")[2].partition("\n## ")[0]
    told = {row[0]: [cell.strip() for cell in row[1:]] for row in _ROW.findall(section)}
    columns = [
        (PlatformRole.OPERATOR, False), (PlatformRole.OPERATOR, True), (PlatformRole.FINANCE, False),
        (PlatformRole.AUDITOR, False),
    ]  # fmt: skip
    held = {
        action.value: [
            "yes" if platform_allows(role, action, narrowed=narrowed) else "" for role, narrowed in columns
        ]
        for action in PlatformAction
    }
    assert told == held


def test_a_superuser_may_everything_and_nobody_without_a_role_anything():
    for action in PlatformAction:
        assert platform_allows(SUPERUSER, action)
        assert not platform_allows(PlatformRole.NONE, action)
