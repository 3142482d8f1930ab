"""Who may decide upon a request: by role, by name, or as an operator, and never alone upon one's own."""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import Collection, Iterable, Mapping
from typing import Any, Final

from django.db.models import Exists, OuterRef, Q

from clusters.models import ApprovalRequest, ApprovalSignature, Decides, OperatorCluster, TenantPolicy
from tenants.errors import Forbidden
from tenants.models import Membership, PlatformRole, Role, User

#: Roles that may give each part's agreement.
ROLES: Final[dict[str, frozenset[str]]] = {
    Decides.OWNER: frozenset({Role.OWNER}),
    Decides.ADMIN: frozenset({Role.OWNER, Role.ADMIN}),
    Decides.BILLING: frozenset({Role.OWNER, Role.BILLING}),
}

#: How a part is named in sentences.
WORDS: Final[dict[str, str]] = {
    Decides.OWNER: "an owner",
    Decides.ADMIN: "an owner or admin",
    Decides.BILLING: "an owner or a member with role billing",
    Decides.MEMBERS: "one of the members that the rule names",
    Decides.OPERATORS: "an operator of the platform",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Decider:
    """Who decides: a person, with the role that they or their key act with, and the door (``via``) they came by."""

    user: User | None
    actor: str
    role: str = ""
    operator: bool = False
    via: str = "api"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Asker:
    """Who asks: a person, or nobody known. ``behind`` made the key or service account that asks in their stead."""

    user: User | None
    behind: frozenset[uuid.UUID] = frozenset()

    @classmethod
    def of(cls, asker: Asker | User | None) -> Asker:
        """Give who asks where a person is given, too."""
        return asker if isinstance(asker, Asker) else cls(user=asker)

    @property
    def ids(self) -> frozenset[uuid.UUID]:
        """Everybody who must not decide upon it alone."""
        return self.behind | ({self.user.id} if self.user else set())


def parts_for(request: ApprovalRequest, decider: Decider) -> list[str]:
    """Give whose agreement ``decider`` may give to a request.

    Raises:
        Forbidden: none; the message says whose it takes.
    """
    if decider.user is None:
        raise Forbidden("A person decides: use a key that a member of the tenant made, or sign in.")
    found = [part for part, trip in parts(request).items() if _may(trip, decider)]
    if not found:
        raise Forbidden(f"This is for {who(request)} to decide.")
    if decider.user.id not in askers(request):
        return found
    own = [part for part in found if may_decide_own(request, part)]
    if not own:
        raise Forbidden(
            "You asked for it yourself, or made it dearer: somebody else decides. An owner may allow deciding alone in "
            "the policy, for where nobody else could."
        )
    return own


def askers(request: ApprovalRequest) -> frozenset[uuid.UUID]:
    """Give those who asked, stand behind the key or service account that did, or made it dearer since."""
    return frozenset({*request.behind, request.asked_by_id} - {None})


def may_decide(request: ApprovalRequest, decider: Decider) -> bool:
    """Say whether ``decider`` may decide upon a request."""
    try:
        return bool(parts_for(request, decider))
    except Forbidden:
        return False


def parts(request: ApprovalRequest) -> dict[str, Mapping[str, Any]]:
    """Give whose agreement a request takes, each with the first rule that asks for it."""
    found: dict[str, Mapping[str, Any]] = {}
    for trip in request.trips:
        found.setdefault(trip["part"], trip)
    return found


def missing_parts(request: ApprovalRequest) -> list[str]:
    """Give whose agreement is still wanting."""
    signed = set(
        ApprovalSignature.objects.filter(request=request, round=request.round).values_list("part", flat=True)
    )
    return [part for part in parts(request) if part not in signed]


def who(request: ApprovalRequest, only: Iterable[str] | None = None) -> str:
    """Say whose agreement a request takes, in words."""
    wanted = parts(request)
    names = [WORDS[trip["decides"]] for part, trip in wanted.items() if only is None or part in only]
    return " and ".join(dict.fromkeys(names))


def deciders(request: ApprovalRequest, part: str) -> list[User]:
    """Give the people who may give one part's agreement, the asker apart."""
    others = _people(request.tenant_id, parts(request)[part], cluster=request.quote.get("cluster", ""))
    return [user for user in others if user.id not in askers(request)]


def others_than(
    ids: Collection[uuid.UUID], *, tenant_id: uuid.UUID, decides: str, members: Iterable[str] = ()
) -> bool:
    """Say whether anybody but these could decide."""
    trip = {"decides": decides, "members": list(members)}
    return any(user.id not in ids for user in _people(tenant_id, trip))


def may_decide_own(request: ApprovalRequest, part: str) -> bool:
    """Say whether the asker may give a part's agreement: without four eyes, or allowed and with nobody else."""
    policy = TenantPolicy.objects.filter(tenant=request.tenant_id).in_force()
    if policy is None:
        return False
    if not policy.four_eyes:
        return True
    return policy.self_approval and not deciders(request, part)


def four_eyes(tenant_id: uuid.UUID) -> bool:
    """Say whether the tenant wants two people for what loosens its policy or rules; so it is without a policy."""
    policy = TenantPolicy.objects.filter(tenant=tenant_id).in_force()
    return policy is None or policy.four_eyes


def _may(trip: Mapping[str, Any], decider: Decider) -> bool:
    if trip["decides"] == Decides.OPERATORS:
        return decider.operator
    if decider.operator:
        return False
    if trip["decides"] == Decides.MEMBERS:
        return bool(decider.role) and decider.user is not None and str(decider.user.id) in trip["members"]
    return decider.role in ROLES[trip["decides"]]


def _people(tenant_id: uuid.UUID, trip: Mapping[str, Any], *, cluster: str = "") -> list[User]:
    """Give who may give an agreement; of operators those who answer for ``cluster``, or for all."""
    if trip["decides"] == Decides.OPERATORS:
        theirs = OperatorCluster.objects.filter(user=OuterRef("pk"))
        operates = Q(platform_role=PlatformRole.OPERATOR) & (
            ~Exists(theirs) | Exists(theirs.filter(cluster__name=cluster))
        )
        rows = User.objects.filter(operates | Q(is_superuser=True), is_active=True)
        return list(rows.order_by("email"))
    members = Membership.objects.filter(tenant=tenant_id, user__is_active=True).select_related("user")
    if trip["decides"] == Decides.MEMBERS:
        members = members.filter(user_id__in=trip["members"])
    else:
        members = members.filter(role__in=ROLES[trip["decides"]])
    return [member.user for member in members.order_by("user__email")]
