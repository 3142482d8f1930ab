"""``manage.py key_peppers``: how many usable keys rest under which pepper."""

from __future__ import annotations

from django.core.management.base import BaseCommand
from django.db.models import Count
from django.utils import timezone

from tenants import scope, secret_keys
from tenants.models import ApiKey


class Command(BaseCommand):
    """Tells which peppers are still needed."""

    help = (
        "Count the keys that can still be used by the pepper they rest under. Management keys go over to the newest"
        " pepper when they are used; inference keys stay until they are replaced."
    )

    def handle(self, *args: object, **options: object) -> None:
        known, newest = secret_keys.peppers(), secret_keys.newest_pepper()
        with scope.platform("count keys by pepper"):
            rows = (
                ApiKey.objects.usable(timezone.now())
                .order_by("pepper_id", "scope")
                .values_list("pepper_id", "scope")
                .annotate(keys=Count("id"))
            )
            found = list(rows)
        for pepper_id, key_scope, keys in found:
            note = "" if pepper_id in known else ", which is not set: nobody can use them"
            self.stdout.write(f"pepper {pepper_id}{note}: {keys} {key_scope} keys")
        needed = {pepper_id for pepper_id, _, _ in found} | {newest}
        for pepper_id in sorted(set(known) - needed):
            self.stdout.write(f"pepper {pepper_id}: no keys; it can be taken out of BERTH_KEY_PEPPERS")
