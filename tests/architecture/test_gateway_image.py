"""The gateway's image holds what the gateway imports, no more, in the versions that the tests ran with."""

from __future__ import annotations

import re
import sys
from importlib.metadata import files, packages_distributions, requires
from importlib.util import find_spec
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
IMAGE = ROOT / "deploy" / "gateway"


def pins(lock: Path) -> dict[str, str]:
    return dict(re.findall(r"^([a-z0-9_.-]+)==(\S+)", lock.read_text(), re.MULTILINE))


def imported_here() -> set[str]:
    """The distributions that the gateway's own lines import."""
    names = set()
    for path in (ROOT / "gateway").rglob("*.py"):
        names.update(re.findall(r"^\s*(?:import|from) ([\w.]+)", path.read_text(), re.MULTILINE))
    ours = {*sys.stdlib_module_names, "gateway"}
    if "zoneinfo" in names:  # the zones themselves: a slim system has none
        names.add("tzdata")
    return distributions({name for name in names if name.split(".")[0] not in ours})


def distributions(modules: set[str]) -> set[str]:
    known = packages_distributions()
    found = set()
    for module in modules:
        names = set(known.get(module.split(".")[0], ()))
        if len(names) > 1:  # they share a namespace: the one that holds the module's file
            spec = find_spec(module)
            assert spec is not None
            names = {name for name in names if holds(name, Path(spec.origin or ""))}
        found |= {canonicalize_name(name) for name in names}
    return found


def holds(name: str, file: Path) -> bool:
    return any(Path(str(each.locate())) == file for each in files(name) or ())


def named() -> dict[str, set[str]]:
    """What the image is to hold, and with which extras."""
    lines = map(Requirement, (IMAGE / "requirements.in").read_text().split())
    return {canonicalize_name(line.name): line.extras for line in lines}


def needed(names: set[str]) -> set[str]:
    """These distributions and all they need on Linux and on the first Python that locks are made for."""
    found: set[str] = set()
    extras = named()
    while names:
        name = names.pop()
        found.add(name)
        for line in requires(name) or ():
            requirement = Requirement(line)
            asked = [
                {"extra": extra, "python_full_version": "3.11.0"} for extra in ("", *extras.get(name, ()))
            ]
            if requirement.marker is None or any(map(requirement.marker.evaluate, asked)):
                names |= {canonicalize_name(requirement.name)} - found
    return found


def test_what_is_named_is_what_is_imported() -> None:
    assert named().keys() == imported_here()


def test_what_that_needs_is_locked_and_nothing_else() -> None:
    assert pins(IMAGE / "requirements.lock").keys() == needed(imported_here())


def test_versions_are_those_that_the_tests_run_with() -> None:
    ours = pins(ROOT / "requirements.lock")
    theirs = pins(IMAGE / "requirements.lock")

    assert theirs
    assert {name: version for name, version in theirs.items() if ours.get(name) != version} == {}


def test_every_locked_package_has_a_hash_and_the_base_no_default() -> None:
    lock = (IMAGE / "requirements.lock").read_text()

    assert all(
        re.search(rf"^{re.escape(name)}==\S+ \\\n    --hash=sha256:", lock, re.M)
        for name in pins(IMAGE / "requirements.lock")
    )
    assert re.search(r"^ARG PYTHON_IMAGE$", (IMAGE / "Dockerfile").read_text(), re.MULTILINE)
