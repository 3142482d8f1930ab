"""``python -m portal.demo [--exit] [--json] [--data-dir DIR]``: start Berth here and carry out the main job."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping
from pathlib import Path

from embedded import up
from embedded.datadir import open_data_dir
from embedded.errors import AlreadyRunning, EmbeddedError
from portal.demo import accounts, report
from portal.demo.story import StepFailed, tell

ROOT = Path(__file__).resolve().parent.parent.parent
SETTINGS = "portal.settings.embedded"


def main() -> int:
    """Run the demo; return 0 when every step succeeded and Berth was stopped as asked."""
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__)
    parser.add_argument("--exit", action="store_true", help="stop everything after the last step")
    parser.add_argument(
        "--json", action="store_true", help="print the table as one JSON object on the last line"
    )
    parser.add_argument("--idle", action="store_true", help="start everything and carry out nothing")
    parser.add_argument("--verbose", action="store_true", help="show the output of all processes")
    parser.add_argument("--data-dir", help="where everything is kept (default: $BERTH_DATA_DIR or ./.berth)")
    options = parser.parse_args()

    data_dir = open_data_dir(options.data_dir)
    manage = [sys.executable, str(ROOT / "manage.py")]

    def carry_out(environment: Mapping[str, str]) -> int | None:
        try:
            told = tell(environment, say=report.progress)
        except StepFailed as failure:
            report.failure(failure, data_dir.logs, as_json=options.json)
            return 1
        report.table(told, as_json=options.json, stays=not options.exit)
        return 0 if options.exit else None

    try:
        report.progress("Starting PostgreSQL, Redis and Berth's processes")
        return up.run(
            data_dir,
            procfile=ROOT / "Procfile",
            prepare=[
                [*manage, "migrate", "-v0"],
                [*manage, "collectstatic", "--noinput", "-v0"],
                [*manage, "seed_demo", "-v0"],
            ],
            extra_env={
                "DJANGO_SETTINGS_MODULE": SETTINGS,
                "BERTH_GATEWAY_NAME": accounts.GATEWAY,
                "BERTH_GATEWAY_REGION": accounts.GATEWAY_REGION,
                "STATIC_ROOT": str(data_dir.folder("static")),
                "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")])),
            },
            on_ready=None if options.idle else carry_out,
            quiet=not options.verbose,
            say=report.progress,
        )
    except AlreadyRunning as running:
        where = running.urls.get("web", "") if running.urls else ""
        report.progress(f"Berth runs here already (process {running.pid}). {where}")
        report.progress("Stop it with Ctrl-C where it runs, or with: .venv/bin/python -m embedded stop")
        return 1
    except EmbeddedError as error:
        report.progress(f"Cannot start: {error}")
        return 1


if __name__ == "__main__":
    sys.exit(main())
