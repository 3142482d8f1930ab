"""docs/security.md names tests that exist, and every requirement of OWASP ASVS 5.0 of levels 1 and 2 once."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "security.md").read_text()
NAMED = sorted(set(re.findall(r"tests/[\w/.]+::\w+", PAGE)))
ROWS = re.findall(r"^\| (\d+\.\d+\.\d+) \| ([^|]+) \| (.+) \|$", PAGE, re.MULTILINE)
#: Numbers of the requirements of levels 1 and 2, by section.
REQUIREMENTS = """
    1.1:1,2 1.2:1,2,3,4,5,6,7,8,9 1.3:1,2,3,4,5,6,7,8,9,10,11 1.4:1,2,3 1.5:1,2
    2.1:1,2,3 2.2:1,2,3 2.3:1,2,3,4 2.4:1
    3.2:1,2 3.3:1,2,3,4 3.4:1,2,3,4,5,6 3.5:1,2,3,4,5 3.7:1,2
    4.1:1,2,3 4.2:1 4.3:1,2 4.4:1,2,3,4
    5.1:1 5.2:1,2,3 5.3:1,2 5.4:1,2,3
    6.1:1,2,3 6.2:1,2,3,4,5,6,7,8,9,10,11,12 6.3:1,2,3,4 6.4:1,2,3,4 6.5:1,2,3,4,5 6.6:1,2,3 6.8:1,2,3,4
    7.1:1,2,3 7.2:1,2,3,4 7.3:1,2 7.4:1,2,3,4,5 7.5:1,2 7.6:1,2
    8.1:1,2 8.2:1,2,3 8.3:1 8.4:1
    9.1:1,2,3 9.2:1,2,3,4
    10.1:1,2 10.2:1,2 10.3:1,2,3,4 10.4:1,2,3,4,5,6,7,8,9,10,11 10.5:1,2,3,4,5 10.6:1,2 10.7:1,2,3
    11.1:1,2 11.2:1,2,3 11.3:1,2,3 11.4:1,2,3,4 11.5:1 11.6:1
    12.1:1,2,3 12.2:1,2 12.3:1,2,3,4
    13.1:1 13.2:1,2,3,4,5 13.3:1,2 13.4:1,2,3,4,5
    14.1:1,2 14.2:1,2,3,4 14.3:1,2,3
    15.1:1,2,3 15.2:1,2,3 15.3:1,2,3,4,5,6,7
    16.1:1 16.2:1,2,3,4,5 16.3:1,2,3,4 16.4:1,2,3 16.5:1,2,3
    17.1:1 17.2:1,2,3,4 17.3:1,2
"""


def requirements() -> list[str]:
    found = []
    for word in REQUIREMENTS.split():
        section, _, numbers = word.partition(":")
        found += [f"{section}.{number}" for number in numbers.split(",")]
    return found


def functions(path: Path) -> set[str]:
    tree = ast.parse(path.read_text())
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


@pytest.mark.parametrize("path", sorted({name.partition("::")[0] for name in NAMED}))
def test_every_test_that_is_named_exists(path):
    assert (ROOT / path).is_file()
    named = {name.partition("::")[2] for name in NAMED if name.startswith(f"{path}::")}
    assert named - functions(ROOT / path) == set()


def test_every_requirement_stands_there_once():
    assert len(requirements()) == 253
    assert [number for number, _, _ in ROWS] == requirements()


def test_every_requirement_names_a_test_a_document_or_a_reason():
    for number, asks, kept in ROWS:
        assert asks.strip(), number
        assert "tests/" in kept or "](" in kept or len(kept.split()) > 2, number


def test_links_lead_somewhere():
    for target in re.findall(r"\]\(([^)#]+)", PAGE):
        assert (ROOT / "docs" / target).exists(), target
