"""What the tenant has committed to, how it was used this month, and credits granted to it."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.utils import timezone

from portal.pages.base import TenantPage
from portal.pages.commitments_shown import agreements_shown
from tenants.roles import Action


class Commitments(TenantPage):
    """Commitments and credits, to read: operators agree on them with the tenant."""

    action = Action.VIEW_COST

    def get(self, request: HttpRequest, slug: str) -> HttpResponse:
        return self.render("tenant/commitments.html", agreements_shown(now=timezone.now()))
