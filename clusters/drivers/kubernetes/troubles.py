"""Why a pod does not run, from what its cluster says of it; written for people, with nothing secret in it."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from typing import Final

from clusters.drivers.kubernetes.scope import Object
from clusters.specs import Trouble

IMAGE_REASONS: Final = frozenset(
    (
        *("ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull"),
        *("ImageInspectError", "RegistryUnavailable", "SignatureValidationFailed"),
    )
)
CONFIG_REASONS: Final = frozenset(
    ("CreateContainerConfigError", "CreateContainerError", "RunContainerError", "PostStartHookError")
)
LOST_NODE: Final = frozenset(("NodeLost", "NodeShutdown", "Terminated", "Shutdown", "NodeAffinity"))
LONGEST: Final = 600  # characters of a message
TAIL_LINES: Final = 8

_NAME_OF_ONE: Final = (
    r"[a-z0-9_-]*(?:token(?!i[sz])|secret|passw(?:or)?d|access[_-]?key|api[_-]?key|credential)[a-z0-9_-]*"
)
_CREDENTIALS: Final = (
    (re.compile(r"(?i)\b([a-z][a-z0-9+.-]*://)[^/\s@]+@"), r"\1***@"),
    (
        re.compile(
            r"(?i)([?&](?:x-amz-[a-z-]*|[a-z_-]*(?:token|signature|sig|key|secret|password|credential))=)[^&\s\"']+"
        ),
        r"\1***",
    ),
    (re.compile(r"(?i)\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{8,}"), r"\1 ***"),
    (re.compile(r"\b(?:hf_|nvapi-|AKIA|ASIA)[A-Za-z0-9_-]{8,}"), "***"),
    (
        # A quoted value goes whole, whatever is in it; so does one that is cut off.
        re.compile(
            rf"""(?i)\b({_NAME_OF_ONE}(?:\\?["'])?\s*[=:]\s*(\\?["']))(?!\d+\2)(?:(?!\2)(?:\\.|[^\n]))+"""
        ),
        r"\1***",
    ),
    (re.compile(rf"(?i)\b({_NAME_OF_ONE}\s*[=:]\s*)(?!\d+\b)[^\s,;\"'*\\]{{6,}}"), r"\1***"),
)
_GPU_MEMORY: Final = re.compile(
    r"(?i)cuda(?: error:|_error_|\s+)?[_ ]?out[_ ]of[_ ]memory|OutOfMemoryError|cudaErrorMemoryAllocation"
)


@dataclasses.dataclass(frozen=True)
class Finding:
    """What is wrong, and in which words to say so."""

    trouble: Trouble
    message: str


NONE: Final = Finding(Trouble.NONE, "")


def redacted(text: str) -> str:
    """Take credentials out of a log or a message: those in URLs, bearer tokens, well-known key shapes."""
    for pattern, replacement in _CREDENTIALS:
        text = pattern.sub(replacement, text)
    return text


def cut(text: str, *, tail: bool = False) -> str:
    """Keep the beginning, or the end with ``tail``, of a long message."""
    text = text.strip()
    if len(text) <= LONGEST:
        return text
    return "…" + text[-LONGEST:] if tail else text[:LONGEST] + "…"


def log_tail(text: str) -> str:
    """The last lines of a log as part of a message."""
    lines = [line.rstrip() for line in redacted(text).splitlines() if line.strip()]
    return cut("\n".join(lines[-TAIL_LINES:]), tail=True)


def conditions_of(obj: Object) -> dict[str, Object]:
    """An object's conditions by type."""
    return {each["type"]: each for each in (obj.get("status") or {}).get("conditions") or ()}


def containers_of(pod: Object) -> list[Object]:
    """The statuses of a pod's containers, those that run before the engine first."""
    status = pod.get("status") or {}
    return [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]


def unscheduled(pod: Object) -> Finding:
    """Why a pod has no node yet, in the scheduler's words."""
    said = conditions_of(pod).get("PodScheduled") or {}
    if (pod.get("spec") or {}).get("schedulingGates"):
        return Finding(Trouble.NONE, cut(said.get("message") or "waits in the cluster's own queue"))
    if said.get("status") == "False" and said.get("reason") == "Unschedulable":
        return Finding(Trouble.UNSCHEDULABLE, cut(f"No node takes it: {said.get('message', '')}"))
    return Finding(Trouble.NONE, "waits for the cluster's scheduler")


def not_ready(pod: Object, tail: str = "") -> Finding:
    """Why a pod that has its node is not ready; ``tail`` is the end of its last run's log, where it was read."""
    for status in containers_of(pod):
        finding = _container(status, tail)
        if finding is not NONE:
            return finding
    for status in (pod.get("status") or {}).get("initContainerStatuses") or ():
        if "running" in (status.get("state") or {}):
            return Finding(Trouble.NONE, f"{status['name']} runs before the engine")
    if any("running" in (status.get("state") or {}) for status in containers_of(pod)):
        return Finding(Trouble.NONE, "the engine loads its model")
    return Finding(Trouble.NONE, "its node prepares volumes and image")


def wants_tail(pod: Object) -> str:
    """The container whose last log says why the pod fails, empty where its status says enough."""
    for status in containers_of(pod):
        last = (status.get("lastState") or {}).get("terminated") or {}
        looping = ((status.get("state") or {}).get("waiting") or {}).get("reason") == "CrashLoopBackOff"
        if looping and last.get("reason") != "OOMKilled" and not last.get("message"):
            return str(status["name"])
    return ""


def failed(pod: Object) -> Finding:
    """Why a pod ended."""
    status = pod.get("status") or {}
    reason, message = status.get("reason") or "", status.get("message") or ""
    for each in containers_of(pod):
        ended = (each.get("state") or {}).get("terminated") or {}
        if ended.get("reason") == "OOMKilled":
            return _out_of_memory(each, ended)
        if ended.get("exitCode") and not reason:
            return Finding(Trouble.CRASH_LOOP, _last_words(ended, ""))
    if reason in LOST_NODE:
        return Finding(Trouble.NODE, cut(f"Its node let it go ({reason}). {message}"))
    return Finding(Trouble.GAVE_UP, cut(redacted(f"{reason or 'It ended'}. {message}")))


def node_fault(node: Object | None) -> str:
    """Why a node runs nothing, empty where nothing is known against it. GPU faults are the inventory's to judge."""
    if node is None:
        return "its node is gone from the cluster"
    said = conditions_of(node)
    name = (node.get("metadata") or {}).get("name", "")
    ready = said.get("Ready")
    if ready is not None and ready.get("status") != "True":
        return cut(
            f"node {name} is not ready: {ready.get('message') or ready.get('reason') or 'no reason given'}"
        )
    return ""


def refused(workload: Object | None) -> str:
    """Why a controller could not make its pods, empty where it could."""
    said = conditions_of(workload or {}).get("ReplicaFailure") or {}
    return cut(redacted(str(said.get("message") or ""))) if said.get("status") == "True" else ""


def _container(status: Object, tail: str) -> Finding:
    state = status.get("state") or {}
    waiting = state.get("waiting") or {}
    reason, message = waiting.get("reason") or "", redacted(waiting.get("message") or "")
    last = (status.get("lastState") or {}).get("terminated") or state.get("terminated") or {}
    if reason in IMAGE_REASONS:
        return Finding(
            Trouble.IMAGE_PULL,
            cut(f"The image cannot be pulled ({reason}): {message or status.get('image')}"),
        )
    if last.get("reason") == "OOMKilled":
        return _out_of_memory(status, last)
    if reason in CONFIG_REASONS:
        return Finding(Trouble.REFUSED, cut(f"The node cannot make the container ({reason}): {message}"))
    if reason == "CrashLoopBackOff":
        restarts = status.get("restartCount", 0)
        words = _last_words(last, tail)
        trouble = Trouble.OUT_OF_MEMORY if _GPU_MEMORY.search(words) else Trouble.CRASH_LOOP
        if trouble is Trouble.OUT_OF_MEMORY:
            words = f"The GPU's memory does not suffice. {words}"
        return Finding(trouble, cut(f"Stopped {restarts} times. {words}"))
    if last.get("exitCode") and not status.get("ready"):
        return Finding(Trouble.NONE, cut(f"Starts again. {_last_words(last, tail)}"))
    return NONE


def _out_of_memory(status: Object, ended: Object) -> Finding:
    times = status.get("restartCount", 0)
    return Finding(
        Trouble.OUT_OF_MEMORY,
        f"{status['name']} was killed for using more main memory than its limit (exit code"
        f" {ended.get('exitCode', 137)}, {times} restarts).",
    )


def _last_words(ended: Object, tail: str) -> str:
    code = ended.get("exitCode")
    said = log_tail(ended.get("message") or tail)
    reason = ended.get("reason") or "Error"
    return f"Last ended with exit code {code} ({reason})" + (f": {said}" if said else ".")


def job_failure(job: Object) -> Object | None:
    """The condition by which a job gave up, None where it did not."""
    said = conditions_of(job).get("Failed") or {}
    return said if said.get("status") == "True" else None


def job_done(job: Object) -> bool:
    """Whether a job succeeded."""
    said = conditions_of(job).get("Complete") or {}
    return said.get("status") == "True" or bool((job.get("status") or {}).get("succeeded"))


def lacks_secret(pod: Object, name: str) -> bool:
    """Whether a pod's container is not made because the secret of that name is not there."""
    waiting = [(each.get("state") or {}).get("waiting") or {} for each in containers_of(pod)]
    return any(
        each.get("reason") == "CreateContainerConfigError"
        and f'secret "{name}" not found' in (each.get("message") or "")
        for each in waiting
    )


def restarts_of(pod: Object) -> int:
    """How often the pod's containers were started again."""
    counts: Sequence[int] = [int(each.get("restartCount") or 0) for each in containers_of(pod)]
    return max(counts, default=0)
