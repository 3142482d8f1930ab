"""The code's own syntax trees, read once for all tests that judge them."""

from __future__ import annotations

import ast
import functools
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("portal", "tenants", "billing", "clusters", "gateway", "embedded")


@functools.cache
def trees() -> dict[str, ast.Module]:
    """Give every module by its path below the root."""
    paths = [path for room in ROOMS for path in sorted((ROOT / room).rglob("*.py"))]
    return {path.relative_to(ROOT).as_posix(): ast.parse(path.read_text()) for path in paths}


@functools.cache
def _by_kind() -> dict[type[ast.AST], list[tuple[str, ast.AST]]]:
    found = defaultdict(list)
    for path, tree in trees().items():
        for node in ast.walk(tree):
            found[type(node)].append((path, node))
    return found


def nodes(*kinds: type[ast.AST]) -> Iterator[tuple[str, ast.AST]]:
    """Give every node of these kinds with the module it is in."""
    for kind in kinds:
        yield from _by_kind()[kind]


@functools.cache
def calls() -> tuple[tuple[str, ast.Call, str], ...]:
    """Give every call with the dotted name of what is called."""
    return tuple((path, node, dotted(node.func)) for path, node in nodes(ast.Call))


def dotted(node: ast.expr) -> str:
    """Write an expression as the code has it."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return ast.unparse(node)
