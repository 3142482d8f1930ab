"""The context processor that fills the shell of every page: bar, sidebar, tenant switcher.

It reads what the base view left on the request: ``membership`` and ``memberships`` in the portal, ``operator`` in the
console.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from django.http import HttpRequest
from django.urls import reverse
from django.utils.functional import SimpleLazyObject

from clusters.endpoints.approvals.deciding import Decider
from clusters.endpoints.approvals.selectors import inbox
from portal.pages import navigation
from tenants import roles, scope
from tenants.api.caller import Operator
from tenants.members import memberships_of
from tenants.models import Membership, User


def shell(request: HttpRequest) -> dict[str, Any]:
    """Give ``shell``, lazily: fragments, which do not read it, cost nothing.

    Its parts are in ``docs/design-language.md``.
    """
    return {"shell": SimpleLazyObject(lambda: _shell(request))}


def _shell(request: HttpRequest) -> dict[str, Any]:
    user = getattr(request, "user", None)
    if user is None or not user.is_authenticated:
        return {"door": "portal", "home_url": "/", "tenant": None, "tenants": [], "nav": [], "notice": ""}
    memberships = getattr(request, "memberships", None)
    if memberships is None:
        memberships = memberships_of(user_id=user.id)
    if operator := getattr(request, "operator", None):
        return _console(request, operator, memberships)
    return _portal(request, memberships, getattr(request, "membership", None))


def _portal(request: HttpRequest, memberships: list[Membership], here: Membership | None) -> dict[str, Any]:
    parts: dict[str, Any] = {
        "door": "portal",
        "home_url": "/",
        "tenant": None,
        "tenants": [
            {
                "name": each.tenant.name,
                "url": reverse("tenant:endpoints", args=[each.tenant.slug]),
                "current": here is not None and each.tenant_id == here.tenant_id,
            }
            for each in memberships
        ],
        "nav": [],
        "other_door": {"label": "Operator console", "url": navigation.console_url(request.user.acts_as)}
        if request.user.acts_as
        else None,
        "notice": "",
    }
    if here is None:
        return parts
    slug = here.tenant.slug
    groups = [
        navigation.Group(
            group.label, tuple(item for item in group.items if roles.allows(here.role, item.action))
        )
        for group in navigation.TENANT
    ]
    return parts | {
        "home_url": reverse("tenant:endpoints", args=[slug]),
        "tenant": {"name": here.tenant.name},
        "nav": _nav(
            request,
            groups,
            lambda page: reverse(f"tenant:{page}", args=[slug]),
            {"approvals": _to_decide(request.user, here)},
        ),
    }


def _to_decide(user: User, here: Membership) -> int:
    """Count the requests that wait for a person, for the badge."""
    decider = Decider(user=user, actor=user.email, role=here.role)
    with scope.tenant(here.tenant_id):
        return len(inbox(decider))


def _console(request: HttpRequest, operator: Operator, memberships: list[Membership]) -> dict[str, Any]:
    groups = [
        navigation.Group(group.label, tuple(item for item in group.items if operator.may(item.action)))
        for group in navigation.CONSOLE
    ]
    return {
        "door": "console",
        "home_url": navigation.console_url(operator.role),
        "tenant": None,
        "tenants": [],
        "nav": _nav(request, groups, lambda page: reverse(f"console:{page}")),
        "other_door": {"label": "Tenant portal", "url": reverse("tenants")} if memberships else None,
        "notice": "",
    }


def _nav(
    request: HttpRequest,
    groups: Iterable[navigation.Group],
    path_of: Callable[[str], str],
    counts: Mapping[str, int] | None = None,
) -> list[dict[str, Any]]:
    here = request.resolver_match.url_name if request.resolver_match else ""
    return [
        {
            "label": group.label,
            "items": [
                {
                    "label": item.label,
                    "url": path_of(item.page),
                    "icon": item.icon,
                    "current": here == item.page
                    or (here.startswith(item.also or "/") and not here.startswith(item.beside or "/")),
                    "count": (counts or {}).get(item.page, 0),
                }
                for item in group.items
            ],
        }
        for group in groups
        if group.items
    ]
