"""Statements of many tenants: drafts of a month, its grace, and its close, from generated rollups.

``SCALE`` is the share of 10,000 tenants, each with 30 days x 24 hours x 5 SKUs of rollups: GPU time of an endpoint of
its own and tokens on four shared ones. It is 0.05 unless set; 1 writes 36 million rows of hours, about 20 GB, first.
Two processes compute from 0.2 on; below, one does, as so few chunks are not worth their start.
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

TENANTS: Final = 10_000
LONGEST_S: Final = 3_600


def measure() -> Figures:
    """Generate, then measure each step over all tenants; ``promise_s`` is what 10,000 of them may take."""
    tenants = max(1, round(TENANTS * float(os.environ.get("SCALE", "0.05"))))
    with berth.web() as web:
        done = subprocess.run(
            [sys.executable, "-m", "bench.tools.statements", str(tenants)],
            cwd=ROOT, env=web.environment(), capture_output=True, text=True, timeout=LONGEST_S, check=False,
        )  # fmt: skip
    if done.returncode != 0:
        raise RuntimeError(f"bench.tools.statements failed:\n{done.stderr[-4000:]}")
    figures: Figures = json.loads(done.stdout.splitlines()[-1])
    return {**figures, "promise_s": 60.0}
