"""Which clusters an operator answers for."""

from __future__ import annotations

from django.db import models

from clusters.models.clusters import Cluster
from tenants.models import Identified, User


class OperatorCluster(Identified):
    """One cluster that an operator answers for. An operator without any answers for all of them.

    So a row never goes with its cluster: that would give the operator every other one.
    """

    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="operated")
    cluster = models.ForeignKey(Cluster, on_delete=models.PROTECT, related_name="operators")

    class Meta:
        ordering = ["cluster__name"]
        constraints = [models.UniqueConstraint(fields=["user", "cluster"], name="operator_of_cluster_once")]

    def __str__(self) -> str:
        return f"{self.user} of {self.cluster}"
