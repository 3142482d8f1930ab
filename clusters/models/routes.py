"""Names that stand for several endpoints."""

from __future__ import annotations

from django.db import models
from django.db.models.functions import Lower

from clusters.models.endpoints import name_rule
from tenants.models import Project, TenantOwned, User


class NamedRoute(TenantOwned):
    """A name that clients send as the model, and the rules that say which endpoint answers.

    ``rules`` are those of :class:`gateway.contract.RouteRule` as JSON, in order: the first that matches decides.
    """

    project = models.ForeignKey(Project, on_delete=models.PROTECT, related_name="routes")
    name = models.CharField(max_length=63, validators=[name_rule])
    rules = models.JSONField(default=list)
    created_by = models.ForeignKey(User, on_delete=models.SET_NULL, null=True, blank=True, related_name="+")

    class Meta(TenantOwned.Meta):
        ordering = ["name"]
        constraints = [
            models.UniqueConstraint(
                "tenant_id",
                Lower("name"),
                name="route_name_in_tenant",
                violation_error_message="A route of this name exists already; choose another name.",
            ),
        ]

    def __str__(self) -> str:
        return self.name
