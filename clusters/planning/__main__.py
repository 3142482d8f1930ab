"""``python -m clusters.planning COMMAND``: the planner without a database; see ``clusters.planning.commands``."""

from __future__ import annotations

import importlib
import pkgutil
import sys

from clusters.planning import commands


def main(arguments: list[str]) -> int:
    """Run the command that is named first; return its exit status, 2 where there is none of that name."""
    known = [module.name for module in pkgutil.iter_modules(commands.__path__)]
    if not arguments or arguments[0] not in known:
        print(f"usage: python -m clusters.planning {{{'|'.join(known)}}}", file=sys.stderr)
        return 2
    status: int = importlib.import_module(f"{commands.__name__}.{arguments[0]}").run(arguments[1:])
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
