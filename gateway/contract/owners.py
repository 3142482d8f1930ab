"""Who calls: keys, projects and tenants, and what each of them may use."""

from __future__ import annotations

import datetime as dt
import enum

from gateway.contract.base import Message


class Owner(enum.StrEnum):
    """Whose a limit or a budget is."""

    KEY = "key"
    PROJECT = "project"
    TENANT = "tenant"
    ENDPOINT = "endpoint"  # rate limits only


class Verb(enum.StrEnum):
    """What a key may ask. A batch wants ``batches`` and what its lines ask."""

    CHAT = "chat"
    COMPLETIONS = "completions"
    EMBEDDINGS = "embeddings"
    MODELS = "models"
    FILES = "files"
    BATCHES = "batches"


class RateLimits(Message, frozen=True):
    """Requests and tokens (input and output) a minute over all gateways; None: no limit."""

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None


class Key(Message, frozen=True, omit_defaults=True):
    """An inference key. ``digest`` is HMAC-SHA256 (hex) of the whole key under pepper ``pepper_id``.

    Peppers reach both sides by environment, never by this contract. ``slo_class`` is the class of its requests
    where that is lower than the endpoint's, empty for the endpoint's; ``context_tokens`` caps a request with its
    answer.

    ``networks`` (CIDR) are those it may be used from, ``verbs`` what it may ask (of :class:`Verb`), ``endpoints`` ids
    of the endpoints and named routes that it may call; empty: no such limit. ``revision_id`` is the one revision that
    answers its requests, whatever traffic that gets (evaluations ask so); empty: any. ``earlier`` are the ids of the
    keys whose place it took, the first one first: limits, budgets and rules of routes hold for all of them together.

    What a key does not have is left out of the message, so that a gateway of an older version reads keys without such
    limits, and refuses the whole snapshot, instead of serving too much, once there is one with them.
    """

    key_id: str
    pepper_id: int
    digest: str
    tenant_id: str
    project_id: str
    name: str
    expires_at: dt.datetime | None = None
    rates: RateLimits = RateLimits()
    slo_class: str = ""
    context_tokens: int | None = None
    networks: tuple[str, ...] = ()
    verbs: tuple[str, ...] = ()
    endpoints: tuple[str, ...] = ()
    revision_id: str = ""
    earlier: tuple[str, ...] = ()

    @property
    def line(self) -> tuple[str, ...]:
        """The key and those whose place it took, the first one first."""
        return (*self.earlier, self.key_id)


class Project(Message, frozen=True):
    """A project whose keys may call. ``name`` is what refusals call it."""

    project_id: str
    tenant_id: str
    name: str
    rates: RateLimits = RateLimits()


class Tenant(Message, frozen=True):
    """A tenant whose keys may call, and what it chose.

    ``refuse_after_s`` is how long a gateway that hears nothing of the control plane goes on serving it (30 s at
    least, because a control plane with nothing new is heard no oftener), None for ever; ``files_days`` how long
    files and batches are kept; ``share`` its weight beside other tenants on shared endpoints.
    """

    tenant_id: str
    name: str
    rates: RateLimits = RateLimits()
    refuse_after_s: float | None = None
    files_days: int = 7
    share: float = 1.0
