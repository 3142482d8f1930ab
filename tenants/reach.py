"""What a key reaches: networks, verbs, endpoints and projects, and that nobody hands out more than they have."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from typing import Any, Final

from django.db import models

from tenants import networks, roles
from tenants.errors import Forbidden, Invalid
from tenants.models import ApiKey, KeyScope, Project
from tenants.roles import Action

MOST_ENDPOINTS: Final = 200
MOST_PROJECTS: Final = 200
KEY_REACH: Final = ("networks", "verbs", "endpoints", "projects")


class InferenceVerb(models.TextChoices):
    """What an inference key may ask of a gateway. A batch wants ``batches`` and what its lines ask."""

    CHAT = "chat", "Chat completions"
    COMPLETIONS = "completions", "Completions"
    EMBEDDINGS = "embeddings", "Embeddings"
    MODELS = "models", "List models"
    FILES = "files", "Files"
    BATCHES = "batches", "Batches"


VERBS: Final[Mapping[str, tuple[str, ...]]] = {
    KeyScope.INFERENCE: tuple(InferenceVerb.values),
    KeyScope.MANAGEMENT: tuple(Action),
}


def key_may(key: ApiKey, action: Action) -> bool:
    """Say whether a management key may do ``action``: its role allows it, and its verbs hold it if it has any."""
    return roles.allows(key.acting_role, action) and (not key.verbs or action in key.verbs)


def checked(key_scope: str, wishes: Mapping[str, Any]) -> dict[str, Any]:
    """Give wishes of :data:`KEY_REACH` as they are kept: each once, networks written the one usual way.

    Endpoints are not looked up: they are another room's.

    Raises:
        Invalid: one is malformed, unknown, or none of a key with ``key_scope``.
    """
    kept: dict[str, Any] = {}
    for name, wish in wishes.items():
        found = list(dict.fromkeys(wish or ()))
        if name == "networks":
            found = _networks(found)
        elif name == "verbs":
            _only(name, found, VERBS[key_scope])
        elif found and name == "endpoints" and key_scope != KeyScope.INFERENCE:
            _refuse(name, "Only inference keys are limited to endpoints.")
        elif found and name == "projects" and key_scope != KeyScope.MANAGEMENT:
            _refuse(name, "An inference key is of one project anyway; leave projects out.")
        most = {"endpoints": MOST_ENDPOINTS, "projects": MOST_PROJECTS}.get(name)
        if most is not None and len(found) > most:
            _refuse(name, f"Name at most {most}.")
        if name == "projects":
            known_projects(found)
        kept[name] = found
    return kept


def known_projects(ids: Iterable[uuid.UUID]) -> None:
    """Check that the open tenant has all these projects.

    Raises:
        Invalid: one is missing.
    """
    asked = set(ids)
    found = set(Project.objects.filter(id__in=asked).values_list("id", flat=True)) if asked else set()
    if missing := sorted(map(str, asked - found)):
        _refuse("projects", f"There is no project {missing[0]}.")


def refuse_wider(key: ApiKey, granted_by: ApiKey | None) -> None:
    """Check that ``key`` reaches no further than the management key ``granted_by``, by which it is handed out.

    Raises:
        Forbidden: it does.
    """
    if granted_by is None:
        return
    if granted_by.networks and not (key.networks and networks.within(key.networks, granted_by.networks)):
        raise Forbidden(
            "The key that asks may be used from certain networks only; give the new one networks within them."
        )
    seen = granted_by.seen_projects
    if key.scope == KeyScope.INFERENCE:
        if seen is not None and key.project_id not in seen:
            raise Forbidden("The key that asks is limited to other projects.")
        return
    if seen is not None:
        raise Forbidden("A key that is limited to projects hands out inference keys only.")
    wider = [action for action in Action if key_may(key, action) and not key_may(granted_by, action)]
    if wider:
        raise Forbidden(
            f"The key that asks may not {wider[0].replace('-', ' ')}, so that no key it hands out may either;"
            " name the new one's verbs."
        )
    if granted_by.service_account is not None and key.service_account is None:
        raise Forbidden(
            "The key that asks is a service account's, whose rights end with it: have it make management keys of"
            " service accounts alone, or sign in."
        )


def refuse_wider_role(role: str, granted_by: ApiKey | None) -> None:
    """Check that ``role`` may do no more than the management key ``granted_by``, by which it is handed out.

    Raises:
        Forbidden: it may.
    """
    if granted_by is None:
        return
    wider = [action for action in Action if roles.allows(role, action) and not key_may(granted_by, action)]
    if wider:
        raise Forbidden(
            f"The key that asks may not {wider[0].replace('-', ' ')}, so that it hands out no role that may; choose"
            " a lower one, or sign in."
        )


def _networks(texts: list[str]) -> list[str]:
    if len(texts) > networks.MOST_NETWORKS:
        _refuse("networks", f"Name at most {networks.MOST_NETWORKS} networks.")
    try:
        return networks.normalised(texts)
    except ValueError as error:
        raise Invalid(str(error), errors={"networks": [str(error)]}) from error


def _only(name: str, found: Iterable[str], known: Iterable[str]) -> None:
    if strange := next((each for each in found if each not in known), None):
        _refuse(name, f"{strange!r} is none of {', '.join(known)}.")


def _refuse(name: str, text: str) -> None:
    raise Invalid(text, errors={name: [text]})
