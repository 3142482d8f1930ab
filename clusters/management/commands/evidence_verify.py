"""Verify a pack of evidence against the keys of this installation, or against one that was had elsewhere."""

from __future__ import annotations

from pathlib import Path

from django.core.management.base import BaseCommand, CommandError

from clusters.endpoints.evidence.packing import unpack
from tenants import signing
from tenants.errors import BerthError


class Command(BaseCommand):
    help = "Say whether evidence is as it was signed, and what its checks say; exit 1 where it is not."

    def add_arguments(self, parser) -> None:
        parser.add_argument("file", metavar="FILE", help="the zip")
        parser.add_argument(
            "--key",
            metavar="NUMBER:FILE",
            action="append",
            default=[],
            help="a public key in PEM and its number, such as 1:key.pem; without, this installation's own",
        )

    def handle(self, *args, **options) -> None:
        try:
            keys = dict(_key(each) for each in options["key"]) or {
                str(number): key for number, key in signing.public_keys().items()
            }
            document = unpack(Path(options["file"]).read_bytes(), keys)
        except OSError as error:
            raise CommandError(f"{error.filename} cannot be read: {error.strerror}.") from error
        except BerthError as error:
            raise CommandError(error.message) from error
        endpoint, period = document["endpoint"], document["period"]
        self.stdout.write(
            f"Genuine: {document['tenant']['slug']}/{endpoint['name']}, {period['from']} to {period['until']}, "
            f"signed with key {document['signed_with']}."
        )
        for check in document["checks"]:
            self.stdout.write(f"  {check['answer']:<10} {check['claim']}")


def _key(text: str):
    number, _, path = text.partition(":")
    if not number.isdigit() or not path:
        raise CommandError("Write a key as its number, a colon and its file, such as 1:key.pem.")
    return number, signing.read_public_key(Path(path).read_text())
