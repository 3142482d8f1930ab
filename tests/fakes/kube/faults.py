"""What goes wrong on purpose, and what was asked meanwhile."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass
class Fault:
    """One planned failure of the next ``times`` requests that match; empty words match all."""

    how: str  # "hang", "reset", "lose", "busy", "fail"
    times: int
    verb: str = ""
    resource: str = ""
    status: int = 500
    reason: str = ""
    message: str = ""
    retry_after: int = 1

    def takes(self, verb: str, resource: str) -> bool:
        if self.times <= 0 or self.verb not in ("", verb) or self.resource not in ("", resource):
            return False
        self.times -= 1
        return True


@dataclasses.dataclass
class Call:
    """One request as the stand-in saw it. ``changed`` says whether anything was another thing afterwards."""

    user: str = ""
    verb: str = ""
    group: str = ""
    resource: str = ""
    subresource: str = ""
    namespace: str = ""
    name: str = ""
    dry_run: bool = False
    authorization: str = dataclasses.field(repr=False, default="")
    status: int = 0
    changed: bool = False

    @property
    def writes(self) -> bool:
        return (
            self.verb in ("create", "update", "patch", "delete", "deletecollection")
            and not self.dry_run
            and not self.resource.startswith("selfsubject")
        )
