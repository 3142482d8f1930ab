"""Which conditions of a node mean that no engine should be on it."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Any, Final


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
    if ready is not None and ready.get("status") != "True":
        return _told("Not ready", ready)
    for name, condition in sorted(by_type.items()):
        sign = next((sign for sign in SIGNS if sign.pattern.search(name)), None)
        if sign is not None and condition.get("status") == sign.bad:
            return _told(f"{sign.means} ({name})", condition)
    return ""


def _told(what: str, condition: Mapping[str, Any]) -> str:
    detail = str(condition.get("message") or condition.get("reason") or "").strip()
    return f"{what}: {detail}"[:300] if detail else f"{what}."
