"""The platform's estate: regions, clusters, GPU types and node pools."""

from __future__ import annotations

from django.contrib.postgres.fields import ArrayField
from django.core.validators import MinValueValidator
from django.db import models

from tenants.models import Identified
from tenants.models.tenants import slug_rule


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


class Cluster(Identified):
    """A place that runs engines."""

    class DriverKind(models.TextChoices):
        LOCAL = "local"
        KUBERNETES = "kubernetes"

    class State(models.TextChoices):
        ACTIVE = "active"
        CORDONED = "cordoned"
        UNREACHABLE = "unreachable"

    name = models.SlugField(max_length=40, unique=True, validators=[slug_rule])
    region = models.ForeignKey(Region, on_delete=models.PROTECT, related_name="clusters")
    driver = models.CharField(max_length=16, choices=DriverKind)
    state = models.CharField(max_length=16, choices=State, default=State.ACTIVE)
    state_reason = models.CharField(max_length=300, blank=True)
    runtimes = ArrayField(models.CharField(max_length=40), default=list)
    declared = models.BooleanField(
        default=False, help_text="Its GPUs are declared by hand, not read from hardware."
    )
    last_seen_at = models.DateTimeField(null=True, blank=True)

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
    """Nodes of one shape in a cluster."""

    cluster = models.ForeignKey(Cluster, on_delete=models.CASCADE, related_name="pools")
    name = models.SlugField(max_length=40)
    gpu_type = models.ForeignKey(GpuType, on_delete=models.PROTECT, related_name="pools")
    nodes = models.PositiveIntegerField(validators=[MinValueValidator(1)])
    gpus_per_node = models.PositiveSmallIntegerField(validators=[MinValueValidator(1)])
    reserve = models.PositiveIntegerField(default=0, help_text="GPUs the operator keeps back.")

    class Meta:
        ordering = ["cluster__name", "name"]
        constraints = [models.UniqueConstraint(fields=["cluster", "name"], name="pool_name_in_cluster")]

    def __str__(self) -> str:
        return f"{self.cluster}/{self.name}"

    @property
    def total_gpus(self) -> int:
        return self.nodes * self.gpus_per_node
