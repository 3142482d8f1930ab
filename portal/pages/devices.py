"""What a browser calls itself, in few words."""

from __future__ import annotations

from typing import Final

# The first that is found: each browser also names those it is like.
_BROWSERS: Final = (
    ("Edg/", "Edge"), ("OPR/", "Opera"), ("Firefox/", "Firefox"), ("Chrome/", "Chrome"), ("Safari/", "Safari"),
    ("curl/", "curl"), ("python", "a Python program"),
)  # fmt: skip
_SYSTEMS: Final = (
    ("Android", "Android"), ("iPhone", "iPhone"), ("iPad", "iPad"), ("Windows", "Windows"), ("Mac OS X", "macOS"),
    ("CrOS", "ChromeOS"), ("Linux", "Linux"),
)  # fmt: skip


def device(user_agent: str) -> str:
    """Say browser and system: ``Firefox on Linux``; what is not known is called so."""
    browser = next(
        (name for mark, name in _BROWSERS if mark.lower() in user_agent.lower()), "an unknown browser"
    )
    system = next((name for mark, name in _SYSTEMS if mark in user_agent), "")
    return f"{browser} on {system}" if system else browser
