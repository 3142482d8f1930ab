"""Versions as numbers, for instance of NVIDIA drivers: 590.44.01."""

from __future__ import annotations


def version_numbers(text: str) -> tuple[int, ...]:
    """Give the dotted numbers of a version, empty where the text is none."""
    parts = text.strip().split(".")
    return tuple(int(part) for part in parts) if all(part.isdecimal() for part in parts) else ()


def is_older(version: str, than: str) -> bool:
    """Say whether ``version`` is older than ``than``; numbers that ``version`` does not give decide nothing.

    580 is not older than 580.95.05: where only the major number is known, nobody is refused for the rest.
    A text that is no version is older than anything.
    """
    mine, other = version_numbers(version), version_numbers(than)
    return not mine or mine < other[: len(mine)]
