"""`python -m embedded up|stop|status`: the embedded Berth of one data folder."""

from __future__ import annotations

import argparse
import logging
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from embedded import environment, up
from embedded.datadir import DataDir, open_data_dir
from embedded.errors import AlreadyRunning, EmbeddedError
from embedded.keep import GRACE_S


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m embedded", description=__doc__)
    parser.add_argument("--data-dir", help="data folder (default: BERTH_DATA_DIR, else ./.berth)")
    commands = parser.add_subparsers(dest="command", required=True)
    starting = commands.add_parser("up", help="start everything and stay until Ctrl-C")
    starting.add_argument("--procfile", type=Path, default=Path("Procfile"))
    starting.add_argument(
        "--prepare", action="append", default=[], metavar="COMMAND", help="run first; repeatable"
    )
    starting.add_argument(
        "--env", action="append", default=[], metavar="NAME=VALUE", help="for the processes"
    )
    starting.add_argument("--grace", type=float, default=GRACE_S, help="seconds to end in when stopped")
    starting.add_argument("--quiet", action="store_true", help="processes' output to the logs only")
    commands.add_parser("stop", help="stop what runs")
    commands.add_parser("status", help="list what runs; status 1 when nothing does")
    options = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    data_dir = open_data_dir(options.data_dir)
    try:
        if options.command == "up":
            return up.run(
                data_dir,
                procfile=options.procfile,
                prepare=[shlex.split(command) for command in options.prepare],
                extra_env=dict(pair.partition("=")[::2] for pair in options.env),
                quiet=options.quiet,
                grace_s=options.grace,
                on_ready=_print_urls,
            )
        if options.command == "stop":
            print("stopped" if up.down(data_dir) else "nothing was running")
            return 0
        return _print_status(data_dir)
    except AlreadyRunning as error:
        print(error)
        return 3
    except EmbeddedError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def _print_urls(variables: Mapping[str, str]) -> None:
    for name, url in environment.urls(variables).items():
        print(f"{name}: {url}", flush=True)


def _print_status(data_dir: DataDir) -> int:
    found = up.status(data_dir)
    print(f"data folder  {data_dir.path}")
    print(f"runner       {f'process {found.pid}' if found.pid else 'none'}")
    for name, url in found.urls.items():
        print(f"{name:<12} {url}")
    print(f"services     {'PostgreSQL and Redis answer' if found.services else 'not both running'}")
    for record in found.processes:
        print(f"process      {record.name} (pid {record.pid})")
    return 0 if found.pid or found.processes else 1


if __name__ == "__main__":
    sys.exit(main())
