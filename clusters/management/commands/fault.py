"""Break something on purpose, for a while, to see that what Berth promises then is so.

  fault kill web|worker|beat|watch|gateway|models|redis|postgres|engine[:ENDPOINT]
  fault pause the same --for 20s          stopped as it is, connections open, nothing answered
  fault cut control-plane|engine[:ENDPOINT]          connections of gateways, refused and broken
  fault slow the same --delay 200ms                  each way
  fault fill-disk gateway                            its usage log cannot be written
  fault gpu-fault engine:ENDPOINT
  fault region-lost REGION                           clusters, engines and gateways of a region

In a Kubernetes cluster, with --cluster NAME: kill and cut of engine[:NAME] and gateway[:NAME], fill-disk
gateway[:NAME], gpu-fault node:NAME; a region's clusters are found by themselves. What Berth's own account may not do
there takes --kubeconfig FILE of an administrator, which is read for this command alone.

  fault list                  what is broken now
  fault heal [ID]             take it back, where whoever broke it and the guard are both gone

Refused unless BERTH_FAULTS=allowed. Each fault is told to the audit; it is taken back when its time is over, on
Ctrl-C, and when this command is killed. See docs/runbooks/.
"""

from __future__ import annotations

import argparse
import datetime as dt
import random
import re
import sys
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from clusters.drivers.faults import Kind, Refused, Wish
from clusters.inventory.practice import Practice, undone_on_signals
from clusters.kube.credentials import Credentials, KubeconfigError, from_kubeconfig
from embedded.datadir import open_data_dir
from embedded.faults import guard, journal

LONGEST_S = 3600.0
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0}


def seconds(text: str) -> float:
    """Read a length of time: 500ms, 30s, 2m."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)(ms|s|m)", text)
    length = float(found[1]) * _UNITS[found[2]] if found else 0.0
    if not 0 < length <= LONGEST_S:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no length of time: write 500ms, 30s or 2m, an hour at most"
        )
    return length


class Command(BaseCommand):
    help = __doc__

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> CommandParser:
        kwargs.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        return super().create_parser(prog_name, subcommand, **kwargs)

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("what", choices=[*map(str, Kind), "list", "heal", "guard"], metavar="WHAT")
        parser.add_argument("target", nargs="?", default="", metavar="TARGET")
        parser.add_argument(
            "--for", type=seconds, default=30.0, dest="seconds", metavar="30s", help="how long"
        )
        parser.add_argument("--delay", type=seconds, default=0.2, metavar="200ms", help="of slow, each way")
        parser.add_argument(
            "--cluster", default="", metavar="NAME", help="a Kubernetes cluster; without: here"
        )
        parser.add_argument("--kubeconfig", type=Path, metavar="FILE", help="of the cluster's administrator")
        parser.add_argument("--all", action="store_true", help="all that the target names, not one of it")
        parser.add_argument("--seed", type=int, help="picks the same one again")

    def handle(self, *args: Any, **options: Any) -> None:
        practice = Practice(open_data_dir(settings.DATA_DIR), admin=_admin(options["kubeconfig"]))
        try:
            match options["what"]:
                case "list":
                    self._list(practice)
                case "heal":
                    self._heal(practice, options["target"])
                case "guard":
                    self._guard(practice, options["target"])
                case _:
                    self._break(practice, options)
        except Refused as error:
            raise CommandError(str(error)) from error

    def _break(self, practice: Practice, options: dict[str, Any]) -> None:
        if not options["target"]:
            raise Refused("Say what is to be broken: manage.py fault --help lists the targets.")
        wish = Wish(
            kind=Kind(options["what"]),
            target=options["target"],
            seconds=options["seconds"],
            delay_s=options["delay"],
            whole=options["all"],
            rng=random.Random(options["seed"]),  # noqa: S311 - picks a victim, guards nothing
        )
        plans = practice.plans(wish, cluster=options["cluster"])
        lasting = f" for {wish.seconds:g} s; Ctrl-C ends it before" if wish.kind.lasts else ""
        for plan in plans:
            self.stdout.write(f"{plan.told}{lasting}")
        self.stdout.flush()
        command = [sys.executable, str(settings.BASE_DIR / "manage.py"), "fault"]
        command += ["--kubeconfig", str(options["kubeconfig"])] if options["kubeconfig"] else []
        try:
            with undone_on_signals():
                practice.carry_out(wish, plans, cluster=options["cluster"], guard_command=[*command, "guard"])
        except KeyboardInterrupt:
            self.stdout.write("ended before its time")
        self.stdout.write("taken back" if wish.kind.lasts else "done")

    def _list(self, practice: Practice) -> None:
        for fault in journal.listed(practice.data_dir):
            until = dt.datetime.fromtimestamp(fault.until, dt.UTC).isoformat(timespec="seconds")
            self.stdout.write(f"{fault.id}  {fault.kind} {fault.target}  until {until}")

    def _heal(self, practice: Practice, fault_id: str) -> None:
        faults = [each for each in journal.listed(practice.data_dir) if fault_id in ("", each.id)]
        if fault_id and not faults:
            raise Refused(f"There is no fault {fault_id}; see: manage.py fault list.")
        for fault in faults:
            practice.heal(fault)
            self.stdout.write(f"{fault.id}  {fault.kind} {fault.target}  taken back")

    def _guard(self, practice: Practice, fault_id: str) -> None:
        fault = journal.read(practice.data_dir, fault_id)
        for name in {str(step["cluster"]) for step in (fault.undo if fault else ()) if "cluster" in step}:
            practice.driver(name)  # connected now, so that taking back asks no database
        guard.watch(practice.data_dir, fault_id, undo=practice.undo)


def _admin(path: Path | None) -> Credentials | None:
    if path is None:
        return None
    try:
        return from_kubeconfig(path.read_text("utf-8"))
    except (OSError, KubeconfigError) as error:
        raise CommandError(f"{path}: {error}") from error
