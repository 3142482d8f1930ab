"""Where files and batches lie: one folder for each tenant, with its files and its batches.

``<root>/tenant-<id>/files/<file id>.json`` and ``.data``; ``<root>/tenant-<id>/batches/<batch id>/``.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final
from urllib.parse import quote, unquote

_TENANT: Final = "tenant-"


class Layout:
    """The folder that all gateways of a region may share."""

    def __init__(self, root: Path) -> None:
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.root = root

    def tenants(self) -> Iterator[str]:
        """Give the ids of the tenants that have a folder."""
        for path in sorted(self.root.glob(f"{_TENANT}*")):
            yield unquote(path.name.removeprefix(_TENANT))

    def files(self, tenant_id: str) -> Path:
        """Give the folder of a tenant's files."""
        return self._tenant(tenant_id) / "files"

    def batches(self, tenant_id: str) -> Path:
        """Give the folder of a tenant's batches."""
        return self._tenant(tenant_id) / "batches"

    def _tenant(self, tenant_id: str) -> Path:
        return self.root / (_TENANT + quote(tenant_id, safe=""))
