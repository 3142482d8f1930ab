"""Say whether a change of an endpoint keeps SLO, cost and quality, for pipelines that run beside the control plane."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from rest_framework.exceptions import ValidationError

from clusters.api.gate_serializers import GateBody, GateSerializer
from clusters.endpoints import selectors
from clusters.endpoints.evaluations.criteria import Gate, endpoint_gate
from clusters.models import Endpoint
from tenants import scope
from tenants.errors import BerthError
from tenants.models import Tenant

_EPILOG = """
Exit status: 0 all is kept, 1 a criterion is broken or undecided (it is named), 2 the command is wrong.
Pipelines elsewhere ask POST /api/v1/endpoints/{id}:gate, which answers the same.
"""
WRONG = 2


class Command(BaseCommand):
    help = (
        "Say whether a change, a replay's report or an evaluation keeps SLO, cost and quality of an endpoint."
    )

    def create_parser(self, *args, **options):
        return super().create_parser(*args, **options, epilog=_EPILOG)

    def add_arguments(self, parser) -> None:
        parser.add_argument(
            "endpoint", metavar="TENANT/ENDPOINT", help="slug of the tenant and name of the endpoint"
        )
        parser.add_argument(
            "--change",
            metavar="NAME=VALUE",
            action="append",
            default=[],
            help="what would be otherwise, such as precision=fp8, model=NAME, slo_class=batch, pins.gpu=H100; repeat",
        )
        parser.add_argument(
            "--report", metavar="FILE", type=Path, help="what python -m gateway.replay --json printed"
        )
        parser.add_argument("--evaluation", metavar="ID", help="a run of an evaluation set")
        parser.add_argument("--cost-factor", help="how many times what runs a million tokens may cost")
        parser.add_argument("--latency-factor", help="how many times those of what runs the p95s may be")
        parser.add_argument("--json", action="store_true", help="print the whole answer as JSON")

    def handle(self, *args, **options) -> None:
        gate = _asked(options)
        if options["json"]:
            self.stdout.write(json.dumps(GateSerializer(gate).data, indent=2))
        else:
            for each in gate.criteria:
                self.stdout.write(
                    f"{each.name:<8} {each.standing.value:<11} by the {each.source}: {each.message}"
                )
        if not gate.kept:
            self.stderr.write(f"Broken: {', '.join(gate.broken)}.")
            raise SystemExit(1)


def _asked(options: dict[str, Any]) -> Gate:
    slug, _, name = options["endpoint"].partition("/")
    with scope.platform("find the tenant that the gate is asked about"):
        tenant = Tenant.objects.filter(slug=slug).first()
    if tenant is None:
        raise CommandError(f"There is no tenant {slug!r}; write TENANT/ENDPOINT.", returncode=WRONG)
    with scope.tenant(tenant.id):
        endpoint = selectors.endpoint_detail().live().filter(name=name).first()
        if endpoint is None:
            raise CommandError(f"{tenant.name} has no endpoint {name!r}.", returncode=WRONG)
        try:
            return _judged(endpoint, _body(options))
        except ValidationError as error:
            raise CommandError(_told(error.detail), returncode=WRONG) from error
        except BerthError as error:
            raise CommandError(error.message, returncode=WRONG) from error


def _judged(endpoint: Endpoint, content: dict[str, Any]) -> Gate:
    body = GateBody(data=content)
    body.is_valid(raise_exception=True)
    return endpoint_gate(endpoint=endpoint, **body.asked(endpoint))


def _body(options: dict[str, Any]) -> dict[str, Any]:
    body: dict[str, Any] = {
        name: options[name]
        for name in ("evaluation", "cost_factor", "latency_factor")
        if options[name] is not None
    }
    if options["change"]:
        body["change"] = _change(options["change"])
    if options["report"] is not None:
        try:
            body["report"] = _without_answers(json.loads(options["report"].read_text()))
        except OSError as error:
            raise CommandError(
                f"{error.filename} cannot be read: {error.strerror}.", returncode=WRONG
            ) from error
        except ValueError as error:
            raise CommandError(f"{options['report']} is not JSON: {error}.", returncode=WRONG) from error
    return body


def _without_answers(report: Any) -> Any:
    """Leave out the single requests of a replay's report, which nothing is judged by."""
    targets = report.get("targets") if isinstance(report, dict) else None
    if not isinstance(targets, list) or not all(isinstance(target, dict) for target in targets):
        return report
    kept = [{name: each for name, each in target.items() if name != "answers"} for target in targets]
    return {**report, "targets": kept}


def _change(wishes: list[str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for wish in wishes:
        name, equals, value = wish.partition("=")
        if not equals:
            raise CommandError(f"Write --change NAME=VALUE, not {wish!r}.", returncode=WRONG)
        place, _, inner = name.partition(".")
        if inner:
            found.setdefault(place, {})[inner] = value
        else:
            found[place] = None if value == "null" else value
    return found


def _told(detail: Any, path: str = "") -> str:
    """Say what is wrong with a body, each place by its name."""
    if isinstance(detail, dict):
        return " ".join(_told(each, f"{path}.{name}".strip(".")) for name, each in detail.items())
    if isinstance(detail, list):
        return " ".join(_told(each, path) for each in detail)
    place = path.removesuffix(".non_field_errors").removesuffix("non_field_errors")
    return f"{place}: {detail}" if place else str(detail)
