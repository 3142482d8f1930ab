"""When the front model of the LLM API takes its engine for dead."""

from __future__ import annotations

import runpy
from pathlib import Path
from types import SimpleNamespace

import pytest

from clusters.triton.runtimes import llmapi

# The package that it is part of can be imported within Triton alone.
MODULE = runpy.run_path(str(Path(llmapi.__file__).parent / "model" / "vitality.py"))


class CppExecutorError(RuntimeError):
    pass


class Engine:
    healthy = True

    def _check_health(self):
        return self.healthy


@pytest.fixture
def clock():
    return SimpleNamespace(now=1000.0)


@pytest.fixture
def engine():
    return Engine()


@pytest.fixture
def vitality(engine, clock):
    return MODULE["Vitality"](engine, lambda: clock.now)


def test_an_engine_that_answers_lives_and_an_idle_one_does(vitality, clock):
    for _ in range(100):
        clock.now += 100
        vitality.heard()
        assert vitality.death(working=True) == ""
    clock.now += 100_000
    assert vitality.death(working=False) == ""


def test_it_is_believed_when_it_says_that_it_has_shut_down(vitality, engine):
    engine.healthy = False
    assert vitality.death(working=False) == "it has shut down"


@pytest.mark.parametrize("down", [True, False])
def test_one_that_has_no_such_word_is_asked_for_its_executor(clock, down):
    engine = SimpleNamespace(_executor=SimpleNamespace(is_shutdown=lambda: down))
    assert bool(MODULE["Vitality"](engine, lambda: clock.now).death(working=False)) is down


def test_an_error_of_the_executor_is_the_end(vitality):
    vitality.failed(CppExecutorError("cuda"))
    assert vitality.death(working=False) == "CppExecutorError"


def test_requests_that_fail_on_and_on_are_the_engines_fault(vitality, clock):
    for _ in range(MODULE["FAILURES"] * 3):
        vitality.failed(RuntimeError("x"))
    assert vitality.death(working=False) == ""  # all within a moment: it may be one client
    clock.now += MODULE["FAILING_S"]
    assert "requests in a row failed" in vitality.death(working=False)
    vitality.answered()
    assert vitality.death(working=False) == ""


def test_an_engine_that_falls_silent_over_its_requests_is_dead(vitality, clock):
    assert vitality.death(working=True) == ""
    clock.now += MODULE["SILENT_S"] - 1
    assert vitality.death(working=True) == ""
    clock.now += 2
    assert "said nothing for 300 seconds" in vitality.death(working=True)
