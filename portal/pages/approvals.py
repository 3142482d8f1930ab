"""Requests that somebody has to agree to: the inbox, one of them with its quote, and deciding upon it."""

from __future__ import annotations

import uuid
from typing import Any, Final

from django import forms
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect

from clusters.endpoints.approvals import decisions
from clusters.endpoints.approvals.asking import is_held
from clusters.endpoints.approvals.deciding import Decider, may_decide
from clusters.endpoints.approvals.rewording import CHANGEABLE, endpoint_ask_again
from clusters.endpoints.approvals.selectors import inbox, request_list
from clusters.models import ApprovalRequest, Region, SloClass
from portal.pages.approvals_shown import request_row, request_shown
from portal.pages.base import TenantPage, put_on_form
from tenants.errors import BerthError, NotFound
from tenants.roles import Action

SHOWN: Final = 50
LONGEST_COMMENT: Final = 500


class DecisionForm(forms.Form):
    """What whoever decides says to it. ``round`` is that of the quote on the page."""

    comment = forms.CharField(
        max_length=LONGEST_COMMENT, required=False, widget=forms.Textarea(attrs={"rows": 2}),
        help_text="The asker reads it.",
    )  # fmt: skip
    round = forms.IntegerField(min_value=1, widget=forms.HiddenInput)


class WishForm(forms.Form):
    """What of a wish may be changed; what is left empty stays."""

    replicas = forms.IntegerField(min_value=1, max_value=64, required=False)
    residency = forms.ChoiceField(required=False)
    slo_class = forms.ChoiceField(required=False, label="Service class")

    def __init__(self, *args: Any, what: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        regions = list(Region.objects.all())
        zones = sorted({zone for region in regions for zone in region.zones})
        self.fields["residency"].choices = [
            ("", "As asked for"),
            ("global", "Anywhere"),
            *((f"zone:{zone}", f"Zone {zone}") for zone in zones),
            *((f"region:{region.code}", f"Region {region.code}") for region in regions),
        ]
        self.fields["slo_class"].choices = [
            ("", "As asked for"),
            *SloClass.objects.order_by("priority").values_list("name", "title"),
        ]
        for name in set(self.fields) - set(CHANGEABLE.get(what, ())):
            del self.fields[name]

    def changes(self) -> dict[str, Any]:
        """Give what was chosen."""
        return {name: value for name, value in self.cleaned_data.items() if value}


class ApprovalPage(TenantPage):
    """What the screens of requests share."""

    @property
    def decider(self) -> Decider:
        return Decider(user=self.request.user, actor=self.actor, role=self.membership.role, via="portal")

    def found(self, id: uuid.UUID) -> ApprovalRequest:
        """Give a request of the tenant.

        Raises:
            NotFound: there is none.
        """
        request = request_list().filter(id=id).first()
        if request is None:
            raise NotFound("There is no such page.")
        return request


class Approvals(ApprovalPage):
    """What waits for the person, then what waits for others and what was decided."""

    def get(self, request: HttpRequest, slug: str) -> HttpResponse:
        mine = inbox(self.decider)
        rows = request_list().exclude(id__in=[each.id for each in mine])
        waiting = list(rows.pending()[:SHOWN])
        over = list(rows.exclude(state=ApprovalRequest.State.PENDING)[:SHOWN])
        context = {
            "groups": [
                {"title": title, "note": note, "rows": [request_row(each, self.url) for each in found]}
                for title, note, found in (
                    ("For you to decide", "", mine),
                    ("Waiting for others", "", waiting),
                    ("Decided", f"The last {SHOWN}." if len(over) == SHOWN else "", over),
                )
                if found
            ],
        }
        return self.render("tenant/approvals/list.html", context)


class Approval(ApprovalPage):
    """One request: what it is, why it needs somebody, and the ways to decide."""

    def get(self, request: HttpRequest, slug: str, id: uuid.UUID) -> HttpResponse:
        return self._show(self.found(id))

    def post(self, request: HttpRequest, slug: str, id: uuid.UUID) -> HttpResponse:
        found = self.found(id)
        if "withdraw" in request.POST:
            decisions.approval_withdraw(request=found, decider=self.decider)
            self.say("The request is withdrawn.")
            return redirect(self.url("approval", id))
        form = DecisionForm(request.POST)
        wish = WishForm(request.POST, what=found.what)
        if not form.is_valid() or ("change" in request.POST and not wish.is_valid()):
            return self._show(found, form=form, wish=wish, status=422)
        said = {"comment": form.cleaned_data["comment"], "round": form.cleaned_data["round"]}
        try:
            if "change" in request.POST:
                done = decisions.approval_change(
                    request=found, decider=self.decider, changes=wish.changes(), **said
                )
            elif "refuse" in request.POST:
                done = decisions.approval_refuse(request=found, decider=self.decider, **said)
            else:
                done = decisions.approval_approve(request=found, decider=self.decider, **said)
        except BerthError as error:
            put_on_form(form, error)
            return self._show(self.found(id), form=form, wish=wish, status=error.status)
        self.say(told(done, found.round))
        return redirect(self.url("approval", id))

    def _show(
        self,
        found: ApprovalRequest,
        *,
        form: DecisionForm | None = None,
        wish: WishForm | None = None,
        status: int = 200,
    ) -> HttpResponse:
        decides = found.is_pending and may_decide(found, self.decider)
        endpoint = found.endpoint
        asks_again = (
            not found.is_pending
            and endpoint is not None
            and self.may(Action.ORDER)
            and is_held(endpoint)
            and not request_list().pending().filter(endpoint=endpoint).exists()
        )
        what = ApprovalRequest.What.ORDER if asks_again else found.what
        changeable = decides and CHANGEABLE.get(found.what)
        context = {
            "found": found,
            **request_shown(found, self.tenant),
            "decides": decides,
            "form": form or DecisionForm(initial={"round": found.round}),
            "wish": (wish or WishForm(what=what)) if changeable or asks_again else None,
            "asks_again": asks_again,
            "withdraws": found.is_pending and found.asked_by_id == self.request.user.id,
            "endpoint_url": self.url("endpoint", endpoint.id) if endpoint else "",
            "breadcrumbs": [{"label": "Approvals", "url": self.url("approvals")}, {"label": found.title}],
        }
        return self.render("tenant/approvals/detail.html", context, status=status)


class AskAgain(ApprovalPage):
    """Ask again for an endpoint that was refused or whose request expired, with other terms where some are given."""

    http_method_names = ["post"]
    action = Action.ORDER

    def post(self, request: HttpRequest, slug: str, id: uuid.UUID) -> HttpResponse:
        found = self.found(id)
        if found.endpoint is None:
            raise NotFound("There is no such page.")
        wish = WishForm(request.POST, what=ApprovalRequest.What.ORDER)
        changes = wish.changes() if wish.is_valid() else {}
        endpoint = endpoint_ask_again(
            endpoint=found.endpoint, actor=self.actor, asked_by=request.user, changes=changes
        )
        self.say(f"{endpoint.name} is asked for again.")
        return redirect(self.url("endpoint", endpoint.id))


def told(request: ApprovalRequest, before: int) -> str:
    """Say what became of a decision."""
    if request.is_pending and request.round != before:
        return "What it comes to has changed: look at the new quote, then decide."
    if request.is_pending:
        return "You agreed. Others have to, too."
    return f"{request.title}: {request.get_state_display().lower()}."
