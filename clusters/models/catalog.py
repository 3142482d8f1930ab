"""Models that may be ordered."""

from __future__ import annotations

from django.contrib.postgres.fields import ArrayField
from django.core.validators import RegexValidator
from django.db import models

from clusters.models.tokenizers import Tokenizer
from tenants.models import Identified, TenantOwned
from tenants.sealing import SealedBinaryField

model_name_rule = RegexValidator(
    r"^[a-z0-9]([a-z0-9._-]{0,78}[a-z0-9])?$",
    "Use lower-case letters, digits, dots, hyphens and underscores, beginning and ending with a letter or digit.",
)


tool_parser_rule = RegexValidator(
    r"^[a-z0-9][a-z0-9_.-]*$", "Use the name of one of the engine's tool parsers, for instance qwen3."
)


class CatalogModel(Identified):
    """A model of the catalog. ``architecture`` holds the numbers the planner reads.

    Keys of ``architecture``: parameters, active_parameters, layers, hidden, heads, kv_heads, head_size,
    vocabulary (all whole numbers). The weights come from ``weights_uri``, which stands in ``weights_zones``:
    zones or regions, empty when nobody said. ``precision_notes`` has, for each precision that a job makes, its
    ``note`` and ``needs_approval``; a precision without a note is not offered.
    ``weights_secret`` is the platform's, sealed for this row. Gateways count prompts with ``tokenizer``; without
    one they take a prompt's bytes for the most that it may have.
    """

    class WeightsKind(models.TextChoices):
        BUILT_IN = "built-in", "Shipped with the runtime"
        PVC = "pvc", "A volume claim of the cluster"
        OBJECT_STORE = "object-store", "Object store"
        HUGGING_FACE = "hugging-face", "Hugging Face or a mirror"
        OCI_IMAGE = "oci-image", "OCI image volume"

    name = models.CharField(max_length=80, unique=True, validators=[model_name_rule])
    title = models.CharField(max_length=120)
    description = models.TextField()
    licence = models.CharField(max_length=80)
    allowed_zones = ArrayField(
        models.CharField(max_length=40), default=list, blank=True, help_text="Empty: anywhere."
    )
    runtimes = ArrayField(models.CharField(max_length=40), default=list)
    precisions = ArrayField(models.CharField(max_length=16), default=list)
    architecture = models.JSONField(default=dict)
    context_tokens = models.PositiveIntegerField()
    chat_template = models.TextField()
    tool_parser = models.CharField(
        max_length=40, blank=True, validators=[tool_parser_rule],
        help_text="How trtllm-serve reads calls of tools in this model's answers. Empty: it takes no tools.",
    )  # fmt: skip
    derived_from = models.ForeignKey(
        "self", on_delete=models.PROTECT, null=True, blank=True, related_name="variants"
    )
    published = models.BooleanField(default=True)
    weights_kind = models.CharField(max_length=16, choices=WeightsKind, default=WeightsKind.BUILT_IN)
    weights_uri = models.CharField(max_length=400, blank=True)
    weights_revision = models.CharField(max_length=80, blank=True)
    weights_size_gib = models.FloatField(default=0)
    weights_zones = ArrayField(models.CharField(max_length=40), default=list, blank=True)
    weights_quantize = models.JSONField(
        default=dict, blank=True, help_text="Precision to the quantization a job makes for it, fp8 or nvfp4."
    )
    precision_notes = models.JSONField(
        default=dict, blank=True,
        help_text="Of precisions that are made from the checkpoint: what is known of their answers, and whether "
        "an order must accept it.",
    )  # fmt: skip
    weights_secret = SealedBinaryField(null=True)
    tokenizer = models.ForeignKey(
        Tokenizer, on_delete=models.PROTECT, null=True, blank=True, editable=False, related_name="models"
    )

    class Meta:
        ordering = ["title"]

    def __str__(self) -> str:
        return self.title

    def is_kin(self, other: CatalogModel) -> bool:
        """Say whether one is a variant of the other, or both are of a third."""
        root = self.derived_from_id or self.id
        return root == (other.derived_from_id or other.id) or self.derived_from_id == other.id


class ModelSecret(TenantOwned):
    """A tenant's own credentials for fetching the weights of a model, sealed; they go before the platform's."""

    model = models.ForeignKey(CatalogModel, on_delete=models.CASCADE, related_name="secrets")
    sealed = SealedBinaryField()

    class Meta(TenantOwned.Meta):
        constraints = [models.UniqueConstraint(fields=["tenant", "model"], name="one_secret_per_model")]
