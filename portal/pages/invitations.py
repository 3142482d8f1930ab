"""Joining a tenant by the link of an invitation."""

from __future__ import annotations

from typing import Any, Final

from allauth.account.internal.flows.login import record_authentication
from allauth.account.models import EmailAddress
from allauth.account.utils import perform_login
from django import forms
from django.contrib import messages
from django.db import transaction
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect, render
from django.views import View

from portal.pages.base import put_on_form
from tenants.errors import BerthError
from tenants.identity.invitations import (
    invitation_accept,
    invitation_of_token,
    invitation_opened,
    invited_account_create,
)
from tenants.identity.policy import provider_of_address
from tenants.models import User

#: In the session: the digest of the link that was opened. The link itself is then no longer in the address.
OPENED: Final = "berth.invitation"


class AccountForm(forms.Form):
    """The account of somebody who was invited."""

    name = forms.CharField(
        max_length=120, label="Your name", widget=forms.TextInput(attrs={"autocomplete": "name"})
    )
    password = forms.CharField(
        max_length=128, strip=False, widget=forms.PasswordInput(attrs={"autocomplete": "new-password"}),
        help_text="A long one that nobody guesses; several words will do.",
    )  # fmt: skip


def opened(request: HttpRequest, token: str) -> HttpResponseBase:
    """Take the token out of the address, where it would be seen and kept, and go on."""
    invitation = invitation_of_token(token)
    if invitation is None:
        return _closed(request, "The link is not complete, or a newer one took its place.", status=404)
    request.session[OPENED] = invitation.token_digest
    return redirect("invitation-join")


class Join(View):
    """Accept an invitation as who one is, or make the account first."""

    http_method_names = ["get", "head", "post"]

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        invitation, why = invitation_opened(request.session.get(OPENED, ""))
        if invitation is None:
            return _closed(request, why, status=404)
        if why:
            return _closed(request, why, status=410)
        self.invitation = invitation
        return super().dispatch(request, *args, **kwargs)

    def get(self, request: HttpRequest) -> HttpResponse:
        return self._show(request, AccountForm())

    def post(self, request: HttpRequest) -> HttpResponseBase:
        if request.user.is_authenticated:
            return self._join(request, request.user)
        form = AccountForm(request.POST)
        if form.is_valid():
            try:
                return self._join_anew(request, form)
            except BerthError as error:
                put_on_form(form, error)
        return self._show(request, form, status=422)

    def _join_anew(self, request: HttpRequest, form: AccountForm) -> HttpResponseBase:
        with transaction.atomic():
            user = invited_account_create(invitation=self.invitation, **form.cleaned_data)
            EmailAddress.objects.create(user=user, email=user.email, verified=True, primary=True)
            invitation_accept(invitation=self.invitation, user=user)
        record_authentication(request, user, method="password", email=user.email)
        return perform_login(request, user, redirect_url=self._joined(request))

    def _join(self, request: HttpRequest, user: User) -> HttpResponseBase:
        try:
            invitation_accept(invitation=self.invitation, user=user)
        except BerthError as error:
            return self._show(request, AccountForm(), error=error.message, status=error.status)
        return redirect(self._joined(request))

    def _joined(self, request: HttpRequest) -> str:
        request.session.pop(OPENED, None)
        messages.success(request, f"Welcome to {self.invitation.tenant.name}.")
        return f"/t/{self.invitation.tenant.slug}/"

    def _show(
        self, request: HttpRequest, form: AccountForm, *, error: str = "", status: int = 200
    ) -> HttpResponse:
        invited = self.invitation.email
        mine = request.user.is_authenticated and request.user.email.lower() == invited
        context = {
            "invitation": self.invitation,
            "form": form,
            "mine": mine,
            "known": User.objects.filter(email__iexact=invited, is_active=True).exists(),
            "provider": provider_of_address(invited),
            "error": error,
        }
        return render(request, "invitations/join.html", context, status=status)


def _closed(request: HttpRequest, why: str, *, status: int) -> HttpResponse:
    return render(request, "invitations/closed.html", {"why": why}, status=status)
