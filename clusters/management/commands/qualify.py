"""Write what a replay measured on a pool into the planner's table.

REPORT is what python -m gateway.replay --out keeps. What served is an endpoint that runs on the pool (--endpoint), or
is said by hand (--model and what follows). The same report again changes nothing.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
from django.core.management.base import BaseCommand, CommandError, CommandParser

from clusters.endpoints.qualifying import served_by
from clusters.inventory.catalog import RUNTIMES
from clusters.inventory.qualification import Served, measurements_judged, pool_qualify
from clusters.models import CatalogModel, Endpoint, NodePool
from tenants import scope
from tenants.errors import Invalid


class Command(BaseCommand):
    help = __doc__

    def add_arguments(self, parser: CommandParser) -> None:
        add = parser.add_argument
        add("pool", metavar="CLUSTER/POOL")
        add("report", metavar="REPORT", type=Path)
        add("--target", default="", help="Which of the report's targets, where it has several.")
        add("--endpoint", metavar="TENANT/NAME", help="The endpoint that served.")
        add(
            "--revision",
            type=int,
            help="The number of its revision that served, where that is not the only one.",
        )
        add("--model", help="The catalog's model that served.")
        add("--runtime", choices=RUNTIMES, default="triton-llmapi")
        add("--engine-version", default="")
        add("--precision")
        add("--tp", type=int, default=1)
        add("--pp", type=int, default=1)
        add("--replicas", type=int, default=1)
        add("--max-batch-size", type=int)
        add("--max-num-tokens", type=int, default=8192)

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            report = msgspec.json.decode(options["report"].read_bytes(), type=dict)
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise CommandError(f"{options['report']} cannot be read: {error}") from error
        with scope.platform("qualify a pool from the command line"):
            pool = _pool(options["pool"])
            try:
                rows, made = pool_qualify(
                    pool=pool, report=report, served=_served(options, pool, report), target=options["target"],
                    actor="the command line",
                )  # fmt: skip
            except Invalid as error:
                told = "".join(
                    f"\n  {name}: {' '.join(texts)}" for name, texts in (error.errors or {}).items()
                )
                raise CommandError(f"{error.message}{told}") from error
            for judged in measurements_judged(rows):
                row = judged.row
                self.stdout.write(
                    f"{row.target} at speed {row.speed:g}: {row.requests} requests, {row.itl_mean_ms:.3g} ms between"
                    f" tokens, {row.ttft_mean_ms:.3g} ms to the first"
                )
                for reason in judged.reasons:
                    self.stdout.write(f"  {reason}")
        self.stdout.write("Written." if made else "It was there already; nothing changed.")


def _pool(text: str) -> NodePool:
    cluster, _, name = text.partition("/")
    rows = NodePool.objects.select_related("cluster", "gpu_type")
    found = rows.filter(cluster__name=cluster, cluster__removed_at=None, name=name).first()
    if found is None:
        raise CommandError(f"There is no pool {text!r}; write it as CLUSTER/POOL.")
    return found


def _served(options: dict[str, Any], pool: NodePool, report: dict[str, Any]) -> Served:
    if options["endpoint"]:
        tenant, _, name = options["endpoint"].partition("/")
        rows = Endpoint.objects.live().select_related("model")
        endpoint = rows.filter(tenant__slug=tenant, name=name).first()
        if endpoint is None:
            raise CommandError(f"There is no endpoint {options['endpoint']!r}; write it as TENANT/NAME.")
        return served_by(endpoint, pool, report=report, target=options["target"], number=options["revision"])
    if options["revision"] is not None:
        raise CommandError("Name the endpoint too with --endpoint, or leave --revision out.")
    missing = [name for name in ("model", "precision", "max_batch_size") if not options[name]]
    if missing:
        names = ", ".join(f"--{name.replace('_', '-')}" for name in missing)
        raise CommandError(f"Name the endpoint that served with --endpoint, or say {names}.")
    model = CatalogModel.objects.filter(name=options["model"]).first()
    if model is None:
        raise CommandError(f"There is no model {options['model']!r} in the catalog.")
    return Served(
        model=model, runtime=options["runtime"], precision=options["precision"], tensor_parallel=options["tp"],
        pipeline_parallel=options["pp"], replicas=options["replicas"], max_batch_size=options["max_batch_size"],
        max_num_tokens=options["max_num_tokens"], engine_version=options["engine_version"],
    )  # fmt: skip
