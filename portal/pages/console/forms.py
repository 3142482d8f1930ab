"""What the console's forms share: fields in titled groups, lists of words, and the page that shows a form."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

from django import forms
from django.db import transaction
from django.http import HttpRequest, HttpResponse

from portal.pages.base import ConsolePage, put_on_form
from portal.pages.secrets import SecretForm
from tenants.errors import BerthError, NotFound


class ConsoleForm(forms.Form):
    """A form whose fields may be shown in groups.

    ``groups`` are (legend, help, field names); without them all fields stand in one column.
    """

    groups: ClassVar[tuple[tuple[str, str, tuple[str, ...]], ...]] = ()
    #: Legends of groups whose fields take the whole width.
    wide: ClassVar[tuple[str, ...]] = ()
    #: Legends of groups that are folded up until one of their fields is wrong.
    folded: ClassVar[tuple[str, ...]] = ()
    required_css_class = "required"

    def sections(self) -> Iterator[dict[str, Any]]:
        """Give the groups with their bound fields, for ``console/form.html``."""
        for legend, help_text, names in self.groups or (("", "", tuple(self.fields)),):
            yield {
                "legend": legend,
                "help": help_text,
                "fields": [self[name] for name in names],
                "wide": legend in self.wide,
                "folded": legend in self.folded and not any(name in self.errors for name in names),
                "foldable": legend in self.folded,
            }


class WordsField(forms.CharField):
    """Words apart by commas or blanks, each once, in the order typed."""

    def to_python(self, value: Any) -> list[str]:
        if isinstance(value, list):
            return value
        return list(dict.fromkeys((value or "").replace(",", " ").split()))

    def prepare_value(self, value: Any) -> Any:
        return ", ".join(value) if isinstance(value, list) else value


class MomentInput(forms.DateTimeInput):
    """The browser's own field for a day and a time."""

    input_type = "datetime-local"

    def __init__(self) -> None:
        super().__init__(format="%Y-%m-%dT%H:%M")


class FormPage(ConsolePage):
    """A screen with one form. Subclasses say what it is and :meth:`save` it.

    A refusal by :meth:`save` is put beside the fields it names; what was typed stays.
    """

    form_class: ClassVar[type[ConsoleForm]]
    title: ClassVar[str]
    lede: ClassVar[str] = ""
    submit_label: ClassVar[str] = "Save"
    template: ClassVar[str] = "console/form.html"

    def get(self, request: HttpRequest, **kwargs: Any) -> HttpResponse:
        return self.show(self.form_class(initial=self.initial(), **self.form_arguments()))

    def post(self, request: HttpRequest, **kwargs: Any) -> HttpResponse:
        form = self.form_class(request.POST, request.FILES, initial=self.initial(), **self.form_arguments())
        if form.is_valid():
            try:
                with transaction.atomic():
                    return self.save(form)
            except NotFound:
                raise
            except BerthError as error:
                put_on_form(form, error)
        if isinstance(form, SecretForm):
            form.forget(as_error=True)
        return self.show(form, status=422)

    def initial(self) -> dict[str, Any]:
        """Give what the fields hold at first."""
        return {}

    def form_arguments(self) -> dict[str, Any]:
        """Give further arguments of the form."""
        return {}

    def crumbs(self) -> list[dict[str, str]]:
        """Give the pages above this one."""
        return []

    def heading(self) -> str:
        """Give the title that the page shows."""
        return self.title

    def save(self, form: Any) -> HttpResponse:
        """Do what the valid form asks for and say where to go."""
        raise NotImplementedError

    def show(self, form: forms.Form, *, status: int = 200) -> HttpResponse:
        """Render the form."""
        crumbs = self.crumbs()
        context = {
            "form": form,
            "title": self.heading(),
            "lede": self.lede,
            "submit_label": self.submit_label,
            "cancel_url": crumbs[-1]["url"] if crumbs else "",
            "breadcrumbs": [*crumbs, {"label": self.heading()}],
            **self.more_context(),
        }
        return self.render(self.template, context, status=status)

    def more_context(self) -> dict[str, Any]:
        """Give what the template needs besides."""
        return {}
