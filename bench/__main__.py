"""Run the benchmarks of this folder; each prints a table and writes ``bench/results/NAME.json``.

Without names all are run but those that say ``ONLY_BY_NAME``. One that has promises to keep names those that its
figures break with ``broken(figures)``; the exit status is 1 then.
"""

from __future__ import annotations

import importlib
import json
import os
import platform
import sys
from pathlib import Path

HERE = Path(__file__).parent
RESULTS = HERE / "results"
NOT_BENCHMARKS = {"__init__", "__main__"}


def main(wanted: list[str]) -> int:
    """Run ``wanted`` benchmarks, or all; return 0 when each of them ran and none broke a promise."""
    known = sorted(path.stem for path in HERE.glob("*.py") if path.stem not in NOT_BENCHMARKS)
    unknown = set(wanted) - set(known)
    if unknown:
        print(f"There is no benchmark {', '.join(sorted(unknown))}; there are: {', '.join(known)}.")
        return 2
    RESULTS.mkdir(exist_ok=True)
    load = os.getloadavg()[0]
    print(
        f"{platform.machine()}, {os.cpu_count()} cores, load {load:.1f}, Python {platform.python_version()}"
    )
    modules = {name: importlib.import_module(f"bench.{name}") for name in wanted or known}
    failed = False
    for name, module in modules.items():
        if not wanted and getattr(module, "ONLY_BY_NAME", False):
            continue
        figures = module.measure()
        (RESULTS / f"{name}.json").write_text(json.dumps(figures, indent=2) + "\n")
        print(f"\n{name}")
        for figure, value in figures.items():
            shown = f"{value:,.3f}" if isinstance(value, float) else str(value)
            print(f"  {figure:<58}{shown:>14}")
        for promise in module.broken(figures) if hasattr(module, "broken") else ():
            failed = True
            print(f"  BROKEN: {promise}")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
