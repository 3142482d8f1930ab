"""Renewing clusters' tokens before they end."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import logging
from typing import Final

from django.db import transaction
from django.utils import timezone

from clusters.inventory.access import CREDENTIAL_FIELDS, credentials_of, seal_credentials
from clusters.kube.client import KubeClient
from clusters.kube.errors import KubeError
from clusters.kube.renewal import due, renew, token_life
from clusters.models import Cluster
from tenants.errors import Conflict
from tenants.sealing import KeysAway

log = logging.getLogger(__name__)

_SHORTEST_TOKEN_S: Final = 600  # Kubernetes gives none for less


def credentials_renew_due(*, now: dt.datetime | None = None) -> int:
    """Renew every cluster's ServiceAccount token of which two thirds are over; return how many were renewed.

    A cluster that is away, or does not let Berth renew, keeps what it has; its row says when that ends.
    """
    rows = Cluster.objects.filter(driver=Cluster.DriverKind.KUBERNETES, credentials_expire_at__isnull=False)
    renewed = 0
    for cluster in rows.exclude(credentials=None):
        try:
            renewed += credentials_renew(cluster=cluster, now=now)
        except (Conflict, KeysAway, KubeError) as error:
            log.warning("the token of cluster %s could not be renewed: %s", cluster.name, error)
    return renewed


def credentials_renew(*, cluster: Cluster, now: dt.datetime | None = None) -> bool:
    """Renew a cluster's ServiceAccount token if two thirds of its life are over; say whether it was.

    The new token is tried before the old one is given up.

    Raises:
        Conflict: the credentials cannot be opened.
        KeysAway: they cannot be opened now.
        KubeError: the cluster gave no new token, or does not accept it.
    """
    held = credentials_of(cluster)
    life = token_life(held.token)
    if life is None or life.expires_at is None or life.issued_at is None:
        return False
    if not due(life.expires_at, life.issued_at, now or timezone.now()):
        return False
    seconds = max(_SHORTEST_TOKEN_S, round((life.expires_at - life.issued_at).total_seconds()))
    with contextlib.closing(KubeClient(held)) as client:
        token, ends = renew(client, life.namespace, life.name, seconds)
    fresh = dataclasses.replace(held, token=token)
    with contextlib.closing(KubeClient(fresh)) as client:
        name = client.whoami()
    with transaction.atomic():
        row = Cluster.objects.select_for_update(no_key=True).get(id=cluster.id)
        if row.credentials_version != cluster.credentials_version:
            return False  # an operator has set others meanwhile
        seal_credentials(row, fresh)
        row.credentials_name, row.credentials_expire_at = name[:200], ends
        row.save(update_fields=CREDENTIAL_FIELDS)
    log.info("the token of cluster %s was renewed until %s", cluster.name, ends)
    return True
