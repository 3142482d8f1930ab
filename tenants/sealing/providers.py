"""Which providers of sealing keys this installation has; one of them seals, all of them open."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from typing import Final

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

from tenants.sealing.errors import KeyGone
from tenants.sealing.numbered import EnvironmentKeys, FileKeys
from tenants.sealing.vault import Transit, VaultSettings
from tenants.sealing.wrapping import Provider


def sealing_provider() -> Provider:
    """Give the provider under whose newest key values are sealed (``BERTH_SEALING_PROVIDER``).

    Raises:
        ImproperlyConfigured: there is no such provider, or it is not set up; the message names the variable.
    """
    name = settings.SEALING_PROVIDER
    if name not in _PROVIDERS:
        raise ImproperlyConfigured(
            f"BERTH_SEALING_PROVIDER must be one of {', '.join(_PROVIDERS)}; it is {name!r}."
        )
    made, variable = _PROVIDERS[name]
    provider = made()
    if provider is None:
        raise ImproperlyConfigured(f"Set {variable}: BERTH_SEALING_PROVIDER is {name}.")
    return provider


def provider_of(name: str) -> Provider:
    """Give the provider that a sealed value names.

    Raises:
        KeyGone: this installation has it no more.
    """
    made, variable = _PROVIDERS.get(name, (lambda: None, "its keys"))
    provider = made()
    if provider is None:
        raise KeyGone(
            f"It rests under a key of the provider {name}, which is not set up any more: set {variable}."
        )
    return provider


def providers() -> list[Provider]:
    """Give every provider that is set up."""
    return [provider for made, _ in _PROVIDERS.values() if (provider := made()) is not None]


def _environment() -> Provider | None:
    return EnvironmentKeys() if settings.SEALING_KEYS else None


def _file() -> Provider | None:
    return _file_keys(settings.SEALING_FILE) if settings.SEALING_FILE else None


def _vault() -> Provider | None:
    given = VaultSettings(**settings.SEALING_VAULT)
    return _transit(given, os.getpid()) if given.address else None


@functools.lru_cache(maxsize=8)
def _file_keys(path: str) -> FileKeys:
    return FileKeys(path)


@functools.lru_cache(maxsize=8)
def _transit(given: VaultSettings, process: int) -> Transit:
    """Make one for each process: connections do not outlive a fork."""
    return Transit(given)


_PROVIDERS: Final[dict[str, tuple[Callable[[], Provider | None], str]]] = {
    EnvironmentKeys.name: (_environment, "BERTH_SEALING_KEYS to 1:<64 hex digits>"),
    FileKeys.name: (_file, "BERTH_SEALING_FILE to a file or folder of keys"),
    Transit.name: (_vault, "BERTH_VAULT_ADDR to the address of Vault"),
}
