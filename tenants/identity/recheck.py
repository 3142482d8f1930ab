"""Asking a provider again about somebody whom it signed in: are they still there, in which groups."""

from __future__ import annotations

import datetime as dt
import logging
import uuid
from typing import Final

from allauth.socialaccount.providers.oauth2.client import OAuth2Error
from django.conf import settings
from django.utils import timezone

from tenants import scope
from tenants.identity.oidc import by_basic, discover, groups_in, secret_of
from tenants.identity.pinned import Failed, PinnedSession
from tenants.identity.policy import speaks_for
from tenants.identity.sealed import SecretLost, unseal_field
from tenants.identity.sign_in import identity_keep
from tenants.models import ProviderIdentity
from tenants.sealing import KeysAway

log = logging.getLogger(__name__)

#: A provider that does not answer is waited for so many times the usual time; then its sessions end.
PATIENCE: Final = 4


class Gone(Exception):
    """The provider no longer vouches for the person."""


def identity_holds(*, identity_id: str, user_id: uuid.UUID) -> bool:
    """Say whether a provider still vouches for a person, asking it when the last time was long ago.

    Roles are then as its groups say. A provider that does not answer is believed for an hour or so.
    """
    with scope.platform("ask a provider again about a signed-in person"):
        identity = (
            ProviderIdentity.objects.select_related("provider", "user")
            .filter(id=identity_id, user_id=user_id)
            .first()
        )
    if identity is None or not identity.provider.active:
        return False
    if identity.provider.tenant_id is not None and identity.user.acts_for_platform:
        return False
    if not speaks_for(identity.provider, identity.user.email):
        return False
    every = dt.timedelta(minutes=settings.SSO_RECHECK_MINUTES)
    old = timezone.now() - identity.checked_at
    if old < every:
        return True
    with scope.platform("ask a provider again about a signed-in person"):
        # One request asks; others that come meanwhile go on with what was told last.
        mine = ProviderIdentity.objects.select_for_update(skip_locked=True, of=("self",)).filter(
            id=identity.id, checked_at=identity.checked_at
        )
        if not mine.exists():
            return old < every * PATIENCE
        try:
            _ask(identity)
        except Gone:
            return False
        except (Failed, OAuth2Error, SecretLost, KeysAway) as error:
            log.warning("the provider %s cannot be asked again: %s", identity.provider.name, error)
            return old < every * PATIENCE
    return True


def _ask(identity: ProviderIdentity) -> None:
    provider = identity.provider
    with PinnedSession() as session:
        described = discover(provider.issuer)
        access, refresh = _opened(identity, "access_token"), _opened(identity, "refresh_token")
        if refresh:
            client = {"client_id": provider.client_id, "client_secret": secret_of(provider)}
            basic = by_basic(described, has_secret=provider.client_secret is not None)
            answer = session.post(
                described["token_endpoint"],
                data={"grant_type": "refresh_token", "refresh_token": refresh} | ({} if basic else client),
                auth=tuple(client.values()) if basic else None,
            )
            if answer.status_code in (400, 401) and answer.json().get("error") == "invalid_grant":
                raise Gone
            answer.raise_for_status()
            told = answer.json()
            access, refresh = str(told.get("access_token", "")), str(told.get("refresh_token", ""))
        answer = session.get(described["userinfo_endpoint"], headers={"Authorization": f"Bearer {access}"})
        if answer.status_code in (401, 403):
            raise Gone
        answer.raise_for_status()
        claims = answer.json()
    if not isinstance(claims, dict) or claims.get("sub") != identity.subject:
        raise Gone
    identity_keep(
        provider=provider,
        user=identity.user,
        subject=identity.subject,
        groups=groups_in(claims, provider.groups_claim),
        access_token=access,
        refresh_token=refresh,
    )


def _opened(identity: ProviderIdentity, field: str) -> str:
    try:
        return "" if getattr(identity, field) is None else unseal_field(row=identity, field=field)
    except SecretLost as error:
        raise Gone from error  # the next sign-in brings another
