"""Who opens the platform's scope, and why: read from the code itself."""

from __future__ import annotations

import ast

import pytest

from tests.architecture.sources import nodes

pytestmark = pytest.mark.xdist_group("sources")

ROOMS = ("tenants/", "billing/", "clusters/", "portal/")

#: Modules at a door of people or of their programs that open the platform's scope directly, each with the reason.
AT_A_DOOR: dict[str, str] = {}

_CONTEXT_MANAGERS = {"contextmanager", "asynccontextmanager"}


def _is_scope(function: ast.expr) -> bool:
    return isinstance(function, ast.Name) or (
        isinstance(function, ast.Attribute)
        and isinstance(function.value, ast.Name)
        and function.value.id == "scope"
    )


def _last(function: ast.expr) -> str:
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def says_why(reason: ast.expr) -> bool:
    if isinstance(reason, ast.Constant):
        return isinstance(reason.value, str) and bool(reason.value.strip())
    return isinstance(reason, ast.JoinedStr) and any(
        isinstance(part, ast.Constant) and str(part.value).strip() for part in reason.values
    )


def within(*kinds: type[ast.AST]):
    """Give the nodes of these kinds in the rooms that know scopes."""
    return ((name, node) for name, node in nodes(*kinds) if name.startswith(ROOMS))


def platform_calls():
    """Give the calls of ``scope.platform(...)``."""
    for name, call in within(ast.Call):
        if isinstance(call.func, ast.Attribute) and call.func.attr == "platform" and _is_scope(call.func):
            yield name, call


def test_every_platform_scope_says_why_where_it_is_opened():
    found = list(platform_calls())
    assert len(found) > 80, "the walk has lost sight of the calls"
    mute = [
        f"{name}:{call.lineno}"
        for name, call in found
        if not (len(call.args) == 1 and not call.keywords and says_why(call.args[0]))
        # The people's door passes on the reason that it insists on.
        and name != "tenants/across.py"
    ]
    assert mute == []


def test_scopes_are_opened_under_their_own_names_only():
    """``from tenants.scope import platform`` would hide a call from these tests."""
    hidden = [
        f"{name}:{node.lineno}"
        for name, node in within(ast.ImportFrom, ast.alias)
        if (isinstance(node, ast.ImportFrom) and node.module == "tenants.scope")
        or (isinstance(node, ast.alias) and node.name in {"scope", "tenants.scope"} and node.asname)
    ]
    assert [each for each in hidden if not each.startswith("tenants/models/")] == []


def at_a_door(name: str) -> bool:
    parts = name.split("/")
    return (
        parts[:2] == ["portal", "pages"] or (len(parts) > 1 and parts[1] == "api") or parts[:1] == ["portal"]
    )


def test_where_people_come_in_the_scope_is_opened_by_the_audited_door():
    direct = {name for name, _ in platform_calls() if at_a_door(name) and "/management/" not in name}
    assert direct == set(AT_A_DOOR)
    assert all(reason.strip() for reason in AT_A_DOOR.values())


def test_the_audited_door_is_what_people_of_the_platform_come_through():
    using = {name for name, node in within(ast.Call) if _last(node.func) == "across_tenants"}
    assert using == {"clusters/api/operators.py", "portal/administration.py", "portal/pages/base.py"}


def test_no_generator_holds_a_scope_while_it_is_read():
    """Whoever reads from it, a stream for one, would stand in that scope between two rows."""
    held = []
    for name, function in within(ast.FunctionDef, ast.AsyncFunctionDef):
        if {_last(getattr(each, "func", each)) for each in function.decorator_list} & _CONTEXT_MANAGERS:
            continue
        for block in _own(function):
            if (
                isinstance(block, ast.With)
                and any(
                    isinstance(each.context_expr, ast.Call)
                    and _is_scope(each.context_expr.func)
                    and _last(each.context_expr.func) in {"tenant", "platform", "across_tenants"}
                    for each in block.items
                )
                and any(isinstance(inner, ast.Yield | ast.YieldFrom) for inner in _own(block))
            ):
                held.append(f"{name}:{block.lineno}")
    assert held == []


def _own(node: ast.AST):
    """Walk what belongs to ``node`` itself and not to a function inside it."""
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield child
            yield from _own(child)


@pytest.mark.parametrize(
    ("reason", "fine"),
    [('"a reason"', True), ('f"leases of {name}"', True), ('""', False), ('" "', False), ("why", False),
     ('f"{why}"', False)],
)  # fmt: skip
def test_a_reason_is_told_from_none(reason, fine):
    assert says_why(ast.parse(reason, mode="eval").body) is fine
