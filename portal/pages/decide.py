"""Deciding by the link in a mail: the quote and two buttons, for the one person that the link was made for.

Looking decides nothing: mail scanners follow links. Deciding takes a POST with the same link, while its person may
still decide and its round is the one that the mail showed. A person who signs in with more than a password, or should,
is asked to.
"""

from __future__ import annotations

from typing import Any

from django.contrib.auth.views import redirect_to_login
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.decorators import method_decorator
from django.views import View
from django.views.decorators.cache import never_cache

from clusters.endpoints.approvals import decisions
from clusters.endpoints.approvals.deciding import Decider, may_decide
from clusters.endpoints.approvals.links import Link, link_people, link_read, link_request
from clusters.models import ApprovalRequest, TenantPolicy
from portal.pages.approvals import DecisionForm, told
from portal.pages.approvals_shown import request_shown
from tenants import acting, scope
from tenants.errors import BerthError
from tenants.identity.policy import refuse_other_sign_in, takes_providers_only
from tenants.identity.second_factor import has_second_factor, second_factor_demanded
from tenants.models import Membership, User

#: Why a link does nothing, whichever of these it is: who holds one that leaked learns nothing by trying.
GONE = "It was used, is of an earlier quote, has expired, or is not yours any more. Sign in to see what waits for you."


@method_decorator(never_cache, name="dispatch")
class DecideByLink(View):
    """The page behind the link."""

    http_method_names = ["get", "head", "post"]

    def get(self, request: HttpRequest, token: str) -> HttpResponse:
        return self._answer(request, token)

    def post(self, request: HttpRequest, token: str) -> HttpResponse:
        return self._answer(request, token)

    def _answer(self, request: HttpRequest, token: str) -> HttpResponse:
        link = link_read(token)
        people = link_people(link) if link else None
        if link is None or people is None:
            return self._gone(request)
        user, membership = people
        if request.user.is_authenticated and request.user.id != user.id:
            return self._gone(request)
        if request.user.is_authenticated:
            refuse_other_sign_in(request, membership)
        elif _signs_in_with_more(user, membership):
            return redirect_to_login(request.get_full_path())
        acting.identify(acting.Actor("mail-link", str(user.id), user.email))
        with scope.tenant(link.tenant_id):
            return self._decide(request, link, user, membership)

    def _decide(self, request: HttpRequest, link: Link, user: User, membership: Membership) -> HttpResponse:
        decider = Decider(user=user, actor=user.email, role=membership.role, via="link")
        policy = TenantPolicy.objects.in_force()
        found = link_request(link)
        allowed = policy is None or policy.link_decisions
        if not allowed or found is None or not found.is_pending or not may_decide(found, decider):
            return self._gone(request)
        if request.method != "POST":
            return self._show(request, found, membership, DecisionForm(initial={"round": found.round}))
        form = DecisionForm(request.POST)
        if not form.is_valid():
            return self._show(request, found, membership, form, status=422)
        service = decisions.approval_refuse if "refuse" in request.POST else decisions.approval_approve
        try:
            done = service(
                request=found, decider=decider, comment=form.cleaned_data["comment"], round=link.round
            )
        except BerthError as error:
            form.add_error(None, error.message)
            return self._show(request, found, membership, form, status=error.status)
        return render(
            request, "pages/decided.html", {"text": told(done, link.round), "tenant_name": membership.tenant}
        )

    def _show(
        self,
        request: HttpRequest,
        found: ApprovalRequest,
        membership: Membership,
        form: DecisionForm,
        *,
        status: int = 200,
    ) -> HttpResponse:
        context: dict[str, Any] = {
            "found": found,
            "form": form,
            "tenant_name": membership.tenant.name,
            "person": membership.user.email,
            **request_shown(found, membership.tenant),
        }
        return render(request, "pages/decide.html", context, status=status)

    def _gone(self, request: HttpRequest) -> HttpResponse:
        return render(request, "pages/decided.html", {"text": "", "gone": GONE}, status=410)


def _signs_in_with_more(user: User, membership: Membership) -> bool:
    return bool(has_second_factor(user) or second_factor_demanded(user) or takes_providers_only(membership))
