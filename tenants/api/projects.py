"""How bodies name a project."""

from __future__ import annotations

from typing import Any

from tenants import narrowing
from tenants.api.fields import ReferenceField
from tenants.models import Project


def project_field(**options: Any) -> ReferenceField:
    """Give a field that names a project by its slug. One that the asking key may not see reads as missing."""
    return ReferenceField(
        find=lambda: narrowing.within(Project.objects.all(), "id"), by="slug", what="project", **options
    )
