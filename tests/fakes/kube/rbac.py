"""Who asks, and whether they may: tokens, and RBAC read from the Role objects of the store."""

from __future__ import annotations

import base64
import dataclasses
import json
import secrets
import time
from collections.abc import Iterator
from typing import Any

from clusters.kube import kinds
from tests.fakes.kube.answers import Refusal
from tests.fakes.kube.store import Store

_MASTERS = "system:masters"
ANONYMOUS = "system:anonymous"


@dataclasses.dataclass(frozen=True)
class User:
    """Who asks. ``until`` is in seconds since 1970; None never ends."""

    name: str
    groups: tuple[str, ...]
    until: float | None = None
    account_uid: str = ""


@dataclasses.dataclass(frozen=True)
class Attributes:
    """What is asked for, in RBAC's words."""

    verb: str
    group: str
    resource: str
    subresource: str
    namespace: str
    name: str

    @property
    def full_resource(self) -> str:
        return f"{self.resource}/{self.subresource}" if self.subresource else self.resource


class Access:
    """Tokens and permissions over one store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.users: dict[str, User] = {}

    def user(self, header: str, certified: str) -> User:
        """Give who sends this Authorization header, or whose name is certified; a 401 where it is nobody."""
        if certified and not header:
            return User(certified, ("system:authenticated",))
        if not header:
            return User(ANONYMOUS, ("system:unauthenticated",))
        scheme, _, token = header.partition(" ")
        user = self.users.get(token) if scheme.lower() == "bearer" else None
        if user is None or (user.until is not None and user.until < time.time()) or not self._alive(user):
            raise Refusal(401, "Unauthorized", "Unauthorized")
        return user

    def token_for(self, namespace: str, name: str, seconds: float) -> tuple[str, float]:
        """Make a ServiceAccount's token; gives it with its end, in seconds since 1970."""
        account = self._store.get(kinds.SERVICE_ACCOUNT, namespace, name).obj
        now = time.time()
        subject = f"system:serviceaccount:{namespace}:{name}"
        claims = {
            "iss": "https://kubernetes.default.svc",
            "sub": subject,
            "aud": ["https://kubernetes.default.svc"],
            "iat": int(now),
            "nbf": int(now),
            "exp": int(now + seconds),
            "jti": secrets.token_hex(8),
        }
        token = ".".join(_part(each) for each in ({"alg": "RS256"}, claims)) + "." + secrets.token_urlsafe(24)
        groups = ("system:serviceaccounts", f"system:serviceaccounts:{namespace}", "system:authenticated")
        self.users[token] = User(subject, groups, now + seconds, account["metadata"]["uid"])
        return token, now + seconds

    def allows(self, user: User, what: Attributes) -> bool:
        if _MASTERS in user.groups:
            return True
        if user.name != ANONYMOUS and what.verb == "create" and what.resource.startswith("selfsubject"):
            return True
        return any(_matches(rule, what) for rule in self._rules(user, what.namespace))

    def check(self, user: User, what: Attributes) -> None:
        """Raise a 403, in the server's words, where the user may not."""
        if not self.allows(user, what):
            where = f'in the namespace "{what.namespace}"' if what.namespace else "at the cluster scope"
            resource = f"{what.resource}.{what.group}" if what.group else what.resource
            name = f' "{what.name}"' if what.name else ""
            raise Refusal(
                403,
                "Forbidden",
                f'{resource}{name} is forbidden: User "{user.name}" cannot {what.verb} resource '
                f'"{what.full_resource}" in API group "{what.group}" {where}',
            )

    def rules(self, user: User, namespace: str) -> list[dict[str, Any]]:
        """Give every rule that holds for a user in a namespace."""
        if _MASTERS in user.groups:
            return [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}]
        return list(self._rules(user, namespace))

    def _rules(self, user: User, namespace: str) -> Iterator[dict[str, Any]]:
        for (_, _), entry in self._store.list(kinds.CLUSTER_ROLE_BINDING, ""):
            if _bound(entry.obj, user, ""):
                yield from self._role(entry.obj["roleRef"], "")
        if namespace:
            for (_, _), entry in self._store.list(kinds.ROLE_BINDING, namespace):
                if _bound(entry.obj, user, namespace):
                    yield from self._role(entry.obj["roleRef"], namespace)

    def _role(self, reference: dict[str, Any], namespace: str) -> list[dict[str, Any]]:
        kind = kinds.ROLE if reference["kind"] == "Role" else kinds.CLUSTER_ROLE
        place = namespace if kind == kinds.ROLE else ""
        entry = self._store.entries[kind].get((place, reference["name"]))
        return list(entry.obj.get("rules") or ()) if entry else []

    def _alive(self, user: User) -> bool:
        if not user.account_uid:
            return True
        _, _, namespace, name = user.name.split(":")
        entry = self._store.entries[kinds.SERVICE_ACCOUNT].get((namespace, name))
        return entry is not None and entry.obj["metadata"]["uid"] == user.account_uid


def _bound(binding: dict[str, Any], user: User, namespace: str) -> bool:
    for subject in binding.get("subjects") or ():
        name = subject.get("name", "")
        if subject.get("kind") == "ServiceAccount":
            if user.name == f"system:serviceaccount:{subject.get('namespace') or namespace}:{name}":
                return True
        elif (subject.get("kind") == "User" and user.name == name) or (
            subject.get("kind") == "Group" and name in user.groups
        ):
            return True
    return False


def _matches(rule: dict[str, Any], what: Attributes) -> bool:
    def holds(values: list[str], wanted: str) -> bool:
        return "*" in values or wanted in values

    resources = rule.get("resources") or []
    names = rule.get("resourceNames") or []
    return (
        holds(rule.get("verbs") or [], what.verb)
        and holds(rule.get("apiGroups") or [], what.group)
        and (holds(resources, what.full_resource) or f"*/{what.subresource}" in resources)
        and (not names or what.name in names)
    )


def _part(claims: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=").decode()
