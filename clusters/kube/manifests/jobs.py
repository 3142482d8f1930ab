"""Jobs that fetch weights, quantize checkpoints and build engines, once for all who need the result."""

from __future__ import annotations

import base64
from typing import Any, Final

from clusters.kube.kinds import JOB, SECRET
from clusters.kube.manifests import devices, names, pods, quantities, storage
from clusters.kube.manifests.facts import ClusterFacts
from clusters.kube.manifests.space import LOADER
from clusters.specs import GIB, DeploymentSpec, EngineContainer, EngineJob

DEADLINE_S: Final = {"load": 4 * 3600, "quantize": 4 * 3600, "build": 4 * 3600}
ATTEMPTS: Final = {"load": 4, "quantize": 1, "build": 1}
"""How often a job is tried again. A network may recover; a GPU's answer stays what it was."""


def job_name(job: EngineJob) -> str:
    """Give a job's name: its output's, so that who needs the same waits for the same."""
    return f"{job.kind}-{job.output}"


def jobs(spec: DeploymentSpec, engine: EngineContainer, facts: ClusterFacts) -> list[dict[str, Any]]:
    """Give the jobs, each after those whose results it reads, and the secrets they fetch with."""
    objects = []
    for job in engine.jobs:
        secret = bool(spec.secrets) and job.network
        if secret:
            objects.append(_secret(spec, facts, job))
        if facts.dra and job.gpus:
            objects.append(
                devices.claim_template(
                    job_name(job),
                    resource=spec.placement.resource,
                    gpus=job.gpus,
                    labels=names.shared_labels(spec, facts, name=names.WEIGHTS),
                    namespace=names.namespace_of(spec, facts),
                )
            )
        objects.append(_job(spec, engine, facts, job, secret=secret))
    return objects


def _secret(spec: DeploymentSpec, facts: ClusterFacts, job: EngineJob) -> dict[str, Any]:
    return names.new(
        SECRET,
        job_name(job),
        labels=names.shared_labels(spec, facts, name=names.WEIGHTS),
        namespace=names.namespace_of(spec, facts),
        type="Opaque",
        data={
            key: base64.b64encode(value.encode()).decode("ascii")
            for key, value in sorted(spec.secrets.items())
        },
    )


def _job(
    spec: DeploymentSpec, engine: EngineContainer, facts: ClusterFacts, job: EngineJob, *, secret: bool
) -> dict[str, Any]:
    labels = names.shared_labels(spec, facts, name=names.WEIGHTS)
    volumes, mounts = storage.volumes(spec, engine, facts)
    writes = "weights" if job.kind == "load" else "cache"
    mounts = [
        {key: value for key, value in mount.items() if key != "readOnly" or mount["name"] != writes}
        for mount in mounts
        if mount["name"] == writes or job.kind != "load"
    ]
    used = {mount["name"] for mount in mounts}
    gpus = {spec.placement.resource: job.gpus} if job.gpus and not facts.dra else None
    container: dict[str, Any] = {
        "name": job.kind,
        "image": facts.loader_image if job.kind == "load" and facts.loader_image else job.image,
        "imagePullPolicy": "IfNotPresent",
        "command": list(job.command),
        "env": pods.env(job.env if gpus else {**job.env, **pods.NO_DEVICES}),
        "resources": pods.resources(
            memory=job.memory_bytes,
            cpus=max(1, 4 * job.gpus),
            gpus=gpus,
            claims=(devices.CLAIM,) if job.gpus and facts.dra else (),
        ),
        "securityContext": dict(pods.CONTAINER_SECURITY),
        "volumeMounts": [
            {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 - the container's own
            {"name": "shm", "mountPath": "/dev/shm"},  # noqa: S108
            *mounts,
        ],
        "terminationMessagePath": "/dev/termination-log",
        "terminationMessagePolicy": "FallbackToLogsOnError",
    }
    if secret:
        container["envFrom"] = [{"secretRef": {"name": job_name(job)}}]
    pod: dict[str, Any] = {
        **pods.common(facts, grace_s=30),
        "restartPolicy": "Never",
        "containers": [container],
        "volumes": [
            {"name": "tmp", "emptyDir": {"sizeLimit": quantities.of_bytes(pods.TMP_BYTES)}},
            {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": quantities.of_bytes(GIB)}},
            *(volume for volume in volumes if volume["name"] in used),
        ],
    }
    if job.gpus:
        pod["tolerations"] = pods.tolerations(spec)
        if spec.placement.node_selector:
            pod["nodeSelector"] = dict(sorted(spec.placement.node_selector.items()))
        if facts.dra:
            pod["resourceClaims"] = devices.claimed_by(job_name(job))
    name = job_name(job)
    if facts.kueue_queue and job.gpus:
        labels = {**labels, "kueue.x-k8s.io/queue-name": facts.kueue_queue}
    return names.new(
        JOB,
        name,
        labels=labels,
        namespace=names.namespace_of(spec, facts),
        # No time to live: a finished job says that its result is there.
        spec={
            "backoffLimit": ATTEMPTS[job.kind],
            "activeDeadlineSeconds": DEADLINE_S[job.kind],
            "completions": 1,
            "parallelism": 1,
            "template": {
                "metadata": {
                    "labels": {
                        **names.shared_labels(spec, facts, name=names.WEIGHTS),
                        names.INSTANCE: name,
                        **(LOADER if job.network else {}),
                    }
                },
                "spec": pod,
            },
        },
    )
