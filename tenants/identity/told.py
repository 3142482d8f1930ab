"""What allauth tells by signals, for it calls no adapter there: the audit is told, and what must follow does."""

from __future__ import annotations

from typing import Any

from allauth.account import signals as account
from allauth.mfa import signals as mfa
from allauth.mfa.models import Authenticator
from django.dispatch import receiver
from django.http import HttpRequest

from tenants.addresses import client_address
from tenants.identity.second_factor import FACTORS
from tenants.identity.sign_in import sessions_end
from tenants.identity.trail import tell
from tenants.models import User


@receiver(mfa.authenticator_added)
def _factor_added(request: HttpRequest, user: User, authenticator: Any, **_: Any) -> None:
    tell(user, "second-factor.added", kind=authenticator.type, address=client_address(request))
    first = (
        not Authenticator.objects.filter(user=user, type__in=FACTORS).exclude(pk=authenticator.pk).exists()
    )
    if authenticator.type in FACTORS and first:
        # Sessions that a password alone began are not let past the demand by a factor that they never showed.
        sessions_end(user=user, but=request.session.session_key)


@receiver(mfa.authenticator_removed)
def _factor_removed(request: HttpRequest, user: User, authenticator: Any, **_: Any) -> None:
    tell(user, "second-factor.removed", kind=authenticator.type, address=client_address(request))


@receiver(mfa.authenticator_reset)
def _codes_renewed(request: HttpRequest, user: User, **_: Any) -> None:
    tell(user, "second-factor.codes-renewed", address=client_address(request))


@receiver(mfa.authentication_failed)
def _factor_failed(request: HttpRequest, user: User, authenticator: Any, **_: Any) -> None:
    tell(user, "sign-in.failed", kind=authenticator.type, address=client_address(request))


@receiver(account.password_changed)
@receiver(account.password_reset)
def _password_changed(request: HttpRequest, user: User, **_: Any) -> None:
    tell(user, "password.changed", address=client_address(request))
