"""An engine's files as ConfigMaps, and the volume that puts them together again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any, Final

from clusters.kube.kinds import CONFIG_MAP
from clusters.kube.manifests import names
from clusters.kube.manifests.facts import CannotRender, ClusterFacts
from clusters.specs import DeploymentSpec

LIMIT: Final = 900_000
"""Bytes of one ConfigMap's files. The API takes 1 MiB, of which keys and metadata need some."""


def config_maps(spec: DeploymentSpec, files: Mapping[str, str], facts: ClusterFacts) -> list[dict[str, Any]]:
    """Give the ConfigMaps that hold ``files``, as many as they need.

    Raises:
        CannotRender: one file is too large.
    """
    return [
        names.new(
            CONFIG_MAP,
            _name(spec, number),
            labels=names.labels_of(spec, facts),
            namespace=names.namespace_of(spec, facts),
            data={_key(path): files[path] for path in paths},
        )
        for number, paths in enumerate(_parts(files), start=1)
    ]


def volume(spec: DeploymentSpec, files: Mapping[str, str]) -> dict[str, Any]:
    """Give the volume's source: every file at its path, from whichever ConfigMap holds it."""
    return {
        "projected": {
            "defaultMode": 0o444,
            "sources": [
                {
                    "configMap": {
                        "name": _name(spec, number),
                        "items": [{"key": _key(path), "path": path} for path in paths],
                    }
                }
                for number, paths in enumerate(_parts(files), start=1)
            ],
        }
    }


def digest(files: Mapping[str, str]) -> str:
    """Sixteen hex digits that equal files, and practically only they, share."""
    return hashlib.sha256(json.dumps(dict(files), sort_keys=True).encode()).hexdigest()[:16]


def _name(spec: DeploymentSpec, number: int) -> str:
    return f"{spec.name}-files" if number == 1 else f"{spec.name}-files-{number}"


def _key(path: str) -> str:
    # Keys hold no slash. Two paths that differ must not meet in one key.
    return path.replace("_", "__").replace("/", "_-")


def _parts(files: Mapping[str, str]) -> list[list[str]]:
    parts: list[list[str]] = [[]]
    size = 0
    for path in sorted(files):
        length = len(files[path].encode())
        if length > LIMIT:
            raise CannotRender(f"{path} has {length} bytes; one file may have {LIMIT}")
        if size + length > LIMIT:
            parts.append([])
            size = 0
        parts[-1].append(path)
        size += length
    return parts
