"""People of the platform: giving somebody a role, changing it, taking it away; the clusters of an operator."""

from __future__ import annotations

import uuid
from collections.abc import Collection
from typing import Final

from django.db import transaction
from django.db.models import Prefetch, QuerySet

from clusters.models import Cluster, OperatorCluster
from tenants.errors import Conflict, Forbidden, Invalid
from tenants.models import SUPERUSER, PlatformRole, User
from tenants.validation import clean

#: What may be handed out, from least to most.
ROLES: Final = (
    PlatformRole.AUDITOR.value,
    PlatformRole.FINANCE.value,
    PlatformRole.OPERATOR.value,
    SUPERUSER,
)


def people() -> QuerySet[User]:
    """Give those who have a role, suspended ones too; ``operated`` holds the clusters that they answer for."""
    rows = OperatorCluster.objects.select_related("cluster")
    having = User.objects.exclude(platform_role=PlatformRole.NONE) | User.objects.filter(is_superuser=True)
    return having.prefetch_related(Prefetch("operated", queryset=rows)).order_by("email")


def role_of(person: User) -> str:
    """Give the role that a person has, suspended or not."""
    return SUPERUSER if person.is_superuser else person.platform_role


@transaction.atomic
def person_grant(
    *, email: str, role: str, clusters: Collection[Cluster] | None = None, name: str = ""
) -> User:
    """Give a role to somebody who has none, making their account when there is none.

    ``clusters`` narrow an operator; None is every one. A new account has no password: its owner chooses one by way of
    a reset.

    Raises:
        Conflict: they have a role already.
        Invalid: the address or role is malformed, or the clusters do not go with it.
    """
    _check(role, clusters)
    email = email.strip().lower()
    person = User.objects.select_for_update().filter(email=email).first()
    if person is None:
        person = User(email=email, name=name)
        person.set_unusable_password()
        clean(person)
        person.save()
    if role_of(person):
        raise Conflict(f"{person.email} has the role {role_of(person)} already; change that.")
    return _set(person, role, clusters)


@transaction.atomic
def person_change(
    *, person: User, role: str, clusters: Collection[Cluster] | None = None, by: User | None
) -> User:
    """Give somebody who has a role another one, or other clusters; None is every cluster.

    Raises:
        Conflict: it is ``by``'s own role, or the platform would be left without a superuser.
        Forbidden: ``by`` is no superuser any more.
        Invalid: the role is malformed, or the clusters do not go with it.
    """
    _check(role, clusters)
    person = _locked(person, by, keeps=role == SUPERUSER)
    return _set(person, role, clusters)


@transaction.atomic
def person_remove(*, person: User, by: User | None) -> None:
    """Take the role from somebody. They keep their account and their memberships of tenants.

    A role that the groups of a provider give is back when it says so anew; another one, given by hand, stays.

    Raises:
        Conflict: it is ``by``'s own role, or the platform would be left without a superuser.
        Forbidden: ``by`` is no superuser any more.
    """
    person = _locked(person, by, keeps=False)
    _set(person, PlatformRole.NONE, None)


def keep_a_superuser(person: User) -> None:
    """Insist that somebody else may hand out roles once ``person`` does no more.

    Raises:
        Conflict: nobody else may.
    """
    if superusers_locked() == [person.id]:
        raise Conflict(
            f"{person.email} is the last superuser: nobody could hand out roles any more. Make another one first."
        )


def superusers_locked() -> list[uuid.UUID]:
    """Give the ids of those who may hand out roles, once nobody else is handing out any.

    Whoever means to change a role takes these locks before that of the person: two superusers who demote each other
    wait for one another here, and not in a circle.
    """
    rows = (
        User.objects.filter(is_superuser=True, is_active=True).order_by("id").select_for_update(no_key=True)
    )
    return [each.id for each in rows]


def _locked(person: User, by: User | None, *, keeps: bool) -> User:
    if by is not None and by.id == person.id:
        raise Conflict("Nobody changes their own role: ask another superuser.")
    if by is not None and by.id not in superusers_locked():
        raise Forbidden("You hand out roles no more: somebody took yours away in this moment.")
    if person.is_superuser and not keeps:
        keep_a_superuser(person)
    person = User.objects.select_for_update().get(id=person.id)
    if not role_of(person):
        raise Conflict(f"{person.email} has no role of the platform any more.")
    return person


def _check(role: str, clusters: Collection[Cluster] | None) -> None:
    if role not in ROLES:
        raise Invalid(f"{role!r} is not a role.", errors={"role": [f"Choose one of {', '.join(ROLES)}."]})
    if clusters is None:
        return
    if role != PlatformRole.OPERATOR:
        text = "Only an operator answers for some clusters alone; leave them out."
        raise Invalid(text, errors={"clusters": [text]})
    if not clusters:
        text = "Name at least one cluster, or none at all for every one."
        raise Invalid(text, errors={"clusters": [text]})


def _set(person: User, role: str, clusters: Collection[Cluster] | None) -> User:
    person.is_superuser = role == SUPERUSER
    person.platform_role = PlatformRole.NONE if person.is_superuser else role
    person.platform_role_by = None  # given by hand: no provider's groups change it
    person.is_staff = person.is_superuser  # the Django admin is theirs alone
    person.save(update_fields=["is_superuser", "platform_role", "platform_role_by", "is_staff"])
    wanted = {cluster.id for cluster in clusters or ()}
    OperatorCluster.objects.filter(user=person).exclude(cluster__in=wanted).delete()
    OperatorCluster.objects.bulk_create(
        [OperatorCluster(user=person, cluster_id=each) for each in sorted(wanted)], ignore_conflicts=True
    )
    return people().filter(id=person.id).first() or person
