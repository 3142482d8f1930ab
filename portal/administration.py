"""The Django admin, run in the platform's scope: it shows rows of all tenants, and says in the log who looked."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import Any

from django.contrib.admin import AdminSite
from django.contrib.admin.apps import AdminConfig
from django.http import HttpRequest, HttpResponseBase

log = logging.getLogger("berth.operator")


class BerthAdminConfig(AdminConfig):
    """Makes :class:`BerthAdminSite` the default site."""

    default_site = "portal.administration.BerthAdminSite"


class BerthAdminSite(AdminSite):
    """Every view runs, and is rendered, within one platform scope."""

    site_header = "Berth administration"
    site_title = "Berth administration"
    index_title = "All rooms"
    site_url = "/console/"

    def has_permission(self, request: HttpRequest) -> bool:
        """Let in who may do everything on the platform: what is mended by hand here asks for no other role."""
        return super().has_permission(request) and request.user.is_superuser

    def login(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponseBase:
        # The one sign-in page, with its limits on failed attempts; the admin's own has none. Imported here,
        # because this module is read before the applications are ready.
        from allauth.account.decorators import secure_admin_login

        return secure_admin_login(super().login)(request, extra_context=extra_context)

    def admin_view(self, view: Callable, cacheable: bool = False) -> Callable:
        from tenants.across import across_tenants

        checked = super().admin_view(view, cacheable)

        @functools.wraps(checked)
        def scoped(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
            if not self.has_permission(request):
                return checked(request, *args, **kwargs)
            log.info(
                "operator=%s action=admin.%s path=%s",
                request.user.email,
                request.method.lower(),
                request.path,
            )
            with across_tenants(request.user, what=request.path, reason="look at rows in the Django admin"):
                answer = checked(request, *args, **kwargs)
                if callable(getattr(answer, "render", None)):
                    answer.render()
            return answer

        return scoped
