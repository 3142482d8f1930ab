"""What all screens share: who may see them, whose rows they see, how errors are told.

A screen is a subclass of :class:`TenantPage` (or, in the console, :class:`ConsolePage`) with ``get`` and
``post`` as usual. Both run inside the scope whose rows they show; answer with :meth:`Page.render`, which
renders at once and so inside that scope too. Screens catch a :class:`BerthError` only where they can put it
beside a form (:func:`put_on_form`); all others become a page, or an alert where htmx asked.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import zoneinfo
from collections.abc import Iterator
from typing import Any, ClassVar
from urllib.parse import urlencode

from django import forms
from django.contrib import messages
from django.core.exceptions import BadRequest
from django.db import IntegrityError
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase, JsonResponse
from django.shortcuts import render
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils import timezone
from django.utils.safestring import SafeString
from django.views import View
from django_htmx.http import HttpResponseClientRedirect

from clusters.inventory import remit
from portal.api.errors import MEDIA_TYPE
from portal.sessions import came_from, to_sign_in
from tenants import roles, scope
from tenants.across import across_tenants
from tenants.api.caller import Operator
from tenants.errors import BerthError, Conflict, Forbidden, NotFound
from tenants.identity.policy import refuse_other_sign_in
from tenants.members import memberships_of
from tenants.models import Membership, Tenant
from tenants.roles import Action, PlatformAction


@dataclasses.dataclass(frozen=True)
class Live:
    """A part of a page that keeps itself up to date; see :meth:`Page.live`."""

    digest: str
    html: SafeString

    def __str__(self) -> str:
        return self.html


class OnlyByForm(BerthError):
    """Somebody would look at what only takes a form."""

    code = "method-not-allowed"
    status = 405
    title = "There is nothing to look at here"


class Page(View):
    """A screen for people who are signed in. Subclasses say in :meth:`entered` whose rows it sees."""

    http_method_names = ["get", "head", "post"]

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if not request.user.is_authenticated:
            return _sign_in(request)
        if _has_nul(request):
            raise BadRequest("A text holds a NUL character, which PostgreSQL keeps in no text.")
        try:
            with self.entered():
                self.admit()
                return super().dispatch(request, *args, **kwargs)
        except NotFound as error:
            raise Http404(error.message) from error
        except IntegrityError:
            # Two requests passed the same check at once; the constraint let one of them through.
            told: BerthError = Conflict(
                "Someone changed the same thing at the same moment. Look, then try again."
            )
        except BerthError as error:
            told = error
        with self.entered():  # afresh: the first transaction took back what was half done
            return self.problem(told)

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """Open the scope that the screen runs in.

        Raises:
            NotFound: the screen does not exist for this person.
        """
        yield

    def admit(self) -> None:
        """Check inside the scope that the person may do what the request asks.

        Raises:
            Forbidden: they may not.
        """

    def http_method_not_allowed(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Say so in words: a browser shows an answer without any as a fault of the site."""
        answer = self.problem(
            OnlyByForm("This address takes what a form sends. Go to the page with the form.")
        )
        answer["Allow"] = ", ".join(self._allowed_methods())
        return answer

    def render(
        self, template: str, context: dict[str, Any] | None = None, *, status: int = 200
    ) -> HttpResponse:
        """Render inside the scope. Templates also get what :meth:`extra_context` gives."""
        return render(self.request, template, {**self.extra_context(), **(context or {})}, status=status)

    def extra_context(self) -> dict[str, Any]:
        """Give what every template of this door may use."""
        return {}

    def problem(self, error: BerthError) -> HttpResponse:
        """Tell an error that no form could show: a page, an alert for htmx, JSON for scripts."""
        if self.request.accepts("application/json") and not self.request.accepts("text/html"):
            return JsonResponse(error.document(), status=error.status, content_type=MEDIA_TYPE)
        if self.request.htmx:
            answer = self.render(
                "components/alert.html", {"tone": "danger", "title": error.title, "text": error.message}
            )
            answer["HX-Retarget"], answer["HX-Reswap"] = "#messages", "innerHTML"
            return answer
        context = {
            "error": error,
            "back_url": came_from(self.request),
        }
        return self.render("pages/problem.html", context, status=error.status)

    def live(self, template: str, context: dict[str, Any], *, name: str, url: str, every_s: int) -> Live:
        """Render a part of the page that keeps itself up to date by asking ``url`` every ``every_s`` seconds.

        ``name`` is its id. The page shows it by ``{{ variable }}``; the view behind ``url`` makes the same
        and answers with :meth:`live_answer`, which sends it only when it reads differently. So nothing moves
        under a reader's hands for nothing. It must hold no form: a CSRF token never reads the same twice.
        """
        inner = render_to_string(template, {**self.extra_context(), **context}, request=self.request)
        digest = hashlib.blake2s(f"{every_s}{inner}".encode(), digest_size=8).hexdigest()
        url = f"{url}{'&' if '?' in url else '?'}seen={digest}"
        return Live(
            digest,
            render_to_string(
                "pages/live.html", {"name": name, "url": url, "every_s": every_s, "inner": inner}
            ),
        )

    def live_answer(self, live: Live) -> HttpResponse:
        """Answer the question of a live part: what it is now, or 204 where that was seen already."""
        seen = self.request.GET.get("seen") == live.digest
        return HttpResponse(status=204) if seen else HttpResponse(live.html)

    def say(self, text: str) -> None:
        """Leave a message that the next page shows: what was done."""
        messages.success(self.request, text)


class TenantPage(Page):
    """A screen of one tenant, whose slug is in the path.

    ``action`` is what the role must allow to look, ``write_action`` what it must allow to POST (default:
    the same). Inside, ``self.tenant`` and ``self.membership`` are set and every query sees the tenant's rows
    only; a tenant that the person is no member of reads like one that does not exist. Templates get
    ``tenant``, ``membership`` and ``may`` (``may.order``, ``may.mint_keys``, ... see :class:`Action`).
    """

    action: ClassVar[Action] = Action.VIEW
    write_action: ClassVar[Action | None] = None

    tenant: Tenant
    membership: Membership

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        memberships = memberships_of(user_id=self.request.user.id)
        membership = next((each for each in memberships if each.tenant.slug == self.kwargs["slug"]), None)
        if membership is None:
            raise NotFound("There is no such page.")
        self.membership, self.tenant = membership, membership.tenant
        self.request.membership, self.request.memberships = membership, memberships  # read by the shell
        with (
            scope.tenant(membership.tenant_id),
            timezone.override(zoneinfo.ZoneInfo(membership.tenant.time_zone)),
        ):
            yield

    def admit(self) -> None:
        refuse_other_sign_in(self.request, self.membership)
        self.demand((self.write_action or self.action) if self.request.method == "POST" else self.action)

    def demand(self, action: Action) -> None:
        """Insist that the member's role allows ``action``.

        Raises:
            Forbidden: it does not.
        """
        if not self.may(action):
            raise Forbidden(
                f"The role {self.membership.role} may not {action.replace('-', ' ')}. "
                "An owner or admin of the tenant can give you another role."
            )

    def may(self, action: Action) -> bool:
        """Say whether the member's role allows ``action``."""
        return roles.allows(self.membership.role, action)

    @property
    def actor(self) -> str:
        """Give how the history names whoever acts here."""
        return self.request.user.email

    def url(self, name: str, *args: Any, **query: Any) -> str:
        """Give the path of another screen of this tenant by its name in ``portal.pages.urls``."""
        path = reverse(f"tenant:{name}", args=[self.tenant.slug, *args])
        return f"{path}?{urlencode(query, doseq=True)}" if query else path

    def extra_context(self) -> dict[str, Any]:
        may = {action.name.lower(): self.may(action) for action in Action}
        return {"tenant": self.tenant, "membership": self.membership, "may": may}


class ConsolePage(Page):
    """A screen of the operator console, across tenants. To those who are not of the platform it does not exist.

    ``reason`` says why rows of all tenants are needed and is logged. ``action`` is what the person's role must allow to
    look, ``write_action`` what it must allow to POST (default: the same). Inside, ``self.operator`` is set, and
    :mod:`clusters.inventory.remit` gives what of the estate they reach. Templates get ``operator`` and ``may``
    (``may.manage_estate``, ... see :class:`PlatformAction`).
    """

    reason: ClassVar[str] = "show the operator console"
    action: ClassVar[PlatformAction]
    write_action: ClassVar[PlatformAction | None] = None

    operator: Operator

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        operator = remit.operator_of(self.request.user)
        if operator is None:
            raise NotFound("There is no such page.")
        self.operator = self.request.operator = operator  # read by the shell
        look = across_tenants(self.request.user, what=self.request.path, reason=self.reason)
        with look, remit.within(operator):
            yield

    def admit(self) -> None:
        writes = self.request.method == "POST"
        self.operator.demand((self.write_action or self.action) if writes else self.action)

    def extra_context(self) -> dict[str, Any]:
        may = {action.name.lower(): self.operator.may(action) for action in PlatformAction}
        return {"operator": self.operator, "may": may}

    @property
    def actor(self) -> str:
        """Give how the history names whoever acts here."""
        return self.operator.actor


def put_on_form(form: forms.Form, error: BerthError) -> None:
    """Show an error beside the fields it names, or above the form; what was typed stays.

    The form must have been cleaned.
    """
    placed = False
    for field, texts in getattr(error, "errors", {}).items():
        form.add_error(field if field in form.fields else None, texts)
        placed = True
    if not placed:
        form.add_error(None, error.message)


def _has_nul(request: HttpRequest) -> bool:
    given = (request.GET, request.POST)
    texts = (text for values in given for _, found in values.lists() for text in found)
    return "\x00" in request.path or any("\x00" in text for text in texts)


def _sign_in(request: HttpRequest) -> HttpResponse:
    answer = to_sign_in(request)
    # A fragment cannot take a redirect: htmx would put the sign-in form into the middle of the page.
    return HttpResponseClientRedirect(reverse("account_login")) if request.htmx else answer
