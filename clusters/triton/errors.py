"""What this room raises."""

from __future__ import annotations


class EngineError(Exception):
    """Base of what goes wrong around one engine."""


class EngineUnavailable(EngineError):
    """The engine does not answer, or not in time."""


class InvalidDeployment(EngineError, ValueError):
    """The deployment can never run on this engine; the message says what to change."""


class EngineNotInstalled(EngineError):
    """This machine lacks what tritonserver needs; the message names it."""
