"""What row-level security costs on pages of lists: their own queries with and without it, in turns, in one run.

``SCALE`` is the share of 200,000 rows in each table; 1 unless set.
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
from embedded.postgres import Postgres

ROWS: Final = 200_000
LONGEST_S: Final = 900


def measure() -> Figures:
    """Fill endpoints, keys and hours of usage of 100 tenants, then time what three pages ask the database.

    ``…_ratio`` is the median with row-level security and the explicit filter, as the application asks, by that of the
    same statements as a superuser, whom no policy binds.
    """
    rows = max(1_000, round(ROWS * float(os.environ.get("SCALE", "1"))))
    with berth.web() as web:
        environment = web.environment() | {"BENCH_SUPERUSER_URL": Postgres(web.data_dir).superuser_url()}
        done = subprocess.run(
            [sys.executable, "-m", "bench.tools.row_security", str(rows)],
            cwd=ROOT, env=environment, capture_output=True, text=True, timeout=LONGEST_S, check=False,
        )  # fmt: skip
    if done.returncode != 0:
        raise RuntimeError(f"bench.tools.row_security failed:\n{done.stderr[-4000:]}")
    return json.loads(done.stdout.splitlines()[-1])
