"""People: who has which role of the platform; handing roles out, taking them away; ending anybody's sessions."""

from __future__ import annotations

from typing import Any

from django import forms
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse

from clusters.api.people import facts
from clusters.inventory import people, remit
from clusters.models import Cluster
from portal.pages.base import ConsolePage
from portal.pages.console.forms import ConsoleForm, FormPage
from portal.pages.devices import device
from tenants.audit import audit
from tenants.errors import BerthError, NotFound
from tenants.identity.second_factor import has_second_factor
from tenants.identity.sign_in import sessions_end, sessions_of
from tenants.identity.trail import tell_of
from tenants.models import SUPERUSER, PlatformRole, User
from tenants.roles import PlatformAction

DUTIES = {
    PlatformRole.AUDITOR.value: "reads everything, the audit trail too, and changes nothing",
    PlatformRole.FINANCE.value: "prices, statements, commitments and credits; no estate, no keys",
    PlatformRole.OPERATOR.value: "clusters, endpoints, the offer, tenants; sees money, sets none",
    SUPERUSER: "everything, and hands out these roles",
}

BACK_BY_GROUPS = (
    "The groups of {provider} give this role: it is back at the next sign-in, unless the groups or their mapping"
    " change. Another role, given by hand, stays."
)

ALL, SOME = "all", "some"


class RoleForm(ConsoleForm):
    role = forms.ChoiceField(
        choices=[(role, f"{role.capitalize()}: {DUTIES[role]}") for role in people.ROLES],
        widget=forms.RadioSelect,
    )
    answers_for = forms.ChoiceField(
        choices=[(ALL, "Every cluster, new ones too"), (SOME, "The clusters ticked below alone")],
        widget=forms.RadioSelect, required=False, initial=ALL, label="An operator answers for",
    )  # fmt: skip
    clusters = forms.ModelMultipleChoiceField(
        Cluster.objects.none(), to_field_name="name", required=False, widget=forms.CheckboxSelectMultiple
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["clusters"].queryset = remit.clusters()

    def wishes(self) -> dict[str, Any]:
        """Give what was chosen, as the services take it."""
        wishes = dict(self.cleaned_data)
        some = wishes["role"] == PlatformRole.OPERATOR and wishes.pop("answers_for") == SOME
        wishes.pop("answers_for", None)
        return {**wishes, "clusters": list(wishes["clusters"]) if some else None}


class NewPersonForm(RoleForm):
    email = forms.EmailField(
        label="E-mail address",
        help_text="An account is made where there is none; its owner chooses a password by way of a reset.",
    )
    name = forms.CharField(max_length=120, required=False)

    field_order = ("email", "name", "role", "answers_for", "clusters")


class People(ConsolePage):
    """Everybody with a role."""

    action = PlatformAction.VIEW_PEOPLE
    reason = "list the platform's people"

    def get(self, request: HttpRequest) -> HttpResponse:
        rows = [
            {
                "person": person,
                "role": people.role_of(person).capitalize(),
                "clusters": [each.cluster.name for each in person.operated.all()],
                "everywhere": person.platform_role == PlatformRole.OPERATOR,
                "second_factor": has_second_factor(person),
                "me": person.id == request.user.id,
            }
            for person in people.people()
        ]
        return self.render("console/people.html", {"rows": rows})


class PersonAdd(FormPage):
    action = PlatformAction.MANAGE_PEOPLE
    reason = "give somebody a role of the platform"
    form_class = NewPersonForm
    title = "Add a person"
    lede = "A role of the platform reaches across tenants. It holds from the person's next request on."
    submit_label = "Add person"

    def crumbs(self) -> list[dict[str, str]]:
        return [_crumb()]

    def initial(self) -> dict[str, Any]:
        return {"role": PlatformRole.AUDITOR}

    def save(self, form: NewPersonForm) -> HttpResponse:
        person = people.person_grant(**form.wishes())
        audit(self.request.user, "platform-role.grant", **facts(person))
        self.say(f"{person.email} is {people.role_of(person)} now.")
        return redirect("console:people")


class PersonChange(FormPage):
    action = PlatformAction.MANAGE_PEOPLE
    reason = "change somebody's role of the platform"
    form_class = RoleForm
    title = "Change role"
    lede = "It holds from the person's next request on."
    submit_label = "Save role"

    @property
    def person(self) -> User:
        return find_person(self.kwargs["id"])

    def heading(self) -> str:
        return f"Role of {self.person}"

    def crumbs(self) -> list[dict[str, str]]:
        return [_crumb()]

    def initial(self) -> dict[str, Any]:
        person = self.person
        held = [each.cluster.name for each in person.operated.all()]
        return {"role": people.role_of(person), "answers_for": SOME if held else ALL, "clusters": held}

    def save(self, form: RoleForm) -> HttpResponse:
        person = people.person_change(person=self.person, by=self.request.user, **form.wishes())
        audit(self.request.user, "platform-role.change", **facts(person))
        self.say(f"{person.email} is {people.role_of(person)} now.")
        return redirect("console:people")


class PersonRemove(ConsolePage):
    """Takes the role away, once confirmed."""

    action = PlatformAction.MANAGE_PEOPLE
    reason = "take somebody's role of the platform away"

    def get(self, request: HttpRequest, id: Any) -> HttpResponse:
        return self._ask(find_person(id))

    def post(self, request: HttpRequest, id: Any) -> HttpResponse:
        person = find_person(id)
        try:
            people.person_remove(person=person, by=request.user)
        except BerthError as error:
            return self._ask(person, error=error)
        audit(request.user, "platform-role.remove", email=person.email)
        self.say(f"{person.email} has no role of the platform any more.")
        return redirect("console:people")

    def _ask(self, person: User, *, error: BerthError | None = None) -> HttpResponse:
        context = {
            "person": person,
            "error": error,
            "consequences": [
                "From the next request on the console and the platform's part of the API do not exist for them.",
                "Their account and their memberships of tenants stay.",
                *(
                    [BACK_BY_GROUPS.format(provider=person.platform_role_by)]
                    if person.platform_role_by_id
                    else []
                ),
            ],
            "cancel_url": reverse("console:people"),
            "breadcrumbs": [_crumb(), {"label": f"Take the role of {person} away"}],
        }
        return self.render("console/person_remove.html", context, status=error.status if error else 200)


class _Sessions(ConsolePage):
    """Sessions of anybody with an account, of tenants' members too: what is lost or stolen is signed out at once."""

    action = PlatformAction.MANAGE_PEOPLE

    @property
    def person(self) -> User:
        person = User.objects.filter(id=self.kwargs["id"]).first()
        if person is None:
            raise NotFound("There is no such person.")
        return person

    def told(self, person: User, text: str, **facts: Any) -> HttpResponse:
        tell_of(person, "session.revoked", operator=self.request.user, **facts)
        self.say(text)
        return redirect("console:person-sessions", person.id)


class PersonSessions(_Sessions):
    reason = "list a person's sessions"

    def get(self, request: HttpRequest, id: Any) -> HttpResponse:
        person = self.person
        rows = [{"row": each, "device": device(each.user_agent)} for each in sessions_of(person)]
        context = {
            "person": person,
            "rows": rows,
            "breadcrumbs": [_crumb(), {"label": f"Sessions of {person}"}],
        }
        return self.render("console/person_sessions.html", context)


class EndSession(_Sessions):
    http_method_names = ["post"]
    reason = "end a session of somebody else"

    def post(self, request: HttpRequest, id: Any, session: int) -> HttpResponse:
        person = self.person
        found = next((each for each in sessions_of(person) if each.pk == session), None)
        if found is None:
            raise Http404
        on = device(found.user_agent)
        found.end()
        return self.told(person, f"The session of {person} on {on} is ended.", device=on)


class EndSessions(_Sessions):
    http_method_names = ["post"]
    reason = "end all sessions of somebody else"

    def post(self, request: HttpRequest, id: Any) -> HttpResponse:
        person = self.person
        ended = sessions_end(user=person)
        return self.told(person, f"{person} is signed out everywhere.", ended=ended)


def find_person(id: Any) -> User:
    """Find somebody with a role.

    Raises:
        NotFound: there is nobody, or they have none.
    """
    person = people.people().filter(id=id).first()
    if person is None:
        raise NotFound("There is no such person.")
    return person


def _crumb() -> dict[str, str]:
    return {"label": "People", "url": reverse("console:people")}
