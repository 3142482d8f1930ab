"""The running server against its own description: schemathesis, by every kind of caller."""

from __future__ import annotations

import json

from tenants.models import PlatformRole, Role
from tests.api.running import Seed

SEED = 20261127
LONGEST_S = 240
#: Examples of each operation: many for those who may do most, few for those who are mostly refused.
CALLERS = {
    Role.OWNER.value: 4,
    PlatformRole.OPERATOR.value: 4,
    **dict.fromkeys((Role.ADMIN.value, Role.DEVELOPER.value, Role.BILLING.value, Role.VIEWER.value), 1),
    **dict.fromkeys((PlatformRole.FINANCE.value, PlatformRole.AUDITOR.value), 1),
    "inference": 1,
    "anonymous": 1,
}


def configuration(seed: Seed) -> str:
    """Give schemathesis's own settings: most of the time a path leads to something that is there."""
    names = {
        "path.name": ["berth-docs-ngram", "standard", "de-a"],
        "path.code": ["eu-de-1"],
        "path.slug": [seed.tenant.slug],
        "path.use": ["gateway"],
        "path.slo_class": ["standard"],
        "path.number": [1],
    }
    lines = []
    for parameter, values in names.items():
        lines += [f"[dictionaries.{parameter.replace('.', '-')}]", f"values = {json.dumps(values)}"]
    for path, ids in seed.ids.items():
        lines += [f"[dictionaries.{path.replace('/', '-')}]", f"values = {json.dumps(ids)}"]
    for path in seed.ids:
        lines += ["[[operations]]", f"include-path-regex = '/{path}/\\{{id\\}}'", "[operations.parameters]"]
        lines += [f"'path.id' = {{ dictionary = '{path.replace('/', '-')}', probability = 0.8 }}"]
    return "\n".join(
        [
            *lines[:0],
            *(
                ["[parameters]"]
                + [
                    f"'{parameter}' = {{ dictionary = '{parameter.replace('.', '-')}', probability = 0.8 }}"
                    for parameter in names
                ]
            ),
            *lines,
        ]
    )
