"""Runs the engine in the group's first process: ``engine.py COMMAND...`` leaves its number where the leader looks."""

from __future__ import annotations

import os
import sys
from pathlib import Path

if __name__ == "__main__":
    Path(os.environ.get("TMPDIR", "/tmp"), "engine.pid").write_text(str(os.getpid()), "ascii")  # noqa: S108
    os.execvp(sys.argv[1], sys.argv[1:])  # noqa: S606 - no shell is wanted
