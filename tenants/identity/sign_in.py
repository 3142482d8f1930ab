"""What begins and ends with a session."""

from __future__ import annotations

import datetime as dt
import time
from typing import Any, Final

from allauth.usersessions.models import UserSession
from django.conf import settings
from django.http import HttpRequest
from django.utils import timezone

from tenants import scope
from tenants.addresses import client_address
from tenants.identity.groups import roles_sync
from tenants.identity.sealed import seal_field
from tenants.models import IdentityProvider, ProviderIdentity, User

#: In the session: when it began, when it was last used, and by which row of :class:`ProviderIdentity`.
BEGAN: Final = "berth.began"
SEEN: Final = "berth.seen"
IDENTITY: Final = "berth.identity"
#: So often the last use is written down.
SEEN_EVERY_S: Final = 60
#: Stands for an address that the server does not tell, as behind a socket: all of them are counted together.
UNKNOWN_ADDRESS: Final = "0.0.0.0"  # noqa: S104


def session_begin(*, request: HttpRequest, user: User, login: Any = None) -> None:
    """Note in a new session when it began and, from a provider's ``login``, who vouched for the person."""
    request.session[BEGAN] = request.session[SEEN] = time.time()
    request.session.pop(IDENTITY, None)
    if login is not None:
        identity = identity_keep(
            provider=login.provider.row,
            user=user,
            subject=login.account.uid,
            groups=login.provider.groups_of(login.account.extra_data),
            access_token=login.token.token,
            refresh_token=login.token.token_secret,
        )
        request.session[IDENTITY] = str(identity.id)


def identity_keep(
    *,
    provider: IdentityProvider,
    user: User,
    subject: str,
    groups: list[str],
    access_token: str,
    refresh_token: str = "",
) -> ProviderIdentity:
    """Keep what a provider told of a person just now, and give them the roles of their groups."""
    with scope.platform("a provider vouched for a person"):
        identity, _ = ProviderIdentity.objects.update_or_create(
            provider=provider,
            subject=subject,
            defaults={"user": user, "groups": groups, "checked_at": timezone.now()},
        )
        identity.access_token = _sealed(access_token, identity, "access_token")
        if refresh_token:  # many providers do not send it again
            identity.refresh_token = _sealed(refresh_token, identity, "refresh_token")
        identity.save(update_fields=["access_token", "refresh_token"])
        roles_sync(user=user, provider=provider)
    return identity


def session_is_over(request: HttpRequest) -> bool:
    """Say whether a session has lasted as long as any may."""
    began = request.session.get(BEGAN)
    return began is not None and time.time() - began > settings.SESSION_MOST_HOURS * 3600


def session_seen(request: HttpRequest) -> None:
    """Note that a session was used, once a minute: it stays, and the list of sessions shows it."""
    now = time.time()
    if now - request.session.get(SEEN, 0) < SEEN_EVERY_S:
        return
    request.session.setdefault(BEGAN, now)
    request.session[SEEN] = now
    UserSession.objects.filter(session_key=request.session.session_key).update(
        last_seen_at=dt.datetime.fromtimestamp(now, dt.UTC), ip=client_address(request) or UNKNOWN_ADDRESS
    )


def sessions_of(user: User) -> list[UserSession]:
    """List a person's sessions that are open, the last used first."""
    return sorted(UserSession.objects.purge_and_list(user), key=lambda each: each.last_seen_at, reverse=True)


def sessions_end(*, user: User, identity: ProviderIdentity | None = None, but: str = "") -> int:
    """End a person's sessions: all, those of one identity, or all but the one with the key ``but``."""
    ended = 0
    for session in UserSession.objects.filter(user=user).exclude(session_key=but):
        if identity is not None and session._session_store(session.session_key).get(IDENTITY) != str(
            identity.id
        ):
            continue
        session.end()
        ended += 1
    return ended


def by_provider(request: HttpRequest) -> bool:
    """Say whether this session is of a provider, and not of a password or passkey of Berth's."""
    return bool(request.session.get(IDENTITY))


def provider_asking_second_factor(request: HttpRequest) -> IdentityProvider | None:
    """Give the provider of this session if it is one that asks for a second factor itself."""
    if not by_provider(request):
        return None
    with scope.platform("see whether a person's provider asks for a second factor"):
        rows = IdentityProvider.objects.filter(identities__id=request.session[IDENTITY], second_factor=True)
        return rows.first()


def _sealed(token: str, identity: ProviderIdentity, field: str) -> bytes:
    return seal_field(token, row=identity, field=field)
