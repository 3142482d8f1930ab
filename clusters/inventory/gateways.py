"""Gateways: admitting those that others run, and ordering those that Berth runs in its clusters."""

from __future__ import annotations

import datetime as dt
import functools
import hashlib
import logging
import secrets
from typing import Final

from celery import current_app
from celery.exceptions import OperationalError
from django.conf import settings
from django.db import transaction
from django.utils import timezone

from billing.budgets.ledger import gateway_release
from clusters.inventory.images import image_of
from clusters.models import Cluster, Gateway, Region
from clusters.specs import EngineImage
from tenants.announcements import announce
from tenants.errors import Conflict, Invalid
from tenants.sealing import SealedField, seal, unseal
from tenants.validation import clean

log = logging.getLogger(__name__)

KEEP: Final = "clusters.endpoints.tasks.keep_gateway"
IMAGE_USE: Final = "gateway"
SILENT_S: Final = 120


@transaction.atomic
def gateway_register(
    *, name: str, region: Region, public_url: str = "", token: str | None = None
) -> tuple[Gateway, str]:
    """Admit a gateway and give it with its token, which is kept nowhere; registering again renews both.

    Raises:
        Conflict: Berth runs a gateway of this name, whose token only Berth hands out.
    """
    deployed = Gateway.objects.select_for_update().filter(name=name).exclude(cluster=None).first()
    if deployed is not None:
        raise Conflict(f"Berth runs gateway {name} on {deployed.cluster}; rotate its token instead.")
    token = token or _new_token()
    gateway, _ = Gateway.objects.update_or_create(
        name=name,
        defaults={"region": region, "public_url": public_url, "token_digest": token_digest(token)},
    )
    return gateway, token


@transaction.atomic
def gateway_add(*, name: str, region: Region, public_url: str = "") -> tuple[Gateway, str]:
    """Admit a new gateway and give it with its token, which is kept nowhere.

    Raises:
        Invalid: the name is taken or malformed.
    """
    token = _new_token()
    clean(Gateway(name=name, region=region, public_url=public_url, token_digest=token_digest(token)))
    return gateway_register(name=name, region=region, public_url=public_url, token=token)


@transaction.atomic
def gateway_deploy(
    *,
    name: str,
    region: Region,
    cluster: Cluster,
    replicas: int = 2,
    storage_gib: int = 10,
    public_url: str = "",
) -> Gateway:
    """Order a gateway of ``replicas`` pods in a cluster, with a token of its own and a volume for each pod.

    Raises:
        Invalid: the name is taken or malformed, the cluster is no Kubernetes cluster of the region, the
            gateway's image is not pinned, or the control plane's own address is not set.
    """
    if cluster.driver != Cluster.DriverKind.KUBERNETES:
        raise Invalid(
            f"Cluster {cluster.name} is driven as {cluster.driver}; Berth deploys gateways on Kubernetes only.",
            errors={"cluster": ["Choose a Kubernetes cluster."]},
        )
    if cluster.region_id != region.id:
        raise Invalid(
            f"Cluster {cluster.name} stands in {cluster.region.code}, not in {region.code}.",
            errors={"cluster": [f"Choose a cluster in {region.code}."]},
        )
    pinned_image()
    control_plane_url()
    token = _new_token()
    gateway = Gateway(
        name=name,
        region=region,
        cluster=cluster,
        replicas=replicas,
        storage_gib=storage_gib,
        public_url=public_url,
        state=Gateway.State.DEPLOYING,
        state_reason=f"Ordered on {cluster.name}.",
        due_at=timezone.now(),
    )
    _give_token(gateway, token)
    clean(gateway)
    gateway.save()
    announce()
    transaction.on_commit(functools.partial(enqueue, str(gateway.id)))
    return gateway


@transaction.atomic
def gateway_change(
    *, gateway: Gateway, replicas: int | None = None, public_url: str | None = None
) -> Gateway:
    """Give a gateway another number of pods or another public address; None leaves it as it is.

    Raises:
        Invalid: a value is out of range, or the number of pods is asked of a gateway that others run.
        Conflict: the gateway is being removed.
    """
    gateway = _hold(gateway)
    if replicas is not None and gateway.cluster_id is None:
        raise Invalid(
            f"Berth does not run gateway {gateway.name}.",
            errors={"replicas": ["Only where Berth runs the gateway."]},
        )
    changed = []
    for field, value in (("replicas", replicas), ("public_url", public_url)):
        if value is not None and value != getattr(gateway, field):
            setattr(gateway, field, value)
            changed.append(field)
    clean(gateway)
    if changed:
        gateway.save(update_fields=changed)
        announce()
    if "replicas" in changed:
        wake(gateway)
    return gateway


@transaction.atomic
def gateway_token_rotate(*, gateway: Gateway) -> Gateway:
    """Give a gateway that Berth runs a new token; the old one stops working at once.

    Its pods restart one after the other with the new token. Until then each serves from the snapshot it holds
    and keeps its usage.

    Raises:
        Conflict: others run the gateway, or it is being removed.
    """
    gateway = _hold(gateway)
    if gateway.cluster_id is None:
        raise Conflict(f"Berth does not run gateway {gateway.name}; register it again for a new token.")
    _give_token(gateway, _new_token())
    gateway.save(update_fields=["token", "token_digest"])
    wake(gateway)
    return gateway


@transaction.atomic
def gateway_remove(*, gateway: Gateway, usage_is_lost: bool = False) -> Gateway:
    """Take a gateway away for good. One that Berth runs is drained first; its row goes once its cluster shows
    nothing of it, volumes included. Asking again is harmless.

    Raises:
        Conflict: it has not been heard of for :data:`SILENT_S`, so that nobody knows what usage it has
            not shipped; ``usage_is_lost`` removes it all the same.
    """
    gateway = Gateway.objects.select_for_update(of=("self",)).get(id=gateway.id)
    announce()
    if gateway.cluster_id is None:
        gateway_forget(gateway)
        return gateway
    if may_lose_usage(gateway, timezone.now()) and not usage_is_lost:
        raise Conflict(
            f"Gateway {gateway.name} has not been heard of for {SILENT_S // 60} minutes. Usage that it has not shipped "
            "goes with its volumes. Mend its way to the control plane first, or confirm the loss."
        )
    if gateway.state != Gateway.State.REMOVING:
        gateway.state, gateway.state_reason = Gateway.State.REMOVING, "Its streams end, then its pods go."
        gateway.save(update_fields=["state", "state_reason"])
    wake(gateway)
    return gateway


def gateway_forget(gateway: Gateway) -> None:
    """Delete the row of a gateway that is gone, and free what its leases of budgets had not spent."""
    gateway_release(gateway.name, now=timezone.now())
    gateway.delete()


def may_lose_usage(gateway: Gateway, now: dt.datetime) -> bool:
    """Say whether pods of a gateway that Berth runs may hold usage which they cannot ship."""
    if gateway.cluster_id is None or gateway.state == Gateway.State.REMOVING:
        return False
    if gateway.last_seen_at is None:
        return False  # without a snapshot it has served nobody
    return (now - gateway.last_seen_at).total_seconds() > SILENT_S


def pinned_image() -> EngineImage:
    """Give the image that gateways run from.

    Raises:
        Invalid: it has no digest yet.
    """
    image = image_of(IMAGE_USE)
    if image is None:
        raise Invalid(
            "No image is pinned for gateways. Build it from deploy/gateway, push it to a registry that the cluster "
            'reaches, and enter its reference and digest under "Images", use "gateway".'
        )
    return image


def control_plane_url() -> str:
    """Give where gateways in clusters reach this control plane.

    Raises:
        Invalid: nobody has said so.
    """
    url = settings.CONTROL_PLANE_URL or settings.PORTAL_PUBLIC_URL
    if not url:
        raise Invalid(
            "Gateways in clusters must reach this control plane: set BERTH_CONTROL_PLANE_URL or PORTAL_PUBLIC_URL."
        )
    return url.rstrip("/")


def gateway_token(gateway: Gateway) -> str:
    """Open the sealed token of a gateway that Berth runs.

    Raises:
        CannotOpen: it was sealed for another row, or changed, or its key is gone.
        KeysAway: it cannot be opened now.
    """
    return unseal(gateway.token, field=SealedField.of(gateway, "token")).decode()


def token_digest(token: str) -> str:
    """Give the SHA-256 of a gateway's token, which has 256 random bits and so needs no pepper."""
    return hashlib.sha256(token.encode()).hexdigest()


def wake(gateway: Gateway) -> None:
    """Make the gateway due now and, once the transaction has committed, enqueue a pass."""
    Gateway.objects.filter(id=gateway.id).update(due_at=timezone.now())
    transaction.on_commit(functools.partial(enqueue, str(gateway.id)))


def enqueue(gateway_id: str) -> None:
    """Enqueue a pass. A broker that is away costs only time: the sweep finds the due row."""
    try:
        current_app.send_task(KEEP, args=[gateway_id], retry=False)
    except OperationalError as error:
        log.warning("broker away, gateway %s waits for the sweep: %s", gateway_id, error)


def _hold(gateway: Gateway) -> Gateway:
    gateway = Gateway.objects.select_for_update(of=("self",)).get(id=gateway.id)
    if gateway.state == Gateway.State.REMOVING:
        raise Conflict(f"Gateway {gateway.name} is being removed.")
    return gateway


def _give_token(gateway: Gateway, token: str) -> None:
    gateway.token = seal(token.encode(), field=SealedField.of(gateway, "token"))
    gateway.token_digest = token_digest(token)


def _new_token() -> str:
    return f"berth_gateway_{secrets.token_urlsafe(32)}"
