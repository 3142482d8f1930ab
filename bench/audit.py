"""The audit: what verifying a long chain takes, and what the triggers cost those who change audited rows.

``SCALE`` is the share of a million entries that are written and then verified; it is 1 unless set. Costs are ratios of
one run: the same work with and without the trigger, in turns.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Final

from bench.tools import berth
from bench.tools.figures import Figures
from bench.tools.load import ROOT

ENTRIES: Final = 1_000_000
LONGEST_S: Final = 3_600


def measure() -> Figures:
    """Write, verify, and compare; ``promise_s`` is what verifying a million entries may take."""
    entries = max(1, round(ENTRIES * float(os.environ.get("SCALE", "1"))))
    with berth.web() as web:
        done = subprocess.run(
            [sys.executable, "-m", "bench.tools.audit", str(entries)],
            cwd=ROOT, env=web.environment(), capture_output=True, text=True, timeout=LONGEST_S, check=False,
        )  # fmt: skip
    if done.returncode != 0:
        raise RuntimeError(f"bench.tools.audit failed:\n{done.stderr[-4000:]}")
    figures: Figures = json.loads(done.stdout.splitlines()[-1])
    return {**figures, "promise_s": 60.0}
