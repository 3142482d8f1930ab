"""Which conditions of a node mean that no engine should be on it, and how soon engines there have to go."""

from __future__ import annotations

import dataclasses
import enum
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

#: How the fault of a node that does not answer begins.
NOT_READY: Final = "Not ready"
#: How faults begin that bar planning and say nothing against the engines that run there.
OFFERS_NONE: Final = "Its device plugin offers none"
UNREADABLE: Final = "Its GPUs cannot be told now"
RESHAPED: Final = "It shows other GPUs than this pool's now"

#: With this many nodes or fewer, all of them may be at fault at once.
FEW_NODES: Final = 2


class Eviction(enum.Enum):
    """When engines have to leave a node because of its fault."""

    NEVER = "never"  # the fault bars planning only
    IF_IT_LASTS = "if it lasts"
    AT_ONCE = "at once"


@dataclasses.dataclass(frozen=True)
class Sign:
    """Conditions whose type matches ``pattern`` tell of a fault while their status is ``bad``."""

    pattern: re.Pattern[str]
    bad: str
    means: str


def _sign(pattern: str, bad: str, means: str) -> Sign:
    return Sign(re.compile(pattern), bad, means)


_GPU: Final = (
    r"(?:[Gg][Pp][Uu]|[Nn][Vv][Ii][Dd][Ii][Aa]|[Nn][Vv][Ll]ink|[Nn][Vv][Ss]witch|DCGM|Dcgm|Accelerat)"
)

_TROUBLE: Final = (
    "Watch|Error|Fault|Fail|Fallen|Problem|Hang|Hung|Degraded|Thermal|Throttl|Down|Mismatch|Critical"
)

#: Read from the top, the first match of a condition's type counts. Checks in the style of node-problem-detector
#: are true when something is wrong; agents that report readiness are false then. Types in use, among others:
#: XIDErrors, GPUMissing, GpuEccErrors (AKS, GKE), AcceleratedHardwareReady (EKS), GpuMemWatch,
#: SysLogsXIDError (NVIDIA NVSentinel), GpuUnhealthy.
SIGNS: Final = (
    _sign(
        rf"{_GPU}.*(?:Unhealthy|NotReady|NotHealthy|Unavailable|Inactive|Missing|Lost)$", "True", "GPU fault"
    ),
    _sign(rf"{_GPU}.*(?:Healthy|Health|Ready|Available|Active|OK|Ok)$", "False", "GPU fault"),
    _sign(r"XID|[Xx]id(?:[A-Z_-]|$)|SXID", "True", "XID error"),
    _sign(r"ECC|Ecc(?:[A-Z]|$)|RowRemap|PageRetire", "True", "ECC error"),
    _sign(rf"{_GPU}.*(?:{_TROUBLE})", "True", "GPU fault"),
)


def node_fault(node: Mapping[str, Any]) -> str:
    """Say what is wrong with a node, empty where nothing is known to be.

    Only its readiness is taken for lost when unknown: the node's own heartbeat makes it so.
    """
    conditions = (node.get("status") or {}).get("conditions") or ()
    by_type = {str(condition.get("type", "")): condition for condition in conditions}
    ready = by_type.pop("Ready", None)
    for name, condition in sorted(by_type.items()):
        sign = next((sign for sign in SIGNS if sign.pattern.search(name)), None)
        if sign is not None and condition.get("status") == sign.bad:
            return _told(f"{sign.means} ({name})", condition)
    if ready is not None and ready.get("status") != "True":
        return _told(NOT_READY, ready)
    return ""


def eviction(fault: str) -> Eviction:
    """Say when engines have to leave a node with this fault, as its row keeps it."""
    if not fault or fault.startswith((OFFERS_NONE, UNREADABLE, RESHAPED)):
        return Eviction.NEVER
    return Eviction.IF_IT_LASTS if fault.startswith(NOT_READY) else Eviction.AT_ONCE


def is_blackout(faults: Iterable[tuple[str, str]]) -> bool:
    """Say whether so many nodes, by name and fault, are not ready at once that the nodes cannot be to blame."""
    names, silent = set(), set()
    for name, fault in faults:
        names.add(name)
        if fault.startswith(NOT_READY):
            silent.add(name)
    return len(names) > FEW_NODES and 2 * len(silent) > len(names)


def _told(what: str, condition: Mapping[str, Any]) -> str:
    detail = str(condition.get("message") or condition.get("reason") or "").strip()
    return f"{what}: {detail}"[:300] if detail else f"{what}."
