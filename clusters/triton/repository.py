"""Model repositories: the folder tritonserver serves one deployment from."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from clusters.triton import ENGINE_MODEL, front
from clusters.triton.errors import InvalidDeployment
from clusters.triton.language_model import CATALOG
from clusters.triton.language_model.artifact import FILES, ensure_artifact

RUNTIME: Final = "triton-python"
ENGINE: Final = Path(__file__).parent / "language_model" / "engine"


@dataclasses.dataclass(frozen=True, kw_only=True)
class EngineSpec:
    """What one engine is to serve, checked on construction. Token limits are per request.

    ``token_delay_ms`` is the least time a step of the engine takes.

    Raises:
        InvalidDeployment: the engine could never serve it; the message says what to change.
    """

    model: str
    context_tokens: int
    max_output_tokens: int
    max_batch_size: int
    token_delay_ms: int = 0

    def __post_init__(self) -> None:
        if self.model != CATALOG.name:
            raise InvalidDeployment(f"{RUNTIME} ships the model {CATALOG.name!r}, not {self.model!r}")
        _check("context_tokens", self.context_tokens, low=2, high=CATALOG.context_tokens)
        _check("max_output_tokens", self.max_output_tokens, low=1, high=self.context_tokens)
        _check("max_batch_size", self.max_batch_size, low=1, high=1024)
        _check("token_delay_ms", self.token_delay_ms, low=0, high=10_000)

    @classmethod
    def parse(
        cls,
        *,
        model: str,
        context_tokens: int,
        max_output_tokens: int,
        max_batch_size: int,
        parameters: Mapping[str, str],
    ) -> EngineSpec:
        """Make a spec of a deployment's limits and its free parameters, given as text.

        Raises:
            InvalidDeployment: as the class does; or a parameter is unknown or not a whole number.
        """
        if unknown := sorted(set(parameters) - {"token_delay_ms"}):
            raise InvalidDeployment(f"{RUNTIME} knows the parameter token_delay_ms, not {', '.join(unknown)}")
        delay = parameters.get("token_delay_ms", "0")
        if not (delay.isascii() and delay.isdecimal()):
            raise InvalidDeployment(f"token_delay_ms must be a whole number, got {delay!r}")
        return cls(
            model=model,
            context_tokens=context_tokens,
            max_output_tokens=max_output_tokens,
            max_batch_size=max_batch_size,
            token_delay_ms=int(delay),
        )

    @property
    def digest(self) -> str:
        """Twelve hex digits that equal specs, and practically only they, share."""
        return hashlib.sha256(repr(dataclasses.astuple(self)).encode()).hexdigest()[:12]


def config_pbtxt(spec: EngineSpec) -> str:
    """Write the front model's configuration; a pure function of ``spec``."""
    names = ("context_tokens", "max_output_tokens", "max_batch_size", "token_delay_ms")
    return front.config_pbtxt(ENGINE_MODEL, parameters={name: str(getattr(spec, name)) for name in names})


def write_repository(spec: EngineSpec, *, folder: Path, cache: Path) -> None:
    """Write the model repository for ``spec`` at ``folder``, whole or not at all.

    ``cache`` keeps trained models between calls. A folder that is there already is left alone, so
    its name should follow from ``spec.digest``.
    """
    if folder.is_dir():
        return
    artifact = ensure_artifact(cache)
    folder.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    try:
        version = scratch / ENGINE_MODEL / "1"
        version.mkdir(parents=True)
        (scratch / ENGINE_MODEL / "config.pbtxt").write_text(config_pbtxt(spec), encoding="utf-8")
        for source in (*sorted(ENGINE.glob("*.py")), *(artifact / name for name in FILES)):
            shutil.copyfile(source, version / source.name)
        os.rename(scratch, folder)
    except OSError:
        if not folder.is_dir():
            raise
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _check(name: str, value: int, *, low: int, high: int) -> None:
    if not low <= value <= high:
        raise InvalidDeployment(f"{name} must be from {low} to {high}, got {value}")
