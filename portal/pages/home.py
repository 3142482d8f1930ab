"""The start page: on to wherever a person belongs."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponseBase
from django.shortcuts import redirect

from portal.pages import navigation
from portal.pages.base import Page
from tenants.members import memberships_of


class Home(Page):
    """Lead on: to the endpoints of one's only tenant, to the chooser, or the platform's people to the console."""

    def get(self, request: HttpRequest) -> HttpResponseBase:
        memberships = memberships_of(user_id=request.user.id)
        if len(memberships) == 1:
            return redirect("tenant:endpoints", slug=memberships[0].tenant.slug)
        if not memberships and request.user.acts_as:
            return redirect(navigation.console_url(request.user.acts_as))
        return redirect("tenants")


class Tenants(Page):
    """Choose one of one's tenants, or learn how to be let into one."""

    def get(self, request: HttpRequest) -> HttpResponseBase:
        return self.render("pages/tenants.html", {"memberships": memberships_of(user_id=request.user.id)})
