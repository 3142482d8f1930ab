"""How engines are run: pinned images, and the table that turns SLO classes into engine settings."""

from __future__ import annotations

from django.core.validators import MaxValueValidator, MinValueValidator, RegexValidator
from django.db import models

from clusters.models.slo import SloClass
from tenants.models import Identified

digest_rule = RegexValidator(r"^sha256:[0-9a-f]{64}$", "Write sha256: and 64 hexadecimal digits.")


class EngineImage(Identified):
    """The image that a use runs from: a runtime, the gateway, or the loader of weights.

    Without a digest nothing is started from it on Kubernetes: a tag may name another image tomorrow.
    """

    use = models.CharField(max_length=40, unique=True)
    reference = models.CharField(max_length=200, help_text="registry/repository:tag")
    digest = models.CharField(max_length=71, blank=True, validators=[digest_rule])
    engine_version = models.CharField(
        max_length=40, blank=True, help_text="Of TensorRT-LLM, where it has one."
    )
    min_driver = models.CharField(max_length=40, blank=True, help_text="Oldest NVIDIA driver it runs with.")

    class Meta:
        ordering = ["use"]

    def __str__(self) -> str:
        return self.use


class ClassTuning(Identified):
    """The engine settings of an SLO class; see ``clusters.specs.Tuning``. Revisions freeze what they were made with."""

    class SchedulerPolicy(models.TextChoices):
        GUARANTEED_NO_EVICT = "GUARANTEED_NO_EVICT"
        MAX_UTILIZATION = "MAX_UTILIZATION"
        STATIC_BATCH = "STATIC_BATCH"

    class KvCacheDtype(models.TextChoices):
        AUTO = "auto"
        FP8 = "fp8"

    class AttentionBackend(models.TextChoices):
        TRTLLM = "TRTLLM"
        FLASHINFER = "FLASHINFER"
        VANILLA = "VANILLA"

    slo_class = models.OneToOneField(SloClass, on_delete=models.CASCADE, related_name="tuning")
    max_batch_size = models.PositiveIntegerField(
        null=True, blank=True, validators=[MinValueValidator(1)], help_text="Caps the plan's. Empty: no cap."
    )
    max_num_tokens = models.PositiveIntegerField(
        default=8192, validators=[MinValueValidator(64), MaxValueValidator(262144)]
    )
    scheduler_policy = models.CharField(
        max_length=24, choices=SchedulerPolicy, default=SchedulerPolicy.GUARANTEED_NO_EVICT
    )
    kv_cache_fraction = models.FloatField(
        default=0.9, validators=[MinValueValidator(0.05), MaxValueValidator(0.98)]
    )
    kv_cache_dtype = models.CharField(max_length=8, choices=KvCacheDtype, default=KvCacheDtype.AUTO)
    kv_block_reuse = models.BooleanField(default=True)
    chunked_prefill = models.BooleanField(default=True)
    attention_backend = models.CharField(
        max_length=16, choices=AttentionBackend, default=AttentionBackend.TRTLLM
    )
    cuda_graphs = models.BooleanField(default=True)
    overlap_scheduler = models.BooleanField(default=True)
    stream_interval = models.PositiveSmallIntegerField(default=1, validators=[MinValueValidator(1)])
    drain_s = models.PositiveIntegerField(
        default=60, validators=[MinValueValidator(1), MaxValueValidator(3600)]
    )
    load_s = models.PositiveIntegerField(
        default=1800, validators=[MinValueValidator(30), MaxValueValidator(14400)]
    )

    class Meta:
        ordering = ["slo_class__priority"]
        verbose_name = "engine settings"
        verbose_name_plural = "engine settings"

    def __str__(self) -> str:
        return f"Engine settings of {self.slo_class}"
