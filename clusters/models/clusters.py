"""The platform's estate: regions, clusters, GPU types and node pools."""

from __future__ import annotations

from typing import Any

from django.contrib.postgres.fields import ArrayField
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models

from tenants.models import Identified
from tenants.models.tenants import slug_rule
from tenants.sealing import SealedBinaryField


class Region(Identified):
    """Where clusters stand: country, the zones it belongs to, certifications held there."""

    code = models.SlugField(max_length=40, unique=True, validators=[slug_rule])
    name = models.CharField(max_length=120)
    country = models.CharField(max_length=2, help_text="ISO 3166-1 alpha-2 code.")
    zones = ArrayField(models.CharField(max_length=40), default=list, help_text="For instance EU, EEA, US.")
    certifications = ArrayField(models.CharField(max_length=40), default=list, blank=True)

    class Meta:
        ordering = ["code"]

    def __str__(self) -> str:
        return self.code

    @property
    def attributes(self) -> dict[str, Any]:
        """What residency and policies ask of a place, to be kept as it is now."""
        return {
            "region": self.code,
            "country": self.country,
            "zones": sorted(self.zones),
            "certifications": sorted(self.certifications),
        }


class ClusterQuerySet(models.QuerySet):
    def present(self) -> ClusterQuerySet:
        """Those that were not taken away."""
        return self.filter(removed_at=None)


class Cluster(Identified):
    """A place that runs engines.

    A Kubernetes cluster is reached at ``server`` with ``credentials``, sealed for this row; their ``version``
    counts rotations, so that whoever holds a connection sees when to make a new one. With ``namespaces`` Berth
    keeps to those, makes none, and reads no nodes. ``unread`` says what could not be read there, and why.
    """

    class DriverKind(models.TextChoices):
        LOCAL = "local"
        KUBERNETES = "kubernetes"

    class State(models.TextChoices):
        ACTIVE = "active"
        CORDONED = "cordoned"
        UNREACHABLE = "unreachable"

    class Drift(models.TextChoices):
        REPAIR = "repair", "Repair it"
        REPORT = "report", "Report it"

    class AccessMode(models.TextChoices):
        READ_WRITE_MANY = "ReadWriteMany", "Several nodes at a time"
        READ_WRITE_ONCE = "ReadWriteOnce", "One node at a time"

    class Autoscaler(models.TextChoices):
        NONE = "none", "Berth"
        KEDA = "keda", "KEDA"
        HPA = "hpa", "HorizontalPodAutoscaler"

    name = models.SlugField(max_length=40, unique=True, validators=[slug_rule])
    region = models.ForeignKey(Region, on_delete=models.PROTECT, related_name="clusters")
    driver = models.CharField(max_length=16, choices=DriverKind)
    state = models.CharField(max_length=16, choices=State, default=State.ACTIVE)
    state_reason = models.CharField(max_length=300, blank=True)
    cordon_reason = models.CharField(
        max_length=300, blank=True, help_text="Why operators place nothing there, whether or not it answers."
    )
    runtimes = ArrayField(models.CharField(max_length=40), default=list)
    declared = models.BooleanField(
        default=False, help_text="Its GPUs are declared by hand, not read from hardware."
    )
    last_seen_at = models.DateTimeField(null=True, blank=True)

    server = models.CharField(max_length=300, blank=True)
    ca_data = models.TextField(blank=True, help_text="PEM. Empty: the public authorities.")
    credentials = SealedBinaryField(null=True)
    credentials_version = models.PositiveIntegerField(default=0)
    credentials_name = models.CharField(max_length=200, blank=True, help_text="Who the cluster says we are.")
    credentials_expire_at = models.DateTimeField(null=True, blank=True)
    identity = models.CharField(
        max_length=64, blank=True, help_text="The uid of its kube-system namespace: which cluster it is."
    )
    namespaces = ArrayField(
        models.CharField(max_length=63), default=list, blank=True, help_text="Empty: Berth makes its own."
    )
    drift = models.CharField(max_length=8, choices=Drift, default=Drift.REPAIR)
    autoscaler = models.CharField(max_length=8, choices=Autoscaler, default=Autoscaler.NONE)
    storage_access_mode = models.CharField(
        max_length=16, choices=AccessMode, default=AccessMode.READ_WRITE_MANY
    )
    storage_class = models.CharField(max_length=63, blank=True)
    pull_secret = models.CharField(max_length=63, blank=True, help_text="For the engine images' registry.")
    prometheus_url = models.URLField(blank=True, help_text="Where KEDA asks for the gateways' metrics.")
    prometheus_namespace = models.CharField(max_length=63, blank=True)
    gateway_namespace = models.CharField(max_length=63, default="berth-gateway")
    loader_cidrs = ArrayField(
        models.CharField(max_length=43), default=list, blank=True,
        help_text="Where jobs that fetch weights may go. Empty: the public internet, and no private network.",
    )  # fmt: skip
    dra = models.BooleanField(default=False, help_text="Ask for GPUs by resource claims (DRA).")
    kueue_queue = models.CharField(max_length=63, blank=True)
    tolerate = ArrayField(
        models.CharField(max_length=120), default=list, blank=True, help_text="Taint keys that engines bear."
    )
    version = models.CharField(max_length=40, blank=True)
    features = ArrayField(models.CharField(max_length=80), default=list, blank=True)
    unread = models.JSONField(default=list, blank=True)
    read_at = models.DateTimeField(null=True, blank=True, help_text="When its inventory was last read.")
    removed_at = models.DateTimeField(
        null=True, blank=True, help_text="Kept since then for the history of its endpoints alone."
    )

    objects = ClusterQuerySet.as_manager()

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name


class GpuType(Identified):
    """A kind of GPU. Speeds are the vendor's dense figures; see ``clusters.planning.data``."""

    name = models.SlugField(max_length=40, unique=True)
    title = models.CharField(max_length=80)
    memory_gib = models.DecimalField(max_digits=8, decimal_places=2)
    bandwidth_gbs = models.DecimalField(max_digits=10, decimal_places=2)

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.title


class NodePool(Identified):
    """Nodes of one shape in a cluster. ``discovered`` ones follow the cluster's nodes, others are declared.

    ``resource`` is what a pod asks for, ``selector`` the labels that its nodes carry.
    """

    cluster = models.ForeignKey(Cluster, on_delete=models.CASCADE, related_name="pools")
    name = models.SlugField(max_length=40)
    gpu_type = models.ForeignKey(GpuType, on_delete=models.PROTECT, related_name="pools")
    nodes = models.PositiveIntegerField(validators=[MinValueValidator(1)])
    gpus_per_node = models.PositiveSmallIntegerField(validators=[MinValueValidator(1)])
    reserve = models.PositiveIntegerField(default=0, help_text="GPUs the operator keeps back.")
    higher_share = models.PositiveSmallIntegerField(
        default=50, validators=[MaxValueValidator(100)],
        help_text="Percent of the GPUs that endpoints of higher classes may still grow to, left free by lower ones.",
    )  # fmt: skip
    discovered = models.BooleanField(default=False)
    resource = models.CharField(max_length=80, default="nvidia.com/gpu")
    selector = models.JSONField(default=dict, blank=True)
    driver_version = models.CharField(max_length=40, blank=True, help_text="The oldest among its nodes.")

    class Meta:
        ordering = ["cluster__name", "name"]
        constraints = [models.UniqueConstraint(fields=["cluster", "name"], name="pool_name_in_cluster")]

    def __str__(self) -> str:
        return f"{self.cluster}/{self.name}"

    @property
    def total_gpus(self) -> int:
        return self.nodes * self.gpus_per_node


class Node(Identified):
    """One GPU node of a pool, as its cluster last showed it.

    ``index`` is its place in the pool, for good: reservations count on it. ``usable`` are the GPUs that are
    healthy, ``foreign`` those of them that pods hold which are not Berth's, ``own`` those that Berth's do. ``fault``
    says why nothing is planned there, ``gone_at`` since when the cluster shows it no more.
    """

    pool = models.ForeignKey(NodePool, on_delete=models.CASCADE, related_name="members")
    name = models.CharField(max_length=253)
    index = models.PositiveIntegerField()
    capacity = models.PositiveSmallIntegerField()
    usable = models.PositiveSmallIntegerField()
    foreign = models.PositiveSmallIntegerField(default=0)
    own = models.PositiveSmallIntegerField(default=0)
    driver_version = models.CharField(max_length=40, blank=True)
    schedulable = models.BooleanField(
        default=True, help_text="Not cordoned, no taint that engines do not bear."
    )
    fault = models.CharField(max_length=300, blank=True)
    fault_since = models.DateTimeField(null=True, blank=True)
    gone_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["pool", "index"]
        constraints = [
            models.UniqueConstraint(fields=["pool", "index"], name="node_index_in_pool"),
            models.UniqueConstraint(fields=["pool", "name"], name="node_name_in_pool"),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def free_for_berth(self) -> int:
        """GPUs that Berth may plan on, whether or not it holds them now."""
        if self.gone_at or self.fault or not self.schedulable:
            return 0
        return max(0, self.usable - self.foreign)
