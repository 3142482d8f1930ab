"""From a cluster's row to its driver."""

from __future__ import annotations

from django.conf import settings

from clusters.drivers.base import Driver
from clusters.drivers.registry import driver_for
from clusters.models import Cluster


def driver_of(cluster: Cluster) -> Driver:
    """Give the driver of a cluster.

    Raises:
        GiveUp: this installation has no driver of its kind.
    """
    return driver_for(cluster.driver, cluster.name, settings.DATA_DIR)
