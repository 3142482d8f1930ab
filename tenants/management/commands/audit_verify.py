"""Verify the audit's chains, and name the first entry of each that is not what it should be."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from django.core.management.base import BaseCommand, CommandError

from tenants import scope
from tenants.audit.anchors import anchor_make, anchor_read
from tenants.audit.canonical import PLATFORM
from tenants.audit.exporting import verify_lines
from tenants.audit.verifying import Verdict, chains, verify_stored
from tenants.errors import BerthError
from tenants.models import Tenant


class Command(BaseCommand):
    help = "Compute every hash of the audit anew and compare; exit 1 where a chain is broken, naming the first entry."

    def add_arguments(self, parser) -> None:
        which = parser.add_mutually_exclusive_group()
        which.add_argument("--all", action="store_true", help="every chain (the default)")
        which.add_argument("--tenant", metavar="SLUG", help="one tenant's chain")
        which.add_argument("--platform", action="store_true", help="the platform's chain")
        which.add_argument("--file", metavar="FILE", help="an export in JSON Lines, in place of the database")
        parser.add_argument("--anchor", metavar="FILE", help="compare with the ends written there before")
        parser.add_argument(
            "--write-anchor", metavar="FILE", help="write the ends of all chains there; keep it elsewhere"
        )

    def handle(self, *args, **options) -> None:
        if options["file"]:
            self._verify_file(options["file"])
            return
        anchors = _read(options["anchor"]) if options["anchor"] else {}
        names = _names()
        wanted = self._wanted(options, set(anchors), names)
        verdicts = [verify_stored(chain, anchors=anchors.get(chain)) for chain in wanted]
        for verdict in verdicts:
            self.stdout.write(_line(verdict, names))
        broken = sum(verdict.broken is not None for verdict in verdicts)
        if broken:
            raise CommandError(f"{broken} of {len(verdicts)} chains are broken.")
        if options["write_anchor"]:
            Path(options["write_anchor"]).write_text(anchor_make())
            self.stdout.write(f"The ends of all chains are in {options['write_anchor']}; keep it elsewhere.")

    def _verify_file(self, path: str) -> None:
        try:
            with Path(path).open(encoding="utf-8") as lines:
                verdict = verify_lines(lines)
        except OSError as error:
            raise CommandError(f"{path} cannot be read: {error.strerror}.") from error
        except BerthError as error:
            raise CommandError(error.message) from error
        self.stdout.write(_line(verdict, {}))
        if verdict.broken:
            raise CommandError("The export is not what was written.")

    def _wanted(self, options, anchored: set[str], names: Mapping[str, str]) -> list[str]:
        if options["platform"]:
            return [PLATFORM]
        if not options["tenant"]:
            known = chains()
            return [*known, *sorted(anchored - set(known))]
        found = [chain for chain, slug in names.items() if slug == options["tenant"]]
        if not found:
            raise CommandError(f"There is no tenant {options['tenant']!r}; name one by its slug.")
        return found


def _read(path: str) -> Mapping[str, Mapping[int, str]]:
    try:
        return anchor_read(Path(path).read_text())
    except OSError as error:
        raise CommandError(f"{path} cannot be read: {error.strerror}.") from error
    except BerthError as error:
        raise CommandError(error.message) from error


def _names() -> dict[str, str]:
    with scope.platform("name the chains of the audit"):
        return {str(id): slug for id, slug in Tenant.objects.values_list("id", "slug")}


def _line(verdict: Verdict, names: Mapping[str, str]) -> str:
    name = names.get(verdict.chain, verdict.chain)
    if verdict.broken is None:
        return f"{name}: {verdict.entries:,} entries, whole"
    broken = verdict.broken
    which = f"number {broken.number}" + (f", id {broken.id}" if broken.id else "")
    return f"{name}: BROKEN at {which} ({broken.what}): {broken.message}"
