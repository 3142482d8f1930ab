"""A cluster's credentials: sealed into its row, opened from it."""

from __future__ import annotations

import datetime as dt
from typing import Final

import msgspec
from cryptography import x509

from clusters.kube.credentials import Credentials
from clusters.kube.renewal import token_life
from clusters.models import Cluster
from tenants.errors import Conflict
from tenants.sealing import CannotOpen, SealedField, seal, unseal

#: What of the credentials is secret, or belongs to what is.
_SEALED: Final = ("token", "client_certificate", "client_key", "server_name")

#: Fields of a cluster that are saved together with new credentials.
CREDENTIAL_FIELDS: Final = (
    "server",
    "ca_data",
    "credentials",
    "credentials_version",
    "credentials_name",
    "credentials_expire_at",
)


def credentials_of(cluster: Cluster) -> Credentials:
    """Open the credentials of a Kubernetes cluster.

    Raises:
        Conflict: it has none, or they cannot be opened any more; new ones must be set.
        KeysAway: they cannot be opened now.
    """
    if not cluster.credentials:
        raise Conflict(f"Cluster {cluster.name} has no credentials; set new ones.")
    try:
        plain = unseal(cluster.credentials, field=SealedField.of(cluster, "credentials"))
    except CannotOpen as error:
        raise Conflict(
            f"The credentials of cluster {cluster.name} cannot be opened. {error} Set new ones."
        ) from error
    return Credentials(
        server=cluster.server, ca_data=cluster.ca_data, **msgspec.json.decode(plain, type=dict[str, str])
    )


def seal_credentials(cluster: Cluster, credentials: Credentials) -> None:
    """Put credentials into a cluster's row, which is not saved; whoever holds older ones sees a new version."""
    secret = {name: getattr(credentials, name) for name in _SEALED if getattr(credentials, name)}
    cluster.server, cluster.ca_data = credentials.server, credentials.ca_data
    cluster.credentials = seal(msgspec.json.encode(secret), field=SealedField.of(cluster, "credentials"))
    cluster.credentials_version += 1


def expires_at(credentials: Credentials) -> dt.datetime | None:
    """Say when credentials end: a ServiceAccount's token, or a client certificate. None: not known, or never."""
    if credentials.client_certificate:
        chain = x509.load_pem_x509_certificates(credentials.client_certificate.encode())
        return chain[0].not_valid_after_utc
    life = token_life(credentials.token)
    return life.expires_at if life else None
