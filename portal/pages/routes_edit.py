"""Making, changing and deleting a named route."""

from __future__ import annotations

from typing import Any

from django import forms
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect

from clusters.endpoints.routes import MOST_RULES, route_change, route_create, route_delete, rules_of
from clusters.models import NamedRoute
from portal.pages.base import TenantPage, put_on_form
from portal.pages.route_form import (
    NameForm,
    NewNameForm,
    RouteChoices,
    RuleForm,
    blank_rule,
    bound_forms,
    forms_of,
    rearranged,
    typed_values,
    values_of,
)
from tenants.errors import BerthError, Conflict
from tenants.models import Project
from tenants.roles import Action


class RouteEditor(TenantPage):
    """A form of a name and rules, whose buttons rearrange the rules before anything is saved."""

    action = Action.ORDER

    def post(self, request: HttpRequest, slug: str, **kwargs: Any) -> HttpResponse:
        choices = RouteChoices.read()
        rules = rearranged(typed_values(request.POST), request.POST.get("intent", ""))
        if rules is not None:
            typed = {name: request.POST.get(name, "") for name in ("name", "project")}
            return self.show(self.name_form(initial=typed), forms_of(rules, choices), choices)
        form, rule_forms = self.name_form(request.POST), bound_forms(request.POST, choices)
        if not rule_forms:
            rule_forms = forms_of([blank_rule()], choices)
        elif all([form.is_valid(), *(each.is_valid() for each in rule_forms)]):
            try:
                route = self.save(form, [each.rule() for each in rule_forms])
            except BerthError as error:
                put_on_form(form, error)
            else:
                self.say(f"The route {route.name} is saved; gateways follow within a second.")
                return redirect(self.url("route", route.id))
        return self.show(form, rule_forms, choices, status=422)

    def show(
        self, form: forms.Form, rule_forms: list[RuleForm], choices: RouteChoices, *, status: int = 200
    ) -> HttpResponse:
        """Render the form."""
        context = {
            "form": form,
            "rules": rule_forms,
            "may_add": len(rule_forms) < MOST_RULES,
            "has_endpoints": bool(choices.endpoints),
            "has_keys": bool(choices.keys),
            "wrong": form.errors or any(each.errors for each in rule_forms if each.is_bound),
            **self.about(),
        }
        return self.render("tenant/routes/form.html", context, status=status)

    def name_form(self, *args: Any, **kwargs: Any) -> NameForm:
        """Give the form of the name."""
        raise NotImplementedError

    def save(self, form: NameForm, rules: list[Any]) -> NamedRoute:
        """Do what the valid forms ask for."""
        raise NotImplementedError

    def about(self) -> dict[str, Any]:
        """Give what the template says of the route."""
        raise NotImplementedError


class NewRoute(RouteEditor):
    """Make a route."""

    def get(self, request: HttpRequest, slug: str) -> HttpResponse:
        choices = RouteChoices.read()
        return self.show(self.name_form(), forms_of([blank_rule()], choices), choices)

    def name_form(self, *args: Any, **kwargs: Any) -> NewNameForm:
        return NewNameForm(*args, **kwargs)

    def save(self, form: NameForm, rules: list[Any]) -> NamedRoute:
        project = Project.objects.filter(slug=form.cleaned_data["project"]).first()
        if project is None:
            raise Conflict("The project is gone; choose another.")
        return route_create(
            project=project, name=form.cleaned_data["name"], rules=rules, created_by=self.request.user
        )

    def about(self) -> dict[str, Any]:
        return {"route": None, "cancel_url": self.url("routes")}


class EditRoute(RouteEditor):
    """Change a route's name and rules."""

    def get(self, request: HttpRequest, slug: str, id: str) -> HttpResponse:
        route, choices = find_route(id), RouteChoices.read()
        form = self.name_form(initial={"name": route.name})
        return self.show(form, forms_of(values_of(rules_of(route)), choices), choices)

    def name_form(self, *args: Any, **kwargs: Any) -> NameForm:
        return NameForm(*args, **kwargs)

    def save(self, form: NameForm, rules: list[Any]) -> NamedRoute:
        return route_change(route=find_route(self.kwargs["id"]), name=form.cleaned_data["name"], rules=rules)

    def about(self) -> dict[str, Any]:
        route = find_route(self.kwargs["id"])
        return {"route": route, "cancel_url": self.url("route", route.id)}


class DeleteRoute(TenantPage):
    """Delete a route, once its name was typed."""

    action = Action.ORDER

    def get(self, request: HttpRequest, slug: str, id: str) -> HttpResponse:
        return self._show(find_route(id))

    def post(self, request: HttpRequest, slug: str, id: str) -> HttpResponse:
        route, typed = find_route(id), request.POST.get("confirm", "")
        if typed.strip() != route.name:
            return self._show(route, typed=typed, error="This is not the name of the route.", status=422)
        route_delete(route=route)
        self.say(f"The route {route.name} is deleted.")
        return redirect(self.url("routes"))

    def _show(
        self, route: NamedRoute, *, typed: str = "", error: str = "", status: int = 200
    ) -> HttpResponse:
        context = {
            "route": route,
            "typed": typed,
            "error": error,
            "consequences": [
                "Requests by its name are refused within seconds.",
                "Its endpoints go on; each is still called by its own name.",
                "Its usage and cost stay on your statements.",
            ],
            "cancel_url": self.url("route", route.id),
        }
        return self.render("tenant/routes/delete.html", context, status=status)


def find_route(id: str) -> NamedRoute:
    """Find a route of the open tenant.

    Raises:
        Http404: there is none.
    """
    route = NamedRoute.objects.select_related("project").filter(id=id).first()
    if route is None:
        raise Http404
    return route
