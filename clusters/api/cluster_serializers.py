"""Clusters, engine images and engine settings as JSON. Credentials come in; none ever goes out."""

from __future__ import annotations

import dataclasses
from typing import Any

from rest_framework import serializers

from clusters.inventory import remit
from clusters.inventory.catalog import RUNTIMES
from clusters.inventory.tuning import FIELDS as KNOBS
from clusters.inventory.tuning import tuning_of
from clusters.models import ClassTuning, Cluster, EngineImage, Node, Region, SloClass
from tenants.api.fields import ReferenceField, StrictSerializer

LONGEST_KUBECONFIG = 512 * 1024
LONGEST_PEM = 64 * 1024
NAMESPACE = 63

#: Fields of a cluster that PATCH changes.
SETTINGS = (
    "runtimes", "namespaces", "drift", "autoscaler", "storage_class", "storage_access_mode", "pull_secret",
    "prometheus_namespace", "prometheus_url", "gateway_namespace", "kueue_queue", "loader_cidrs", "dra", "tolerate",
)  # fmt: skip


class CredentialsBody(StrictSerializer):
    """A kubeconfig, or the server with a token or a client certificate and its key (PEM)."""

    kubeconfig = serializers.CharField(max_length=LONGEST_KUBECONFIG, required=False, write_only=True)
    context = serializers.CharField(
        max_length=200,
        required=False,
        write_only=True,
        help_text="Of the kubeconfig; its current one if left out.",
    )
    server = serializers.CharField(
        max_length=300, required=False, write_only=True, help_text="https://host:port"
    )
    ca_data = serializers.CharField(
        max_length=LONGEST_PEM,
        required=False,
        write_only=True,
        help_text="PEM; the public authorities if left out.",
    )
    token = serializers.CharField(max_length=LONGEST_PEM, required=False, write_only=True)
    client_certificate = serializers.CharField(
        max_length=LONGEST_PEM, required=False, write_only=True, help_text="PEM."
    )
    client_key = serializers.CharField(
        max_length=LONGEST_PEM, required=False, write_only=True, help_text="PEM, unencrypted."
    )

    def validate(self, values: dict[str, Any]) -> dict[str, Any]:
        by_hand = [name for name in values if name not in ("kubeconfig", "context")]
        if "kubeconfig" in values and by_hand:
            raise serializers.ValidationError(
                {name: ["The kubeconfig says this already; send one or the other."] for name in by_hand}
            )
        if "context" in values and "kubeconfig" not in values:
            raise serializers.ValidationError(
                {"context": ["It is a kubeconfig's; send one, or leave it out."]}
            )
        if "kubeconfig" not in values and "server" not in values:
            raise serializers.ValidationError(
                {
                    "kubeconfig": [
                        "Send a kubeconfig, or server with token or client_certificate and client_key."
                    ]
                }
            )
        return values


class SettingsBody(StrictSerializer):
    """Settings of a cluster."""

    runtimes = serializers.ListField(
        child=serializers.ChoiceField(choices=RUNTIMES),
        required=False,
        help_text="Engines that may run there.",
    )
    namespaces = serializers.ListField(
        child=serializers.CharField(max_length=NAMESPACE), required=False, max_length=500,
        help_text="Made by the cluster's admin; Berth keeps to them. Empty: Berth makes its own.",
    )  # fmt: skip
    drift = serializers.ChoiceField(
        choices=Cluster.Drift.choices,
        required=False,
        help_text="What is done about objects that others changed.",
    )
    autoscaler = serializers.ChoiceField(
        choices=Cluster.Autoscaler.choices, required=False, help_text="Who decides how many replicas run."
    )
    storage_class = serializers.CharField(max_length=NAMESPACE, required=False, allow_blank=True)
    storage_access_mode = serializers.ChoiceField(
        choices=Cluster.AccessMode.choices, required=False,
        help_text="Of volumes for weights and engine caches. With ReadWriteOnce a fetched model runs in one pod.",
    )  # fmt: skip
    pull_secret = serializers.CharField(max_length=NAMESPACE, required=False, allow_blank=True)
    prometheus_namespace = serializers.CharField(max_length=NAMESPACE, required=False, allow_blank=True)
    gateway_namespace = serializers.CharField(max_length=NAMESPACE, required=False)
    kueue_queue = serializers.CharField(max_length=NAMESPACE, required=False, allow_blank=True)
    prometheus_url = serializers.URLField(
        required=False, allow_blank=True, help_text="Where KEDA asks for the gateways' metrics."
    )
    loader_cidrs = serializers.ListField(
        child=serializers.CharField(max_length=43), required=False,
        help_text="Where jobs that fetch weights may go. Empty: the public internet, and no private network.",
    )  # fmt: skip
    dra = serializers.BooleanField(
        required=False, help_text="Ask for GPUs by resource claims, where the cluster serves them."
    )
    tolerate = serializers.ListField(
        child=serializers.CharField(max_length=120), required=False, help_text="Taint keys that engines bear."
    )


class ClusterRegistration(SettingsBody):
    """A Kubernetes cluster to be registered."""

    name = serializers.CharField(max_length=40)
    region = ReferenceField(
        find=lambda: Region.objects.all(), by="code", what="region", help_text="Its code."
    )
    credentials = CredentialsBody(write_only=True)
    runtimes = serializers.ListField(
        child=serializers.ChoiceField(choices=RUNTIMES), default=["triton-llmapi"], allow_empty=False,
        help_text="Engines that may run there.",
    )  # fmt: skip


class ConnectionBody(StrictSerializer):
    """Credentials to be tried, and the namespaces to be kept to if there are any."""

    credentials = CredentialsBody(write_only=True)
    namespaces = serializers.ListField(child=serializers.CharField(max_length=NAMESPACE), default=list)


class CredentialsRotation(StrictSerializer):
    credentials = CredentialsBody(write_only=True)


class CordonBody(StrictSerializer):
    reason = serializers.CharField(max_length=300, help_text="Other operators read it.")


class LossBody(StrictSerializer):
    confirm = serializers.CharField(max_length=40, help_text="The cluster's name.")


class ClusterSerializer(serializers.ModelSerializer):
    """A cluster: how it is reached, how it is set, what was found there. Never its credentials."""

    region = serializers.CharField(source="region.code")
    mode = serializers.SerializerMethodField(help_text="cluster-wide, or namespaces: Berth keeps to those.")

    class Meta:
        model = Cluster
        fields = [
            "id", "name", "region", "driver", "state", "state_reason", "cordon_reason", "declared", "mode", *SETTINGS,
            "server", "credentials_name", "credentials_version", "credentials_expire_at", "version", "features",
            "unread", "last_seen_at", "read_at", "created_at",
        ]  # fmt: skip
        extra_kwargs = {
            "unread": {"help_text": "What could not be read there, and why."},
            "credentials_version": {"help_text": "Counts rotations."},
        }

    def get_mode(self, cluster: Cluster) -> str:
        return "namespaces" if cluster.namespaces else "cluster-wide"


class NodeSerializer(serializers.ModelSerializer):
    """A GPU node as its cluster last showed it. GPUs: all, healthy, held by Berth, held by others, free for Berth."""

    pool = serializers.CharField(source="pool.name")
    gpu_type = serializers.CharField(source="pool.gpu_type.name")
    gpus = serializers.IntegerField(source="capacity")
    held = serializers.SerializerMethodField(help_text="By Berth's endpoints.")
    held_by_others = serializers.IntegerField(source="foreign")
    free = serializers.SerializerMethodField(help_text="What an order could take now.")

    class Meta:
        model = Node
        fields = [
            "id", "name", "pool", "gpu_type", "gpus", "usable", "held", "held_by_others", "free", "driver_version",
            "schedulable", "fault", "fault_since", "gone_at",
        ]  # fmt: skip

    def get_held(self, node: Node) -> int:
        return self.context["held"].get((node.pool_id, node.index), 0)

    def get_free(self, node: Node) -> int:
        return self.context["free"].get((node.pool_id, node.index), 0)


class ImageSerializer(serializers.ModelSerializer):
    """The image of a use: a runtime, the gateway, the loader of weights."""

    pinned = serializers.SerializerMethodField(help_text="Without a digest nothing is started from it.")

    class Meta:
        model = EngineImage
        fields = ["use", "reference", "digest", "pinned", "engine_version", "min_driver"]

    def get_pinned(self, image: EngineImage) -> bool:
        return bool(image.digest)


class ImageBody(StrictSerializer):
    reference = serializers.CharField(max_length=200, help_text="registry/repository:tag")
    digest = serializers.CharField(
        max_length=71, allow_blank=True, help_text="sha256:…; empty while nobody has looked it up."
    )
    engine_version = serializers.CharField(max_length=40, default="", allow_blank=True)
    min_driver = serializers.CharField(max_length=40, default="", allow_blank=True)


class TuningSerializer(serializers.ModelSerializer):
    """The engine settings of an SLO class. They hold for revisions made from now on."""

    slo_class = serializers.CharField(source="name")

    class Meta:
        model = ClassTuning
        fields = ["slo_class", *KNOBS]

    def to_representation(self, slo_class: SloClass) -> dict[str, Any]:
        return {"slo_class": slo_class.name, **dataclasses.asdict(tuning_of(slo_class))}


class TuningBody(serializers.ModelSerializer):
    """What is to be changed."""

    class Meta:
        model = ClassTuning
        fields = list(KNOBS)
        extra_kwargs = {name: {"required": False} for name in KNOBS}

    def to_internal_value(self, data: Any) -> Any:
        unknown = sorted(set(data) - set(self.fields)) if isinstance(data, dict) else []
        if unknown:
            known = ", ".join(KNOBS)
            raise serializers.ValidationError(
                {name: [f"There is no such setting here. Known settings: {known}."] for name in unknown}
            )
        return super().to_internal_value(data)


class FindingSerializer(serializers.Serializer):
    """What a connection check found. ``code`` is ``ok``, or names what stands in the way."""

    code = serializers.CharField()
    title = serializers.CharField()
    message = serializers.CharField()
    remedy = serializers.CharField(help_text="What to do.")
    missing = serializers.ListField(child=serializers.CharField(), help_text="Permissions that are wanting.")
    version = serializers.CharField(allow_blank=True, help_text="Of Kubernetes, where it could be read.")
    user = serializers.CharField(allow_blank=True, help_text="Who the cluster says we are.")


class MoveBody(StrictSerializer):
    cluster = ReferenceField(
        find=remit.clusters, by="name", what="cluster", allow_null=True,
        help_text="Its name. Null gives the choice back to Berth and moves nothing.",
    )  # fmt: skip


class ShareBody(StrictSerializer):
    shared = serializers.BooleanField(help_text="Whether every tenant may call it.")


class RestoreBody(StrictSerializer):
    in_place = serializers.BooleanField(
        default=False, help_text="Stop what runs first, for when there is no room for both: an outage."
    )


class SecretBody(StrictSerializer):
    values = serializers.DictField(
        child=serializers.CharField(max_length=16 * 1024), allow_empty=False, write_only=True,
        help_text="Environment variables of the job that fetches the weights, for instance HF_TOKEN.",
    )  # fmt: skip


class SecretSerializer(serializers.Serializer):
    """Whether the tenant has credentials of its own for a model's weights. Never what they are."""

    model = serializers.CharField()
    set = serializers.BooleanField()


class DocumentSerializer(serializers.Serializer):
    name = serializers.CharField()
    text = serializers.CharField(help_text="Whole, or as a unified diff where another revision was named.")


class ConfigurationQuery(StrictSerializer):
    against = serializers.IntegerField(
        min_value=1, required=False, help_text="Number of the revision to compare with."
    )


class ConfigurationSerializer(serializers.Serializer):
    """What the cluster was told for a revision, document by document."""

    revision = serializers.IntegerField()
    against = serializers.IntegerField(allow_null=True)
    documents = DocumentSerializer(many=True)
