"""Which GPUs a pod holds, as the scheduler counts them. Plain functions on the API's dicts."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from typing import Any


def pod_gpus(pod: Mapping[str, Any]) -> Counter[str]:
    """Count the GPUs that a pod holds, by resource, as the scheduler does.

    The sum over its containers, or what its hungriest init container needs; init containers that stay (sidecars)
    count with both. See Kubernetes, "Resource sharing within containers".
    """
    spec = pod.get("spec") or {}
    running: Counter[str] = Counter()
    for container in spec.get("containers") or ():
        running.update(_container_gpus(container))
    staying: Counter[str] = Counter()
    starting: Counter[str] = Counter()
    for container in spec.get("initContainers") or ():
        gpus = _container_gpus(container)
        if container.get("restartPolicy") == "Always":
            staying.update(gpus)
            starting |= staying
        else:
            starting |= staying + gpus
    return (running + staying) | starting


def whole(quantity: Any) -> int:
    """Read a quantity of a counted resource; 0 where it is none."""
    text = str(quantity or "0").strip()
    if text.isdecimal():
        return int(text)
    scaled = re.fullmatch(r"(\d+)(k|M)", text)  # an API server may write 1000 as 1k
    return int(scaled[1]) * (1000 if scaled[2] == "k" else 10**6) if scaled else 0


def _container_gpus(container: Mapping[str, Any]) -> Counter[str]:
    resources = container.get("resources") or {}
    # Of extended resources limits and requests are equal; one may be left out.
    amounts = {**(resources.get("requests") or {}), **(resources.get("limits") or {})}
    return Counter(
        {name: whole(amount) for name, amount in amounts.items() if name.startswith("nvidia.com/")}
    )
