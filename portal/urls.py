"""All doors of the control plane."""

from django.contrib import admin
from django.urls import include, path, re_path

from clusters.api import gateways
from portal.api.errors import no_such_path
from portal.api.openapi import error_docs
from portal.pages import account_security, invitations, providers
from portal.pages.decide import DecideByLink
from portal.pages.docs import docs_page
from portal.pages.failures import no_such_page
from portal.pages.health import healthz
from portal.pages.home import Home, Tenants

urlpatterns = [
    path("", Home.as_view(), name="home"),
    path("tenants", Tenants.as_view(), name="tenants"),
    path("t/<slug:slug>/", include("portal.pages.urls")),
    path("decide/<str:token>", DecideByLink.as_view(), name="decide"),
    path("console/", include("portal.pages.console.urls")),
    path("healthz", healthz, name="healthz"),
    path("api/v1/", include("portal.api.router")),
    path("api/gateway/v1/snapshot", gateways.snapshot, name="gateway-snapshot"),
    path("api/gateway/v1/usage", gateways.usage, name="gateway-usage"),
    path("api/gateway/v1/tokenizers/<str:digest>", gateways.tokenizer, name="gateway-tokenizer"),
    path("api/gateway/v1/replicas", gateways.replicas, name="gateway-replicas"),
    path("api/gateway/v1/leases", gateways.leases, name="gateway-leases"),
    path("api/gateway/v1/signals", gateways.signals, name="gateway-signals"),
    path("api/gateway/v1/wakes", gateways.wakes, name="gateway-wakes"),
    re_path(r"^api(/.*)?$", no_such_path),
    path("docs/errors", error_docs, name="error-docs"),
    path("docs/<path:page>", docs_page, name="docs"),
    path("account/security", account_security.Security.as_view(), name="security"),
    path(
        "account/sessions/end-others", account_security.EndOtherSessions.as_view(), name="sessions-end-others"
    ),
    path("account/sessions/<int:id>/end", account_security.EndSession.as_view(), name="session-end"),
    path("invitations/join", invitations.Join.as_view(), name="invitation-join"),
    path("invitations/<str:token>", invitations.opened, name="invitation"),
    path("accounts/find-provider", providers.find, name="find-provider"),
    path("accounts/oidc/<str:provider_id>/login/", providers.login, name="provider-login"),
    path("accounts/oidc/<str:provider_id>/login/callback/", providers.callback),
    path(
        "accounts/oidc/<uuid:provider_id>/back-channel-logout",
        providers.back_channel_logout,
        name="provider-logout",
    ),
    # What the page Security shows, in one place.
    re_path(r"^accounts/(?:2fa/(?:webauthn/)?|sessions/)$", providers.to_security),
    # Accounts are connected by who a provider vouches for, not by hand.
    re_path(r"^accounts/(3rdparty|social)/(?!login/)", no_such_page),
    # A person's address is their identity, set by whoever invites them: nobody changes it alone.
    re_path(r"^accounts/(email|confirm-email)/", no_such_page),
    path("accounts/", include("allauth.urls")),
    path("admin/", admin.site.urls),
]

handler400 = "portal.api.errors.bad_request"
handler403 = "portal.pages.failures.forbidden"
handler404 = "portal.pages.failures.not_found"
handler500 = "portal.api.errors.server_error"
