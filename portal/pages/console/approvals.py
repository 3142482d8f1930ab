"""Requests that operators decide upon: those for GPUs that a tenant's rule reserves."""

from __future__ import annotations

import uuid

from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse

from clusters.endpoints.approvals import decisions
from clusters.endpoints.approvals.deciding import Decider, may_decide
from clusters.endpoints.approvals.selectors import operators_requests
from clusters.models import ApprovalRequest
from portal.pages.approvals import SHOWN, DecisionForm, told
from portal.pages.approvals_shown import request_row, request_shown
from portal.pages.base import ConsolePage, put_on_form
from tenants import scope
from tenants.audit import audit
from tenants.errors import BerthError, NotFound
from tenants.roles import PlatformAction


class ApprovalsPage(ConsolePage):
    """What both screens share."""

    reason = "show operators the requests that are theirs to decide"
    action = PlatformAction.VIEW_ENDPOINTS
    write_action = PlatformAction.MANAGE_ENDPOINTS

    def rows(self) -> QuerySet[ApprovalRequest]:
        """Give the requests that the person has a say in, newest first."""
        return operators_requests(self.operator)

    @property
    def decider(self) -> Decider:
        return Decider(user=self.request.user, actor=self.actor, operator=True, via="console")


class Approvals(ApprovalsPage):
    """What waits for operators, and what was decided."""

    def get(self, request: HttpRequest) -> HttpResponse:
        pending, over = self.rows().pending(), self.rows().exclude(state=ApprovalRequest.State.PENDING)
        groups = [
            {"title": title, "rows": [request_row(each, _url) for each in found[:SHOWN]]}
            for title, found in (("Pending", pending), ("Decided", over))
        ]
        return self.render("console/approvals.html", {"groups": [each for each in groups if each["rows"]]})


class Approval(ApprovalsPage):
    """One request and its decision."""

    def get(self, request: HttpRequest, id: uuid.UUID) -> HttpResponse:
        return self._show(self._found(id))

    def post(self, request: HttpRequest, id: uuid.UUID) -> HttpResponse:
        found, form = self._found(id), DecisionForm(request.POST)
        if not form.is_valid():
            return self._show(found, form=form, status=422)
        refuses = "refuse" in request.POST
        service = decisions.approval_refuse if refuses else decisions.approval_approve
        try:
            with scope.tenant(found.tenant_id):
                done = service(
                    request=found,
                    decider=self.decider,
                    comment=form.cleaned_data["comment"],
                    round=form.cleaned_data["round"],
                )
        except BerthError as error:
            put_on_form(form, error)
            return self._show(self._found(id), form=form, status=error.status)
        audit(
            request.user,
            "approval.refuse" if refuses else "approval.approve",
            request=str(found.id),
            title=found.title,
            state=done.state,
        )
        self.say(told(done, found.round))
        # Another round may be for another cluster, which is out of the operator's reach.
        return redirect(_url("approval", id) if self.rows().filter(id=id).exists() else _url("approvals"))

    def _found(self, id: uuid.UUID) -> ApprovalRequest:
        found = self.rows().filter(id=id).first()
        if found is None:
            raise NotFound("There is no such page.")
        return found

    def _show(
        self, found: ApprovalRequest, *, form: DecisionForm | None = None, status: int = 200
    ) -> HttpResponse:
        with scope.tenant(found.tenant_id):
            shown = request_shown(found, found.tenant)
            may = self.operator.may(PlatformAction.MANAGE_ENDPOINTS)
            decides = may and found.is_pending and may_decide(found, self.decider)
        context = {
            "found": found,
            **shown,
            "decides": decides,
            "form": form or DecisionForm(initial={"round": found.round}),
            "breadcrumbs": [{"label": "Approvals", "url": _url("approvals")}, {"label": found.title}],
        }
        return self.render("console/approval.html", context, status=status)


def _url(name: str, *args: object) -> str:
    return reverse(f"console:{name}", args=args)
