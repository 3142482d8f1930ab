"""Give a person a role of the platform: the first ones of an installation, before anybody can do so in the console.

--cluster narrows an operator to clusters, by name; without it they answer for every one. --none takes the role away.
A new account has no password: its owner chooses one by "Forgot your password?" on the sign-in page.
"""

from __future__ import annotations

import argparse
import getpass
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from clusters.inventory import people
from clusters.models import Cluster
from tenants.audit import audit
from tenants.errors import BerthError
from tenants.models import User


class Command(BaseCommand):
    help = __doc__

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> CommandParser:
        kwargs.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        return super().create_parser(prog_name, subcommand, **kwargs)

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--email", required=True)
        wish = parser.add_mutually_exclusive_group(required=True)
        wish.add_argument("--role", choices=people.ROLES)
        wish.add_argument("--none", action="store_true", help="take the role away")
        parser.add_argument("--cluster", action="append", default=[], metavar="NAME", help="may be repeated")
        parser.add_argument("--name", default="", help="of a new account")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            told = self._take_away(options["email"]) if options["none"] else self._give(options)
        except BerthError as error:
            raise CommandError(error.message) from error
        self.stdout.write(told)

    def _give(self, options: dict[str, Any]) -> str:
        clusters = [self._cluster(name) for name in options["cluster"]] or None
        role, found = options["role"], self._find(options["email"])
        if found is not None and people.role_of(found):
            person = people.person_change(person=found, role=role, clusters=clusters, by=None)
        else:
            person = people.person_grant(
                email=options["email"], name=options["name"], role=role, clusters=clusters
            )
        names = [cluster.name for cluster in clusters or ()]
        audit(
            None, "platform-role.grant", email=person.email, role=role, clusters=names or "all",
            account=getpass.getuser(),
        )  # fmt: skip
        where = f" of {', '.join(names)}" if names else ""
        return f"{person.email} is {role}{where} now."

    def _take_away(self, email: str) -> str:
        person = self._find(email)
        if person is None or not people.role_of(person):
            raise CommandError(f"{email} has no role of the platform.")
        people.person_remove(person=person, by=None)
        audit(None, "platform-role.remove", email=person.email, account=getpass.getuser())
        return f"{person.email} has no role of the platform any more."

    def _find(self, email: str) -> User | None:
        return User.objects.filter(email=email.strip().lower()).first()

    def _cluster(self, name: str) -> Cluster:
        found = Cluster.objects.present().filter(name=name).first()
        if found is None:
            known = ", ".join(Cluster.objects.present().values_list("name", flat=True)) or "none"
            raise CommandError(f"There is no cluster {name}; known are {known}.")
        return found
