"""Runs in the engine's container: lays the model repository out where files may be written, and starts the server.

``python3 unpack.py FROM TO COMMAND...``: copies FROM to TO, decodes every ``*.bz2.b64``, becomes COMMAND.
"""

import base64
import bz2
import os
import sys
from pathlib import Path

PACKED = ".bz2.b64"


def unpack(source: Path, target: Path) -> None:
    """Copy every file below ``source``, decoding what is packed."""
    for path in sorted(source.rglob("*")):
        if not path.is_file():
            continue
        to = target / path.relative_to(source)
        to.parent.mkdir(parents=True, exist_ok=True)
        if path.name.endswith(PACKED):
            to.with_name(path.name.removesuffix(PACKED)).write_bytes(
                bz2.decompress(base64.b64decode(path.read_bytes()))
            )
        else:
            to.write_bytes(path.read_bytes())


if __name__ == "__main__":
    unpack(Path(sys.argv[1]), Path(sys.argv[2]))
    os.execvp(sys.argv[3], sys.argv[3:])  # noqa: S606 - no shell is wanted
