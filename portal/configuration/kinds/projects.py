"""How documents name a project."""

from __future__ import annotations

from tenants import narrowing
from tenants.errors import Invalid
from tenants.models import Project


def project_named(slug: str) -> Project:
    """Give the open tenant's project of this slug.

    Raises:
        Invalid: none is named, or there is no such project.
    """
    found = narrowing.within(Project.objects.all(), "id").filter(slug=slug).first() if slug else None
    if found is None:
        text = (
            f"There is no project {slug!r}." if slug else "Say in which project, as metadata: {project: …}."
        )
        raise Invalid(text, errors={"metadata.project" if slug else "metadata": [text]})
    return found
