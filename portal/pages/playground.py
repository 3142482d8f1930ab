"""Talking to an endpoint from the browser, under a key of an hour."""

from __future__ import annotations

from urllib.parse import urlsplit

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.utils import timezone

from portal.pages.endpoint import EndpointPage
from tenants.keys import PLAYGROUND_KEY_LIFE, key_mint
from tenants.models import KeyScope
from tenants.roles import Action

USUAL_ANSWER = 256


class Playground(EndpointPage):
    """The chat."""

    tab = "endpoint-playground"

    def get(self, request: HttpRequest, slug: str, id: str) -> HttpResponse:
        gateway_url = self.base_url.removesuffix("/v1")
        limit = self.endpoint.context_cap
        context = {
            "gateway_url": gateway_url,
            "key_url": self.link("endpoint-playground-key"),
            "max_tokens_limit": limit,
            "max_tokens": min(USUAL_ANSWER, limit // 2),
            "may_talk": self.may(Action.MINT_KEYS),
        }
        answer = self.render("tenant/endpoint/playground.html", context)
        # The gateway is the endpoint's own; the policy of this page alone lets the browser reach it.
        parts = urlsplit(gateway_url)
        answer._csp_update = {"connect-src": [f"{parts.scheme}://{parts.netloc}"]}
        return answer


class PlaygroundKey(EndpointPage):
    """Mint a key for the chat: of the endpoint's project, for an hour, told once as JSON."""

    http_method_names = ["post"]
    action = Action.MINT_KEYS

    def post(self, request: HttpRequest, slug: str, id: str) -> HttpResponse:
        key, text = key_mint(
            name=f"Playground of {request.user.email}"[:80],
            key_scope=KeyScope.INFERENCE,
            project=self.endpoint.project,
            created_by=request.user,
            expires_at=timezone.now() + PLAYGROUND_KEY_LIFE,
            ephemeral=True,
        )
        answer = JsonResponse({"key": text, "expires_at": key.expires_at.isoformat()}, status=201)
        answer["Cache-Control"] = "no-store"
        return answer
