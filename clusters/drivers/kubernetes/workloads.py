"""What a spec becomes: its engine, and its objects by the part they play."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec

from clusters.drivers.base import GiveUp
from clusters.drivers.kubernetes.converge import digest_of
from clusters.drivers.kubernetes.scope import DEPLOYMENT, SPEC, Object, Scope, annotation_of, label_of
from clusters.kube import kinds
from clusters.kube.kinds import Kind, kind_of
from clusters.kube.manifests import ClusterFacts, namespace_of, render
from clusters.kube.manifests.jobs import job_name
from clusters.specs import DeploymentSpec, EngineContainer
from clusters.triton.errors import InvalidDeployment
from clusters.triton.runtimes import engine_of

ANCHORS: Final = (kinds.DEPLOYMENT, kinds.LEADER_WORKER_SET)
AUTOSCALERS: Final = (kinds.SCALED_OBJECT, kinds.HPA)
BRACKET: Final = kinds.SERVICE  # made first and removed last: while it is there, something may be left
BESIDE: Final = (
    kinds.SERVICE_MONITOR,
    kinds.PDB,
    kinds.CONFIG_MAP,
    kinds.NETWORK_POLICY,
    kinds.RESOURCE_CLAIM_TEMPLATE,
    kinds.SERVICE_ACCOUNT,
)
"""Kinds of which a deployment has objects of its own, besides anchor, autoscaler and Service."""

_NAME: Final = re.compile(r"[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?")
_DIGEST: Final = re.compile(r".+@sha256:[0-9a-f]{64}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Workload:
    """A spec with its engine and everything that is rendered for it. ``jobs`` has each job's kind and GPUs."""

    spec: DeploymentSpec
    engine: EngineContainer
    place: str  # the namespace's name
    namespace: Object | None  # None: it was made for Berth
    shared: Sequence[Object]  # of the project's namespace, or of a model in it
    secrets: Sequence[Object]
    jobs: Sequence[Object]
    own: Sequence[Object]
    autoscalers: Sequence[Object]
    anchor: Object

    @property
    def digest(self) -> str:
        """Of all that is rendered, secrets left out."""
        return digest_of(self.shared, self.jobs, self.own, self.autoscalers, self.anchor)

    @property
    def secrets_digest(self) -> str:
        """Tells whether secrets changed, without telling them; empty where there are none."""
        return digest_of(self.spec.name, self.secrets) if self.secrets else ""

    def kind_of_job(self, job: Object) -> tuple[str, int]:
        """What a rendered job does, and how many GPUs it takes."""
        by_name = {job_name(each): each for each in self.engine.jobs}
        found = by_name[job["metadata"]["name"]]
        return found.kind, found.gpus


def check_name(name: str) -> str:
    """Give back a name that Kubernetes takes.

    Raises:
        GiveUp: it does not.
    """
    if not _NAME.fullmatch(name):
        raise GiveUp(f"deployment name {name!r} must be a DNS label of at most 63 characters")
    return name


def workload_for(spec: DeploymentSpec, facts: ClusterFacts, scope: Scope) -> Workload:
    """Render a spec for a cluster.

    Raises:
        GiveUp: it can never run there.
    """
    check_name(spec.name)
    if spec.replicas < 0:
        raise GiveUp(f"replicas must not be negative, got {spec.replicas}")
    facts = _placed(spec, facts, scope)
    try:
        engine = engine_of(spec)
        objects = render(spec, engine, facts)
    except (InvalidDeployment, ValueError) as error:
        raise GiveUp(str(error)) from error
    for image in _images(objects):
        if not _DIGEST.fullmatch(image):
            raise GiveUp(
                f"image {image} must be pinned by its digest (name@sha256:…): what a tag names may change"
            )
    return _sorted(spec, engine, facts, objects)


def _sorted(
    spec: DeploymentSpec, engine: EngineContainer, facts: ClusterFacts, objects: Sequence[Object]
) -> Workload:
    by_kind: dict[Kind, list[Object]] = {}
    for obj in objects:
        by_kind.setdefault(kind_of(obj), []).append(obj)
    (anchor,) = (each for kind in ANCHORS for each in by_kind.pop(kind, []))
    namespace = next(iter(by_kind.pop(kinds.NAMESPACE, [])), None)
    secrets, jobs = by_kind.pop(kinds.SECRET, []), by_kind.pop(kinds.JOB, [])
    autoscalers = [each for kind in AUTOSCALERS for each in by_kind.pop(kind, [])]
    rest = [each for group in by_kind.values() for each in group]
    own = [each for each in rest if label_of(each, DEPLOYMENT) == spec.name]
    own.sort(key=lambda each: kind_of(each) != BRACKET)
    document = msgspec.json.encode(spec.to_document(), order="sorted").decode()
    return Workload(
        spec=spec,
        engine=engine,
        place=namespace_of(spec, facts),
        namespace=namespace,
        shared=[each for each in rest if label_of(each, DEPLOYMENT) != spec.name],
        secrets=secrets,
        jobs=jobs,
        own=own,
        autoscalers=autoscalers,
        anchor=annotated(anchor, {SPEC: document}),
    )


def _placed(spec: DeploymentSpec, facts: ClusterFacts, scope: Scope) -> ClusterFacts:
    """The facts with the project's own namespace, where Berth may make none."""
    if not scope.namespaces:
        return facts
    place = namespace_of(spec, dataclasses.replace(facts, namespace=""))
    if place not in scope.namespaces:
        raise GiveUp(
            f"This cluster lets Berth work only in namespaces made for it, and there is none for the project"
            f" {spec.owner.project or spec.owner.project_id}. Its administrator makes the namespace {place} with"
            f" deploy/cluster/namespaces (README.md there) and adds that name to the cluster's list."
        )
    return dataclasses.replace(facts, namespace=place)


def stopped(anchor: Object) -> Object:
    """The anchor wanting no pods yet."""
    return {**anchor, "spec": {**anchor["spec"], "replicas": 0}}


def annotated(obj: Object, annotations: Mapping[str, str]) -> Object:
    """The object with further annotations; empty ones are left out."""
    meta = obj["metadata"]
    merged = {**(meta.get("annotations") or {}), **{key: text for key, text in annotations.items() if text}}
    return {**obj, "metadata": {**meta, "annotations": merged}}


def spec_of(anchor: Object) -> DeploymentSpec | None:
    """Read the spec that an anchor was last told; None where it holds none that this version can read."""
    try:
        return DeploymentSpec.from_document(msgspec.json.decode(annotation_of(anchor, SPEC)))
    except msgspec.DecodeError:
        return None


def _images(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if key == "image" and isinstance(inner, str):
                yield inner
            elif key == "image" and isinstance(inner, Mapping) and "reference" in inner:
                yield str(inner["reference"])
            elif key != "annotations":
                yield from _images(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _images(inner)
