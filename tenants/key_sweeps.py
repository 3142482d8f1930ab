"""Revoking many keys at once, and keys whose text has leaked."""

from __future__ import annotations

import dataclasses
import datetime as dt
import uuid
from collections.abc import Collection, Sequence
from typing import Final

from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from tenants import narrowing, secret_keys
from tenants.announcements import announce
from tenants.errors import Forbidden, Invalid, NotFound
from tenants.keys import may_end
from tenants.models import ApiKey, Project, Role, ServiceAccount
from tenants.models.keys import ApiKeyQuerySet

MOST_AT_ONCE: Final = 500
MOST_TEXTS: Final = 500


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sweep:
    """Which keys are meant: those for which all that is given holds, of those that could still be used.

    ``created_by`` is an e-mail address, ``name`` part of a name. ``unused_since`` takes in keys that were never used
    and made before. ``texts`` are whole keys, or their beginnings of 12 characters and more.
    """

    scope: str = ""
    project: Project | None = None
    service_account: ServiceAccount | None = None
    created_by: str = ""
    name: str = ""
    unused_since: dt.datetime | None = None
    texts: Sequence[str] = dataclasses.field(default=(), repr=False)

    @property
    def asks(self) -> bool:
        """Whether anything was given."""
        return any(getattr(self, field.name) for field in dataclasses.fields(self))


def keys_swept(sweep: Sweep) -> list[ApiKey]:
    """Give the keys of the open tenant that ``sweep`` means, in order of their making; nothing is changed.

    Raises:
        Invalid: nothing was given, a text is no key's, or more than :data:`MOST_AT_ONCE` keys are meant.
    """
    if not sweep.asks:
        raise Invalid("Say which keys are meant: by one filter at least.")
    keys = listed().usable(timezone.now())
    if sweep.scope:
        keys = keys.filter(scope=sweep.scope)
    if sweep.project is not None:
        keys = keys.filter(project=sweep.project)
    if sweep.service_account is not None:
        keys = keys.filter(service_account=sweep.service_account)
    if sweep.created_by:
        keys = keys.filter(created_by__email__iexact=sweep.created_by.strip())
    if sweep.name:
        keys = keys.filter(name__icontains=sweep.name)
    if since := sweep.unused_since:
        keys = keys.filter(Q(last_used_at__lt=since) | Q(last_used_at=None, created_at__lt=since))
    if sweep.texts:
        keys = keys.filter(_with_texts(sweep.texts))
    found = list(keys.order_by("id")[: MOST_AT_ONCE + 1])
    if len(found) > MOST_AT_ONCE:
        raise Invalid(f"More than {MOST_AT_ONCE} keys are meant; narrow them down and go in several steps.")
    return found


def keys_named(ids: Collection[uuid.UUID], *, lock: bool = False) -> list[ApiKey]:
    """Give the keys of the open tenant with these ids, in order of their making.

    Raises:
        NotFound: there is no key with one of the ids.
        Invalid: there are more than :data:`MOST_AT_ONCE`.
    """
    if len(set(ids)) > MOST_AT_ONCE:
        raise Invalid(f"Name at most {MOST_AT_ONCE} keys at once.")
    rows = listed().filter(id__in=set(ids)).order_by("id")
    # In one order, so that two who revoke the same keys wait for one another and no more.
    keys = list(rows.select_for_update(of=("self",), no_key=True) if lock else rows)
    if missing := set(ids) - {key.id for key in keys}:
        raise NotFound(f"There is no key {min(map(str, missing))}.")
    return keys


@transaction.atomic
def keys_revoke(*, ids: Collection[uuid.UUID], granter_role: str = Role.OWNER) -> list[ApiKey]:
    """Revoke exactly the keys with these ids, all or none of them; those revoked already stay so.

    Raises:
        NotFound: there is no key with one of the ids.
        Forbidden: the role of one is above the revoker's own.
        Invalid: there are more than :data:`MOST_AT_ONCE`.
    """
    keys = keys_named(ids, lock=True)
    for key in keys:
        if not may_end(key, granter_role):
            raise Forbidden(
                f"A member with role {granter_role} cannot revoke the key {key.name} with role {key.acting_role}."
            )
    now = timezone.now()
    for key in keys:
        if key.revoked_at is None:
            key.revoked_at = now
            key.save(update_fields=["revoked_at"])
    announce()
    return keys


@transaction.atomic
def key_leaked(*, text: str) -> ApiKey:
    """Revoke the key of the open tenant with this whole text.

    Whoever holds the text may do it, whatever the key's role: it is known to more people than it should be.

    Raises:
        NotFound: the text is no key, or none of the tenant's; the message says nothing of it.
    """
    text = text.strip()
    if not secret_keys.well_formed(text):
        raise NotFound("This is not a whole key: prefix, length or checksum do not match. Was it cut off?")
    key = (
        ApiKey.objects.filter(digest__in=_digests(text)).select_related("project", "service_account").first()
    )
    if key is None:
        raise NotFound("No key of this tenant has this text.")
    if key.revoked_at is None:
        key.revoked_at = timezone.now()
        key.save(update_fields=["revoked_at"])
        announce()
    return key


def listed() -> ApiKeyQuerySet:
    """Give the keys that lists show to whoever asks, with what is told of them; not those of playgrounds."""
    rows = ApiKey.objects.filter(ephemeral=False)
    return narrowing.within(
        rows.select_related("project", "service_account", "created_by", "replaced_by"), "project"
    )


def _with_texts(texts: Sequence[str]) -> Q:
    if len(texts) > MOST_TEXTS:
        raise Invalid(
            f"Give at most {MOST_TEXTS} texts at once.", errors={"texts": [f"At most {MOST_TEXTS}."]}
        )
    digests: list[str] = []
    hints: list[str] = []
    for text in map(str.strip, texts):
        if secret_keys.well_formed(text):
            digests += _digests(text)
        elif text.startswith(secret_keys.PREFIX) and len(text) >= secret_keys.HINT:
            hints.append(text[: secret_keys.HINT])
        else:
            told = f"Give whole keys, or at least their first {secret_keys.HINT} characters."
            raise Invalid(told, errors={"texts": [told]})
    return Q(digest__in=digests) | Q(hint__in=hints)


def _digests(text: str) -> list[str]:
    return [secret_keys.digest(text, pepper) for pepper in secret_keys.peppers()]
