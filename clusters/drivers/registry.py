"""From a cluster's name and kind to its driver."""

from __future__ import annotations

import functools
from pathlib import Path

from clusters.drivers.base import Driver, GiveUp


@functools.lru_cache(maxsize=256)
def driver_for(kind: str, cluster: str, data_dir: Path) -> Driver:
    """Give the driver of a cluster; the same object for the same cluster.

    Raises:
        GiveUp: there is no driver of this kind.
    """
    if kind == "local":
        from clusters.drivers.local.driver import LocalDriver

        return LocalDriver(data_dir, cluster)
    raise GiveUp(f"Cluster {cluster} wants the driver {kind!r}, which is not built in.")
