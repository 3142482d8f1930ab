"""Kubernetes clusters: letting Berth in, changing how it works there, new credentials, and the way out."""

from __future__ import annotations

import copy
import ipaddress
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from django.db import transaction
from django.db.models import F, QuerySet
from django.utils import timezone

from billing.gpu_time.supply import supply_close
from clusters.drivers.registry import forget_driver
from clusters.inventory.access import CREDENTIAL_FIELDS, credentials_of, expires_at, seal_credentials
from clusters.inventory.catalog import RUNTIMES
from clusters.inventory.reading import inventory_read
from clusters.inventory.refresh import cluster_look, identity_of, look_write
from clusters.kube import check
from clusters.kube.check import Report
from clusters.kube.credentials import Credentials, KubeconfigError, from_kubeconfig
from clusters.models import Cluster, Endpoint, EndpointScaling, NodePool, Region, Revision
from tenants import scope
from tenants.errors import Conflict, Invalid, Stale
from tenants.validation import clean

__all__ = [
    "cluster_change",
    "cluster_remove",
    "connection_check",
    "credentials_from_kubeconfig",
    "credentials_given",
    "credentials_of",
    "credentials_rotate",
    "kubernetes_cluster_register",
]

#: What can be set for a cluster and changed later.
SETTINGS: Final = (
    "autoscaler",
    "dra",
    "drift",
    "gateway_namespace",
    "kueue_queue",
    "loader_cidrs",
    "namespaces",
    "prometheus_namespace",
    "prometheus_url",
    "pull_secret",
    "runtimes",
    "storage_access_mode",
    "storage_class",
    "tolerate",
)

_LABEL: Final = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_SUBDOMAIN: Final = re.compile(r"[a-z0-9]([-a-z0-9.]{0,61}[a-z0-9])?")
_TAINT: Final = re.compile(
    r"([a-z0-9]([-a-z0-9.]{0,60}[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?"
)


def credentials_from_kubeconfig(text: str, *, context: str = "") -> Credentials:
    """Read credentials from a kubeconfig's text, of its current context unless another is named.

    Raises:
        Invalid: it is no kubeconfig, or asks for what Berth does not do; the message names the field.
    """
    try:
        return from_kubeconfig(text, context=context or None)
    except KubeconfigError as error:
        raise Invalid(str(error), errors={"kubeconfig": [str(error)]}) from error


def credentials_given(
    *, server: str, ca_data: str = "", token: str = "", client_certificate: str = "", client_key: str = ""
) -> Credentials:
    """Take credentials as they are typed: an address with a token, or with a client certificate and its key.

    Raises:
        Invalid: the address is no https URL, a PEM is none, or not exactly one credential is given.
    """
    try:
        return Credentials(
            server=server.strip().rstrip("/"),
            ca_data=ca_data.strip(),
            token=token.strip(),
            client_certificate=client_certificate.strip(),
            client_key=client_key.strip(),
        )
    except KubeconfigError as error:
        field, _, _ = str(error).partition(":")
        raise Invalid(str(error), errors={_FIELDS.get(field, "token"): [str(error)]}) from error


_FIELDS: Final = {
    "server": "server",
    "certificate-authority-data": "ca_data",
    "client-certificate-data": "client_certificate",
    "client-key-data": "client_key",
    "client-certificate-data and client-key-data": "client_certificate",
}


def connection_check(*, credentials: Credentials, namespaces: Sequence[str] = ()) -> Report:
    """Try everything that Berth needs there, changing nothing; takes seconds where the cluster is away."""
    return check.connection_check(credentials, namespaces=tuple(namespaces))


def kubernetes_cluster_register(
    *,
    name: str,
    region: Region,
    credentials: Credentials,
    runtimes: list[str],
    namespaces: Sequence[str] = (),
    **settings: Any,
) -> Cluster:
    """Register a Kubernetes cluster after checking it, and read its version, features and GPUs at once.

    With ``namespaces`` Berth keeps to those, and its pools are declared by hand. ``settings`` are the others of
    :data:`SETTINGS`. What cannot be read at once is noted in ``unread``; the cluster is registered all the same.

    Raises:
        Invalid: the name is taken, a setting is malformed, or the check failed; ``errors`` say what did.
    """
    cluster = Cluster(name=name, region=region, driver=Cluster.DriverKind.KUBERNETES)
    _set(cluster, {**settings, "runtimes": runtimes, "namespaces": list(namespaces)})
    cluster.server, cluster.ca_data = credentials.server, credentials.ca_data
    clean(cluster)
    report = _checked(credentials, cluster.namespaces)
    look = cluster_look(credentials, namespaces=cluster.namespaces)
    _admit(cluster, credentials, report)
    cluster.identity = look.identity
    # The cluster is asked no more from here on: nobody waits for it behind a lock.
    with transaction.atomic():
        clean(cluster)
        cluster.save(force_insert=True)
        look_write(cluster, look)
    return cluster


def credentials_rotate(*, cluster: Cluster, credentials: Credentials) -> Cluster:
    """Replace a cluster's credentials; the old ones are in use until the new ones have passed the check.

    Raises:
        Invalid: the new ones do not pass the check, or are of another cluster; the old ones stay.
        Conflict: the cluster is no Kubernetes cluster, or was changed while the new ones were tried.
    """
    _keep_kubernetes(cluster)
    report = _checked(credentials, cluster.namespaces)
    identity = "" if cluster.namespaces else identity_of(credentials)
    with transaction.atomic():
        row = Cluster.objects.select_for_update(no_key=True).get(id=cluster.id)
        if row.removed_at is not None or row.namespaces != cluster.namespaces:
            raise Conflict(f"Cluster {cluster.name} was changed while the credentials were tried. Try again.")
        _keep_identity(row, identity)
        _admit(row, credentials, report)
        row.save(update_fields=["identity", *CREDENTIAL_FIELDS])
    return row


def cluster_change(*, cluster: Cluster, only_as_seen: bool = False, **settings: Any) -> Cluster:
    """Change how Berth works on a Kubernetes cluster; ``settings`` are of :data:`SETTINGS`.

    With ``only_as_seen`` it must still be set as ``cluster`` is. Other namespaces are tried before they are written.
    A cluster that is told to keep to given ones has its nodes read no more: pools that were read go.

    Raises:
        Invalid: there is no such setting, a value is malformed, or Berth may not work in the namespaces.
        Conflict: the cluster is no Kubernetes cluster, or a namespace in use would be taken away.
        Stale: it was changed since ``cluster`` was read.
    """
    _keep_kubernetes(cluster)
    if settings.get("namespaces") and list(settings["namespaces"]) != cluster.namespaces:
        _set(copy.copy(cluster), settings)
        _checked(credentials_of(cluster), settings["namespaces"])
    with transaction.atomic():
        row = Cluster.objects.select_for_update(no_key=True).get(id=cluster.id)
        seen = (*SETTINGS, "credentials_version")
        if only_as_seen and any(getattr(row, name) != getattr(cluster, name) for name in seen):
            raise Stale(f"The settings of {cluster.name} were changed meanwhile; read them again.")
        before = {name: getattr(row, name) for name in SETTINGS}
        _set(row, settings)
        _keep_namespaces(row, before["namespaces"])
        _keep_gateways(row, before["gateway_namespace"])
        changed = [name for name in SETTINGS if getattr(row, name) != before[name]]
        if changed:
            clean(row)
            row.save(update_fields=changed)
        if row.autoscaler != before["autoscaler"]:
            _look_again(row)
        if row.namespaces and not before["namespaces"]:
            inventory_read(row, nodes=[], pods=[], now=timezone.now())
    return row


@transaction.atomic
def cluster_remove(*, cluster: Cluster) -> None:
    """Take a cluster away, with its credentials.

    Where revisions of the past or operators refer to it, its row stays for them: without credentials and cordoned.

    Raises:
        Conflict: an endpoint or a gateway is still there; the message says how many.
    """
    # Orders lock a pool and then refer to the cluster, which this lock does not keep them from.
    row = Cluster.objects.select_for_update(no_key=True).get(id=cluster.id)
    gateways = list(row.gateways.values_list("name", flat=True))
    if gateways:
        raise Conflict(f"Berth runs the gateway {', '.join(gateways)} on {row.name}: remove it first.")
    with scope.platform("take a cluster away that runs nothing"):
        Endpoint.objects.filter(cluster=row).update(cluster=None)
        list(NodePool.objects.select_for_update().filter(cluster=row).order_by("id").values_list("id"))
        present = _present(row).count()
        if present:
            raise Conflict(
                f"{row.name} still runs {present} revisions: delete or move their endpoints first.",
                revisions=present,
            )
        NodePool.objects.filter(cluster=row).exclude(id__in=_pools_of_the_past(row)).delete()
        supply_close(cluster=row.name, ended_at=timezone.now())
        if not (Revision.objects.filter(cluster=row).exists() or row.operators.exists()):
            row.delete()
            forget_driver(row.name)
            return
    row.removed_at = timezone.now()
    row.state, row.state_reason = Cluster.State.CORDONED, "Removed; kept for the history of its endpoints."
    forget_driver(row.name)
    row.name = f"{row.name[:24]}-removed-{row.id.hex[-6:]}"  # so that the name can be given again
    row.credentials, row.credentials_name, row.credentials_expire_at = None, "", None
    row.credentials_version += 1
    row.save(update_fields=["name", "removed_at", "state", "state_reason", *CREDENTIAL_FIELDS])


def _look_again(cluster: Cluster) -> None:
    """Have replicas looked at of all that runs or sleeps there: somebody else decides from now on."""
    with scope.platform("another owner decides on the replicas in a cluster"):
        here = Revision.objects.filter(cluster=cluster, retired_at=None).values("endpoint_id")
        scalings = EndpointScaling.objects.filter(enabled=True, endpoint__in=here)
        scalings.update(due_at=timezone.now())
        Endpoint.objects.filter(id__in=here).update(due_at=timezone.now(), wakes=F("wakes") + 1)


def _set(cluster: Cluster, settings: Mapping[str, Any]) -> None:
    unknown = sorted(set(settings) - set(SETTINGS))
    if unknown:
        raise Invalid(
            f"A cluster has no setting {', '.join(unknown)}.",
            errors={name: [f"Choose from {', '.join(SETTINGS)}."] for name in unknown},
        )
    errors: dict[str, list[str]] = {}
    for name, value in settings.items():
        if name in ("namespaces", "tolerate", "runtimes", "loader_cidrs"):
            value = list(dict.fromkeys(value or []))
        setattr(cluster, name, value)
    if wrong := [name for name in cluster.namespaces if not _LABEL.fullmatch(name)]:
        errors["namespaces"] = [f"No name of a namespace: {', '.join(map(repr, wrong))}."]
    if wrong := [key for key in cluster.tolerate if not _TAINT.fullmatch(key)]:
        errors["tolerate"] = [f"No key of a taint: {', '.join(map(repr, wrong))}."]
    if not cluster.runtimes or set(cluster.runtimes) - set(RUNTIMES):
        errors["runtimes"] = [f"Choose from {', '.join(RUNTIMES)}."]
    if wrong := [each for each in cluster.loader_cidrs if not _is_network(each)]:
        errors["loader_cidrs"] = [f"No network such as 10.20.0.0/16: {', '.join(map(repr, wrong))}."]
    if cluster.autoscaler == Cluster.Autoscaler.KEDA and not cluster.prometheus_url:
        errors["prometheus_url"] = ["KEDA asks Prometheus how much is in flight; say where that is."]
    for name in ("gateway_namespace", "prometheus_namespace", "kueue_queue"):
        value = getattr(cluster, name)
        if (value or name == "gateway_namespace") and not _LABEL.fullmatch(value):
            errors[name] = [f"{value!r} is no name: use lower-case letters, digits and hyphens."]
    for name in ("storage_class", "pull_secret"):
        value = getattr(cluster, name)
        if value and not _SUBDOMAIN.fullmatch(value):
            errors[name] = [f"{value!r} is no name: use lower-case letters, digits, hyphens and dots."]
    if errors:
        raise Invalid(next(iter(errors.values()))[0], errors=errors)


def _is_network(text: str) -> bool:
    try:
        ipaddress.ip_network(text)
    except ValueError:
        return False
    return True


def _checked(credentials: Credentials, namespaces: Sequence[str]) -> Report:
    report = connection_check(credentials=credentials, namespaces=namespaces)
    if not report.ok:
        texts = [finding.text for finding in report.failures]
        raise Invalid(texts[0], errors={"connection": texts})
    return report


def _admit(cluster: Cluster, credentials: Credentials, report: Report) -> None:
    seal_credentials(cluster, credentials)
    cluster.credentials_name = report.user[:200]
    cluster.credentials_expire_at = expires_at(credentials)


def _keep_namespaces(cluster: Cluster, before: Sequence[str]) -> None:
    lost = set(before) - set(cluster.namespaces)
    if not lost and (before or not cluster.namespaces):
        return
    with scope.platform("see whether anything runs on a cluster"):
        in_use = _present(cluster).exists()
    if in_use:
        raise Conflict(
            f"Endpoints run on {cluster.name}: the namespaces it keeps to can be taken away, or given for the first "
            "time, only once they are gone."
        )


def _keep_gateways(cluster: Cluster, before: str) -> None:
    if cluster.gateway_namespace == before:
        return
    names = list(cluster.gateways.values_list("name", flat=True))
    if names:
        raise Conflict(
            f"Berth runs the gateway {', '.join(names)} in {before} on {cluster.name}: remove it there before "
            "gateways run in another namespace."
        )


def _keep_identity(cluster: Cluster, found: str) -> None:
    """Refuse what is read of another cluster; note it where nothing was known of this one."""
    if not found:
        return
    if cluster.identity and cluster.identity != found:
        text = (
            f"These credentials are of another cluster: its namespace kube-system has the uid {found}, that of "
            f"{cluster.name} has {cluster.identity}. Register the other one under a name of its own."
        )
        raise Invalid(text, errors={"connection": [text]})
    cluster.identity = found


def _keep_kubernetes(cluster: Cluster) -> None:
    if cluster.driver != Cluster.DriverKind.KUBERNETES:
        raise Conflict(f"{cluster.name} is no Kubernetes cluster.")


def _present(cluster: Cluster) -> QuerySet[Revision]:
    return Revision.objects.filter(cluster=cluster, cleaned_at=None)


def _pools_of_the_past(cluster: Cluster) -> QuerySet[Revision]:
    return Revision.objects.filter(cluster=cluster).values("pool_id")
