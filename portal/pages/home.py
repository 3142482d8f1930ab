"""The start page: on to wherever a person belongs."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponseBase
from django.shortcuts import redirect

from portal.pages.base import Page
from tenants.members import memberships_of


class Home(Page):
    """Lead on: to the endpoints of one's only tenant, to the chooser, or an operator to the console."""

    def get(self, request: HttpRequest) -> HttpResponseBase:
        memberships = memberships_of(user_id=request.user.id)
        if len(memberships) == 1:
            return redirect("tenant:endpoints", slug=memberships[0].tenant.slug)
        if not memberships and request.user.is_operator:
            return redirect("console:home")
        return redirect("tenants")


class Tenants(Page):
    """Choose one of one's tenants, or learn how to be let into one."""

    def get(self, request: HttpRequest) -> HttpResponseBase:
        return self.render("pages/tenants.html", {"memberships": memberships_of(user_id=request.user.id)})
