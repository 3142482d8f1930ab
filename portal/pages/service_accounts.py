"""Service accounts: the list, making, changing and removing one."""

from __future__ import annotations

import uuid
from typing import Any

from django import forms
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect

from portal.pages.base import TenantPage, put_on_form
from portal.pages.members import grantable
from tenants import roles
from tenants.errors import BerthError
from tenants.models import Project, Role, ServiceAccount
from tenants.roles import Action
from tenants.service_accounts import (
    service_account_change,
    service_account_create,
    service_account_remove,
    service_accounts,
)


class ServiceAccountForm(forms.Form):
    """A service account to be made or changed."""

    name = forms.CharField(max_length=80, help_text="What acts, for instance deploy-pipeline.")
    description = forms.CharField(max_length=300, required=False)
    role = forms.ChoiceField(initial=Role.DEVELOPER, help_text="What its management keys may do.")
    projects = forms.MultipleChoiceField(
        required=False, widget=forms.CheckboxSelectMultiple, label="Projects",
        help_text="Those that its keys may be for. None chosen: all.",
    )  # fmt: skip

    def __init__(self, *args: Any, granter_role: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["role"].choices = grantable(granter_role)
        self.fields["projects"].choices = [
            (str(project.id), project.name) for project in Project.objects.order_by("name")
        ]

    def chosen(self) -> dict[str, Any]:
        """Give what was typed; the form must have been cleaned."""
        return {**self.cleaned_data, "projects": [uuid.UUID(each) for each in self.cleaned_data["projects"]]}


class ServiceAccounts(TenantPage):
    """All service accounts by name."""

    def get(self, request: HttpRequest, slug: str) -> HttpResponse:
        names = dict(Project.objects.values_list("id", "name"))
        may = self.may(Action.MANAGE_SERVICE_ACCOUNTS)
        rows = [
            {
                "account": account,
                "projects": ", ".join(names.get(each, str(each)) for each in account.projects),
                "changeable": may and roles.may_grant(self.membership.role, account.role),
            }
            for account in service_accounts().order_by("name")
        ]
        return self.render("tenant/service_accounts/list.html", {"rows": rows})


class ServiceAccountPage(TenantPage):
    """A screen on which service accounts are changed."""

    action = Action.MANAGE_SERVICE_ACCOUNTS

    def account(self) -> ServiceAccount:
        """Give the account that the address names."""
        found = service_accounts().filter(id=self.kwargs["id"]).first()
        if found is None:
            raise Http404
        return found

    def form(self, *args: Any, **kwargs: Any) -> ServiceAccountForm:
        """Give a form that offers the roles of whoever looks."""
        return ServiceAccountForm(*args, granter_role=self.membership.role, **kwargs)

    def show(
        self, form: ServiceAccountForm, account: ServiceAccount | None, *, status: int = 200
    ) -> HttpResponse:
        """Show the form."""
        context = {"form": form, "account": account}
        return self.render("tenant/service_accounts/form.html", context, status=status)


class NewServiceAccount(ServiceAccountPage):
    """Make a service account."""

    def get(self, request: HttpRequest, slug: str) -> HttpResponse:
        return self.show(self.form(), None)

    def post(self, request: HttpRequest, slug: str) -> HttpResponse:
        form = self.form(request.POST)
        if form.is_valid():
            try:
                account = service_account_create(
                    **form.chosen(), created_by=request.user, granter_role=self.membership.role
                )
            except BerthError as error:
                put_on_form(form, error)
            else:
                self.say(f"The service account {account.name} is made. Make a key for it next.")
                return redirect(self.url("service-accounts"))
        return self.show(form, None, status=422)


class EditServiceAccount(ServiceAccountPage):
    """Change a service account; its keys follow at once."""

    def get(self, request: HttpRequest, slug: str, id: str) -> HttpResponse:
        account = self.account()
        initial = {
            "name": account.name,
            "description": account.description,
            "role": account.role,
            "projects": [str(each) for each in account.projects],
        }
        return self.show(self.form(initial=initial), account)

    def post(self, request: HttpRequest, slug: str, id: str) -> HttpResponse:
        account, form = self.account(), self.form(request.POST)
        if form.is_valid():
            try:
                service_account_change(account=account, **form.chosen(), granter_role=self.membership.role)
            except BerthError as error:
                put_on_form(form, error)
            else:
                self.say(f"The service account {account.name} is changed, and its keys with it.")
                return redirect(self.url("service-accounts"))
        return self.show(form, account, status=422)


class SwitchServiceAccount(ServiceAccountPage):
    """Disable a service account, or enable it again."""

    http_method_names = ["post"]

    def post(self, request: HttpRequest, slug: str, id: str) -> HttpResponse:
        active = request.POST.get("active") == "yes"
        account = service_account_change(
            account=self.account(), active=active, granter_role=self.membership.role
        )
        done = "enabled; its keys are taken again" if active else "disabled; none of its keys is taken"
        self.say(f"The service account {account.name} is {done}.")
        return redirect(self.url("service-accounts"))


class RemoveServiceAccount(ServiceAccountPage):
    """Remove a service account, once confirmed."""

    def get(self, request: HttpRequest, slug: str, id: str) -> HttpResponse:
        account = self.account()
        context = {
            "account": account,
            "consequences": [
                "All its keys are revoked; whatever still uses them stops working.",
                "What it did stays in the histories under its name.",
            ],
            "cancel_url": self.url("service-accounts"),
        }
        return self.render("tenant/service_accounts/remove.html", context)

    def post(self, request: HttpRequest, slug: str, id: str) -> HttpResponse:
        account = self.account()
        service_account_remove(account=account, granter_role=self.membership.role)
        self.say(f"The service account {account.name} is removed.")
        return redirect(self.url("service-accounts"))
