"""Projects: the cost centres inside the tenant."""

from __future__ import annotations

from django import forms
from django.db.models import Count, Q
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils.text import slugify

from portal.pages.base import TenantPage, put_on_form
from portal.pages.limits_form import RatesForm, rates_of, rates_told
from tenants.errors import BerthError
from tenants.limits import RATES, project_limits_set
from tenants.models import Project
from tenants.roles import Action
from tenants.services import project_change, project_create


class ProjectForm(RatesForm):
    """A project's name and cost centre, and what all its keys may use together."""

    name = forms.CharField(max_length=120)
    cost_centre = forms.CharField(
        max_length=64, required=False, label="Cost centre", help_text="As your accounting calls it."
    )

    field_order = ("name", "cost_centre", "slug", *RATES)


class NewProjectForm(ProjectForm):
    """A project to be made."""

    slug = forms.CharField(
        max_length=40,
        required=False,
        label="Short name",
        help_text="For the API, never changed. Empty: made of the name.",
    )


class Projects(TenantPage):
    """All projects."""

    def get(self, request: HttpRequest, slug: str) -> HttpResponse:
        live = Count("endpoints", filter=Q(endpoints__deleted_at=None))
        rows = [
            {"project": project, "limits": rates_told(project)}
            for project in Project.objects.annotate(live=live)
        ]
        return self.render("tenant/projects/list.html", {"rows": rows})


class NewProject(TenantPage):
    """Make a project."""

    action = Action.MANAGE_PROJECTS

    def get(self, request: HttpRequest, slug: str) -> HttpResponse:
        return self._show(NewProjectForm())

    def post(self, request: HttpRequest, slug: str) -> HttpResponse:
        form = NewProjectForm(request.POST)
        if form.is_valid():
            chosen = form.cleaned_data
            try:
                project = project_create(
                    name=chosen["name"],
                    slug=chosen["slug"] or slugify(chosen["name"])[:40].strip("-"),
                    cost_centre=chosen["cost_centre"],
                    limits=form.taken(),
                )
            except BerthError as error:
                put_on_form(form, error)
            else:
                self.say(f"The project {project.name} is made.")
                return redirect(self.url("projects"))
        return self._show(form, status=422)

    def _show(self, form: forms.Form, *, status: int = 200) -> HttpResponse:
        return self.render("tenant/projects/form.html", {"form": form, "project": None}, status=status)


class EditProject(TenantPage):
    """Change a project's name and cost centre."""

    action = Action.MANAGE_PROJECTS

    def get(self, request: HttpRequest, slug: str, id: str) -> HttpResponse:
        project = self._project(id)
        initial = {"name": project.name, "cost_centre": project.cost_centre, **rates_of(project)}
        return self._show(ProjectForm(initial=initial), project)

    def post(self, request: HttpRequest, slug: str, id: str) -> HttpResponse:
        project, form = self._project(id), ProjectForm(request.POST)
        if form.is_valid():
            try:
                project_change(project=project, **form.taken("name", "cost_centre"))
                project_limits_set(project=project, limits=form.taken())
            except BerthError as error:
                put_on_form(form, error)
            else:
                self.say(f"The project {project.name} is changed.")
                return redirect(self.url("projects"))
        return self._show(form, project, status=422)

    def _project(self, id: str) -> Project:
        project = Project.objects.filter(id=id).first()
        if project is None:
            raise Http404
        return project

    def _show(self, form: forms.Form, project: Project, *, status: int = 200) -> HttpResponse:
        return self.render("tenant/projects/form.html", {"form": form, "project": project}, status=status)
