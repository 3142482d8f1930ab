"""People of the tenant: who they are, inviting one, changing a role, removing one."""

from __future__ import annotations

from typing import Any

from django import forms
from django.conf import settings
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect

from portal.pages.base import TenantPage, put_on_form
from tenants import roles
from tenants.errors import BerthError
from tenants.identity.invitations import invitation_create, invitation_resend, invitation_revoke
from tenants.members import member_change_role, member_remove
from tenants.models import Invitation, Membership, Role
from tenants.roles import Action

DUTIES = {
    Role.OWNER: "everything, and makes owners",
    Role.ADMIN: "everything but making owners",
    Role.DEVELOPER: "endpoints, keys and their cost",
    Role.BILLING: "usage, cost and statements",
    Role.VIEWER: "looks, changes nothing",
}

BACK_BY_GROUPS = (
    "The groups of a sign-in provider made them a member: they are back once they sign in by it, unless their groups"
    " change there."
)


def grantable(granter_role: str) -> list[tuple[str, str]]:
    """Give the roles that a member may hand out, the least first, each with what it may do."""
    return [
        (role.value, f"{role.label}: {DUTIES[role]}")
        for role in reversed(Role)
        if roles.may_grant(granter_role, role)
    ]


class MemberForm(forms.Form):
    """A person to be invited."""

    email = forms.EmailField(label="E-mail address", help_text="The link to join is sent there.")
    role = forms.ChoiceField(initial=Role.DEVELOPER)

    def __init__(self, *args: Any, granter_role: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["role"].choices = grantable(granter_role)


class Members(TenantPage):
    """All members. For those who may manage them, each with a role to choose and a way out."""

    def get(self, request: HttpRequest, slug: str) -> HttpResponse:
        mine = self.membership.role
        manages = self.may(Action.MANAGE_MEMBERS)
        rows = [
            {
                "member": member,
                "removable": (removable := manages and roles.may_grant(mine, member.role)),
                "changeable": removable and member.managed_by_id is None,
                "me": member.user_id == request.user.id,
            }
            for member in Membership.objects.select_related("user").order_by("user__name", "user__email")
        ]
        choices = [(role.value, role.label) for role in Role if roles.may_grant(mine, role)]
        invitations = Invitation.objects.none()
        if self.may(Action.MANAGE_MEMBERS):
            invitations = Invitation.objects.filter(accepted_at=None, revoked_at=None).select_related(
                "invited_by"
            )
        context = {
            "rows": rows,
            "roles": choices,
            "invitations": [
                {"invitation": each, "grantable": roles.may_grant(mine, each.role)} for each in invitations
            ],
        }
        return self.render("tenant/members/list.html", context)


class NewMember(TenantPage):
    """Invite a person by e-mail address."""

    action = Action.MANAGE_MEMBERS

    def get(self, request: HttpRequest, slug: str) -> HttpResponse:
        return self._show(MemberForm(granter_role=self.membership.role))

    def post(self, request: HttpRequest, slug: str) -> HttpResponse:
        form = MemberForm(request.POST, granter_role=self.membership.role)
        if form.is_valid():
            try:
                invitation = invitation_create(
                    **form.cleaned_data,
                    granter_role=self.membership.role,
                    invited_by=request.user,
                    portal_url=portal_url(request),
                )
            except BerthError as error:
                put_on_form(form, error)
            else:
                self.say(f"An invitation is on its way to {invitation.email}.")
                return redirect(self.url("members"))
        return self._show(form, status=422)

    def _show(self, form: MemberForm, *, status: int = 200) -> HttpResponse:
        return self.render("tenant/members/new.html", {"form": form}, status=status)


class ResendInvitation(TenantPage):
    """Send a new link; the old one stops working."""

    http_method_names = ["post"]
    action = Action.MANAGE_MEMBERS

    def post(self, request: HttpRequest, slug: str, id: str) -> HttpResponse:
        invitation = invitation_resend(
            invitation=find_invitation(id),
            granter_role=self.membership.role,
            invited_by=request.user,
            portal_url=portal_url(request),
        )
        self.say(f"A new link is on its way to {invitation.email}; the old one no longer works.")
        return redirect(self.url("members"))


class RevokeInvitation(TenantPage):
    """Take an invitation back."""

    http_method_names = ["post"]
    action = Action.MANAGE_MEMBERS

    def post(self, request: HttpRequest, slug: str, id: str) -> HttpResponse:
        invitation = invitation_revoke(invitation=find_invitation(id))
        self.say(f"The invitation of {invitation.email} is taken back.")
        return redirect(self.url("members"))


class MemberRole(TenantPage):
    """Give a member another role."""

    http_method_names = ["post"]
    action = Action.MANAGE_MEMBERS

    def post(self, request: HttpRequest, slug: str, id: str) -> HttpResponse:
        member = find(id)
        role = request.POST.get("role", "")
        member_change_role(membership=member, role=role, granter_role=self.membership.role)
        self.say(f"{member.user.email} is now {member.get_role_display().lower()}.")
        return redirect(self.url("members"))


class RemoveMember(TenantPage):
    """Take a person out of the tenant, once confirmed."""

    action = Action.MANAGE_MEMBERS

    def get(self, request: HttpRequest, slug: str, id: str) -> HttpResponse:
        member = find(id)
        context = {
            "member": member,
            "consequences": [
                "They no longer see this tenant, at once.",
                "Management keys they made are revoked; inference keys go on working.",
                *([BACK_BY_GROUPS] if member.managed_by_id else []),
            ],
            "cancel_url": self.url("members"),
        }
        return self.render("tenant/members/remove.html", context)

    def post(self, request: HttpRequest, slug: str, id: str) -> HttpResponse:
        member = find(id)
        member_remove(membership=member, granter_role=self.membership.role)
        if member.user_id == request.user.id:
            return redirect("home")
        self.say(f"{member.user.email} is no longer a member.")
        return redirect(self.url("members"))


def find(id: str) -> Membership:
    """Give a member of the open tenant, or 404."""
    member = Membership.objects.select_related("user").filter(id=id).first()
    if member is None:
        raise Http404
    return member


def find_invitation(id: str) -> Invitation:
    """Give an invitation of the open tenant, or 404."""
    invitation = Invitation.objects.filter(id=id).first()
    if invitation is None:
        raise Http404
    return invitation


def portal_url(request: HttpRequest) -> str:
    """Give the address of this portal for links in mails."""
    return settings.PORTAL_PUBLIC_URL or request.build_absolute_uri("/")
