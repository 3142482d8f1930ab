"""Trying a connection before it is relied on: what stands in the way, in words, and what to do about it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from clusters.kube import kinds
from clusters.kube.client import KubeClient, Version
from clusters.kube.credentials import Credentials
from clusters.kube.errors import (
    Fault,
    Forbidden,
    KubeError,
    NotFound,
    TooManyRequests,
    Unauthorized,
    Unreachable,
)
from clusters.kube.grants import Grant, Mode, Place, needed
from clusters.kube.messages import review
from clusters.kube.renewal import TokenLife, token_life

OLDEST = Version(1, 30, "v1.30")
_ANONYMOUS = "system:anonymous"
_AT_ONCE = 8  # permissions asked for at the same time


@dataclasses.dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that stands in the way."""

    code: str
    title: str
    message: str
    remedy: str

    @property
    def text(self) -> str:
        """All of it as one paragraph."""
        return f"{self.title}: {self.message} {self.remedy}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Report:
    """What a check found. ``missing`` are permissions as "verb resource in namespace".

    ``version`` and ``user`` are empty where it did not come so far; ``apis`` names the optional kinds that the
    cluster serves. ``code`` is "ok", or that of the first failure.
    """

    failures: tuple[Finding, ...] = ()
    version: str = ""
    user: str = ""
    apis: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether nothing stands in the way."""
        return not self.failures

    @property
    def code(self) -> str:
        """What stands in the way first, in a word."""
        return self.failures[0].code if self.failures else "ok"

    @property
    def title(self) -> str:
        """The result in a line."""
        return self.failures[0].title if self.failures else "The connection works"

    @property
    def message(self) -> str:
        """What was found."""
        if self.failures:
            return self.failures[0].message
        apis = ", ".join(self.apis) or "none"
        return (
            f"Kubernetes {self.version} knows Berth as {self.user} and lets it do all it needs. "
            f"Optional APIs there: {apis}."
        )

    @property
    def remedy(self) -> str:
        """What to do about it; empty where there is nothing to do."""
        return self.failures[0].remedy if self.failures else ""


def connection_check(
    credentials: Credentials,
    *,
    namespaces: Sequence[str] = (),
    grants: Sequence[Grant] | None = None,
    connect_timeout_s: float = 3.0,
    read_timeout_s: float = 10.0,
) -> Report:
    """Try everything that Berth needs in a cluster; changes nothing there, and raises nothing.

    With ``namespaces`` only those are asked about, and each must exist. ``grants`` replaces what is asked for.
    """
    client = KubeClient(credentials, connect_timeout_s=connect_timeout_s, read_timeout_s=read_timeout_s)
    found = Report()
    try:
        version = client.version()
        found = dataclasses.replace(found, version=version.text or f"{version.major}.{version.minor}")
        if version < OLDEST:
            return dataclasses.replace(found, failures=(_too_old(found.version),))
        user = client.whoami()
        found = dataclasses.replace(found, user=user)
        if user == _ANONYMOUS:
            return dataclasses.replace(found, failures=(_ANONYMOUS_FINDING,))
        served = client.features(fresh=True)
        apis = tuple(sorted({kind.kind for kind in served}))
        found = dataclasses.replace(found, apis=apis)
        mode = Mode.NAMESPACES if namespaces else Mode.CLUSTER
        wanted = needed(mode, served) if grants is None else tuple(grants)
        missing = _missing(client, wanted, namespaces, credentials.token)
        if missing:
            return dataclasses.replace(found, missing=missing, failures=(_forbidden(missing, user, mode),))
        absent = [name for name in namespaces if client.get(kinds.NAMESPACE, name) is None]
        if absent:
            return dataclasses.replace(found, failures=(_absent(absent),))
    except KubeError as error:
        return dataclasses.replace(found, failures=(finding_of(error, credentials.server),))
    finally:
        client.close()
    return found


def _missing(
    client: KubeClient, grants: Iterable[Grant], namespaces: Sequence[str], token: str
) -> tuple[str, ...]:
    asked = [need for grant in grants for need in _needs(grant, namespaces, token_life(token))]
    known = {namespace: _rules(client, namespace) for namespace in namespaces}

    def allowed(need: _Need) -> bool:
        grant, verb, namespace, name, _ = need
        # A rule that is listed holds; one that is not may still, by another authorizer.
        if any(_holds(rule, grant, verb, name) for rule in known.get(namespace or "", ())):
            return True
        return client.can(verb, grant.kind, namespace, grant.subresource, name=name)

    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="check") as threads:
        return tuple(
            need[-1] for need, yes in zip(asked, threads.map(allowed, asked), strict=True) if not yes
        )


_Need = tuple[Grant, str, str | None, str, str]  # grant, verb, namespace, name, in words


def _needs(grant: Grant, namespaces: Sequence[str], own: TokenLife | None) -> Iterator[_Need]:
    what = f"{grant.resource}.{grant.group}" if grant.group else grant.resource
    for verb in grant.verbs:
        if grant.place is Place.OWN:
            if own is not None:
                words = f"{verb} {what} of {own.name} in {own.namespace}"
                yield grant, verb, own.namespace, own.name, words
        elif grant.place is Place.NAMESPACE:
            for namespace in namespaces:
                # RBAC reads a request on a Namespace as one in that namespace, for that name.
                name = namespace if grant.kind == kinds.NAMESPACE else ""
                yield grant, verb, namespace, name, f"{verb} {what} in {namespace}"
        else:
            yield grant, verb, None, "", f"{verb} {what}" + " in all namespaces" * grant.kind.namespaced


def _rules(client: KubeClient, namespace: str) -> Sequence[Mapping[str, Any]]:
    question = review(kinds.SELF_SUBJECT_RULES_REVIEW, namespace=namespace)
    status = client.create(kinds.SELF_SUBJECT_RULES_REVIEW, question).get("status") or {}
    return status.get("resourceRules") or ()


def _holds(rule: Mapping[str, Any], grant: Grant, verb: str, name: str) -> bool:
    pairs = (("verbs", verb), ("apiGroups", grant.group), ("resources", grant.resource))
    names = rule.get("resourceNames")
    return (not names or name in names) and all(
        wanted in (rule.get(key) or ()) or "*" in (rule.get(key) or ()) for key, wanted in pairs
    )


def finding_of(error: KubeError, server: str) -> Finding:
    """Say in words what a failed request means for the connection to ``server``."""
    if isinstance(error, Unreachable):
        title, remedy = _UNREACHABLE[error.fault]
        return Finding(code=error.fault.value, title=title, message=error.message, remedy=remedy)
    if isinstance(error, Unauthorized):
        return Finding(
            code="unauthorized",
            title="The credentials are not accepted",
            message=f"{server} answered 401: it knows nobody by these credentials.",
            remedy="The token may have expired, been revoked, or belong to another cluster. Make a new one and "
            "give it here.",
        )
    if isinstance(error, Forbidden):
        return Finding(
            code="forbidden",
            title="A permission is missing",
            message=error.message,
            remedy="Apply deploy/cluster/ as the cluster's administrator, and give the token of its account.",
        )
    if isinstance(error, TooManyRequests):
        return Finding(
            code="busy",
            title="The cluster is too busy to answer",
            message=f"{server} answered 429 again and again.",
            remedy="Try again later; if it stays so, look at API Priority and Fairness in the cluster.",
        )
    if isinstance(error, NotFound):
        return Finding(
            code="not-kubernetes",
            title="This is no Kubernetes API",
            message=f"{server} lacks an address that every Kubernetes API has: {error.message}",
            remedy="Give the address of the API server itself, as it stands in a kubeconfig.",
        )
    return Finding(
        code="server-trouble",
        title="The cluster could not answer",
        message=f"{server} answered {error.status}: {error.message}",
        remedy="The cluster's administrator finds the reason in the API server's log.",
    )


_ADDRESS = "Check the address, and that firewalls between Berth and the cluster let it through."

_UNREACHABLE: dict[Fault, tuple[str, str]] = {
    Fault.REFUSED: (
        "The address refuses connections",
        "Check host and port (6443 and 443 are usual), and that the API server runs.",
    ),
    Fault.DNS: (
        "The name has no address",
        "Check the spelling, and that the name can be resolved from where Berth runs.",
    ),
    Fault.TIMEOUT: ("There is no answer", _ADDRESS),
    Fault.SLOW: (
        "The answer does not come in time",
        "The connection stands, but the API server, its etcd or one of its webhooks is slow; its administrator"
        " finds out which. Where it stays so, look at what stands between Berth and the API server.",
    ),
    Fault.NO_ROUTE: ("There is no way to the address", _ADDRESS),
    Fault.RESET: (
        "The connection breaks",
        "Something on the way ends it, or it is no HTTPS port. " + _ADDRESS,
    ),
    Fault.TLS_UNKNOWN_CA: (
        "The certificate is signed by an unknown authority",
        "Give the cluster's own certificate authority: certificate-authority-data of its kubeconfig.",
    ),
    Fault.TLS_HOST_NAME: (
        "The certificate is made out to another name",
        "Give the address under a name in the certificate, or add this name to the API server's certificate.",
    ),
    Fault.TLS_EXPIRED: (
        "The certificate is out of its time",
        "Renew the API server's certificate; check the clocks of both machines.",
    ),
    Fault.TLS: (
        "There is no TLS session",
        "Check that the port is the API server's HTTPS port, and that it speaks TLS 1.2 or later.",
    ),
    Fault.PROXY: ("The proxy fails", "Check HTTPS_PROXY and NO_PROXY of the machine that Berth runs on."),
    Fault.ADDRESS: (
        "Berth does not connect to this address",
        "Check what the name resolves to where Berth runs; an address of a cluster must lie in "
        "CLUSTER_ALLOWED_NETWORKS, where that is set.",
    ),
    Fault.NOT_KUBERNETES: (
        "This is no Kubernetes API",
        "Give the address of the API server itself, as it stands in a kubeconfig.",
    ),
}

_ANONYMOUS_FINDING = Finding(
    code="anonymous",
    title="The cluster does not see who we are",
    message=f"The cluster takes Berth for {_ANONYMOUS}: the credentials did not reach it.",
    remedy="A proxy on the way may take the Authorization header away, or end TLS before the API server. Give "
    "the API server's own address.",
)


def _too_old(version: str) -> Finding:
    return Finding(
        code="version-too-old",
        title="This version of Kubernetes is too old",
        message=f"The cluster runs {version}. Berth needs {OLDEST.major}.{OLDEST.minor} or later: from there on "
        "ValidatingAdmissionPolicies, which confine what Berth may write, are part of every cluster.",
        remedy=f"Upgrade the cluster to {OLDEST.major}.{OLDEST.minor} or later.",
    )


def _forbidden(missing: Sequence[str], user: str, mode: Mode) -> Finding:
    count = f"{len(missing)} permissions are" if len(missing) > 1 else "A permission is"
    folder = "cluster-wide" if mode is Mode.CLUSTER else "namespaces"
    return Finding(
        code="forbidden",
        title=f"{count} missing",
        message=f"{user} may not: {'; '.join(missing)}.",
        remedy=f"Apply deploy/cluster/{folder}/ as the cluster's administrator, and check that it binds this user.",
    )


def _absent(names: Sequence[str]) -> Finding:
    return Finding(
        code="namespace-missing",
        title="A namespace is missing" if len(names) == 1 else "Namespaces are missing",
        message=f"Not there: {', '.join(names)}.",
        remedy="The cluster's administrator makes them first; deploy/cluster/namespaces/ shows how.",
    )
