"""The only room that knows Triton: model repositories, the server's command line, health, statistics."""

from __future__ import annotations

from typing import Final

ENGINE_MODEL: Final = "ensemble"
"""Name of the front model in every repository, as TensorRT-LLM's classic Triton repository has it."""
