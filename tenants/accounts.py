"""How django-allauth makes and names people here."""

from __future__ import annotations

from allauth.account.adapter import DefaultAccountAdapter


class AccountAdapter(DefaultAccountAdapter):
    """People are invited by a tenant's owner; nobody signs up alone."""

    def is_open_for_signup(self, request) -> bool:
        return False


def display_name(user) -> str:
    """Give the name shown for a person."""
    return str(user)
