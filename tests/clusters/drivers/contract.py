"""What every driver must do, whatever it drives. A driver's own tests inherit :class:`DriverContract`.

The class that inherits gives a ``world`` fixture: how to make a spec that the cluster can run, how
long to wait for it, and how to take the cluster away. Tests may share one world.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator
from typing import Protocol, TypeVar

import pytest

from clusters.drivers.base import Driver, GiveUp, TryLater
from clusters.specs import DeploymentSpec, DeploymentStatus, Phase

T = TypeVar("T")
LABELS = {"tenant": "t-1", "endpoint": "e-1", "revision": "r-1"}


class World(Protocol):
    """A cluster under test."""

    driver: Driver
    patience_s: float

    def spec(self, name: str, *, replicas: int = 1) -> DeploymentSpec:
        """A deployment that the cluster can run."""

    def changed(self, spec: DeploymentSpec) -> DeploymentSpec:
        """The same deployment with something that its engines cannot take over while they run."""

    def impossible(self, name: str) -> DeploymentSpec:
        """A deployment that the cluster can never run."""

    def writes(self) -> int:
        """How often the cluster was written to."""

    def away(self) -> contextlib.AbstractContextManager[None]:
        """The cluster cannot be reached within this context."""


def until(probe: Callable[[], T | None], *, patience_s: float, what: str) -> T:
    """Poll until ``probe`` gives something true, forgiving a cluster that is briefly away."""
    deadline = time.monotonic() + patience_s
    last: object = None
    while time.monotonic() < deadline:
        try:
            found = probe()
        except TryLater as error:
            found, last = None, error
        if found:
            return found
        time.sleep(0.03)
    raise AssertionError(f"not within {patience_s} s: {what} (last: {last})")


def observed_ready(world: World, name: str, *, replicas: int) -> DeploymentStatus:
    """Wait until the deployment is exactly ``replicas`` ready replicas."""

    def settled() -> DeploymentStatus | None:
        status = world.driver.observe(name)
        if status is None or len(status.replicas) != replicas:
            return None
        return status if all(r.phase is Phase.READY for r in status.replicas) else None

    return until(settled, patience_s=world.patience_s, what=f"{replicas} ready replicas of {name}")


def deleted(world: World, name: str) -> None:
    until(lambda: world.driver.delete(name), patience_s=world.patience_s, what=f"the end of {name}")


class DriverContract:
    """Tests that any driver passes."""

    @pytest.fixture
    def world(self) -> World:
        raise NotImplementedError

    @pytest.fixture(autouse=True)
    def _takes_everything_back(self, world) -> Iterator[None]:
        """Without waiting for the end: every test has names of its own."""
        yield
        for status in world.driver.deployments():
            world.driver.delete(status.name)

    def test_a_deployment_comes_up_and_goes(self, world):
        driver, spec = world.driver, world.spec("life")
        assert driver.observe("life") is None
        assert driver.apply(spec) is True
        phases = []

        def ready() -> DeploymentStatus | None:
            status = driver.observe("life")
            assert status is not None
            assert (status.spec, status.labels, status.deleting) == (spec, LABELS, False)
            phases.extend(r.phase for r in status.replicas)
            return status if phases[-1:] == [Phase.READY] else None

        status = until(ready, patience_s=world.patience_s, what="ready")
        (replica,) = status.replicas
        assert set(phases) <= {Phase.PENDING, Phase.STARTING, Phase.READY}
        assert replica.url.startswith("http://")
        assert replica.engine_model
        assert (replica.index, replica.restarts, replica.holds_gpus) == (0, 0, True)
        assert replica.started_at <= replica.ready_at
        assert isinstance(driver.logs("life", replica.replica_id, lines=5), str)

        deleted(world, "life")
        assert driver.observe("life") is None
        assert "life" not in {status.name for status in driver.deployments()}
        assert driver.delete("life") is True

    def test_applying_again_writes_nothing(self, world):
        spec = world.spec("twice")
        assert world.driver.apply(spec) is True
        observed_ready(world, "twice", replicas=1)
        before = world.writes()
        assert world.driver.apply(spec) is False
        assert world.driver.apply(dataclasses.replace(spec)) is False
        assert world.writes() == before

    def test_comparing_names_what_differs_and_writes_nothing(self, world):
        spec = world.spec("compared", replicas=0)
        world.driver.apply(spec)
        before = world.writes()
        found = world.driver.drifted([spec, world.spec("unknown"), world.impossible("never-so")])
        assert not found["compared"]
        assert found["unknown"]
        assert isinstance(found["never-so"], GiveUp)
        assert world.driver.drifted([world.changed(spec)])["compared"]
        assert world.writes() == before
        assert world.driver.observe("unknown") is None

    def test_scaling_keeps_the_replicas_that_stay(self, world):
        spec = world.spec("scaled")
        world.driver.apply(spec)
        (first,) = observed_ready(world, "scaled", replicas=1).replicas
        # Clusters write times down in seconds: of two pods of one second either may be the younger.
        made = int(first.started_at.timestamp())
        until(lambda: int(time.time()) > made, patience_s=world.patience_s, what="the next second")
        world.driver.apply(dataclasses.replace(spec, replicas=2))
        both = observed_ready(world, "scaled", replicas=2).replicas
        assert first.replica_id in {r.replica_id for r in both}
        assert sorted(r.index for r in both) == [0, 1]
        assert len({r.url for r in both}) == 2
        world.driver.apply(dataclasses.replace(spec, replicas=1))
        (left,) = observed_ready(world, "scaled", replicas=1).replicas
        assert left.replica_id == first.replica_id

    def test_nothing_wanted_is_a_deployment_without_replicas(self, world):
        spec = world.spec("paused")
        world.driver.apply(spec)
        (first,) = observed_ready(world, "paused", replicas=1).replicas
        world.driver.apply(dataclasses.replace(spec, replicas=0))
        assert observed_ready(world, "paused", replicas=0).spec.replicas == 0
        world.driver.apply(spec)
        (second,) = observed_ready(world, "paused", replicas=1).replicas
        assert second.replica_id != first.replica_id

    def test_a_changed_spec_replaces_the_engines(self, world):
        spec = world.spec("changed")
        world.driver.apply(spec)
        (old,) = observed_ready(world, "changed", replicas=1).replicas
        assert world.driver.apply(world.changed(spec)) is True

        def replaced() -> bool:
            status = observed_ready(world, "changed", replicas=1)
            return status.replicas[0].replica_id != old.replica_id

        until(replaced, patience_s=world.patience_s, what="another engine")

    def test_changed_labels_leave_the_engines_alone(self, world):
        spec = world.spec("labels")
        world.driver.apply(spec)
        before = observed_ready(world, "labels", replicas=1)
        relabelled = dataclasses.replace(spec, labels=LABELS | {"revision": "r-2"})
        assert world.driver.apply(relabelled) is True
        after = observed_ready(world, "labels", replicas=1)
        assert after.labels["revision"] == "r-2"
        assert after.replicas[0].replica_id == before.replicas[0].replica_id

    def test_the_list_has_every_deployment_with_its_labels(self, world):
        for name in ("list-a", "list-b"):
            world.driver.apply(world.spec(name, replicas=0))
        found = {status.name: status.labels for status in world.driver.deployments() if not status.deleting}
        assert found == {"list-a": LABELS, "list-b": LABELS}

    def test_a_name_may_come_back_but_a_replica_never_does(self, world):
        spec, seen = world.spec("again"), set()
        for _ in range(2):
            world.driver.apply(spec)
            (replica,) = observed_ready(world, "again", replicas=1).replicas
            assert replica.replica_id not in seen
            seen.add(replica.replica_id)
            deleted(world, "again")

    def test_what_can_never_run_is_refused_before_anything_is_written(self, world):
        before = world.writes()
        with pytest.raises(GiveUp):
            world.driver.apply(world.impossible("never"))
        assert world.writes() == before
        assert world.driver.observe("never") is None

    def test_deleting_what_is_not_there_is_success(self, world):
        assert world.driver.delete("nobody") is True

    def test_a_cluster_that_is_away_is_asked_again_later(self, world):
        with world.away():
            calls = (
                lambda: world.driver.apply(world.spec("away")),
                lambda: world.driver.observe("away"),
                lambda: world.driver.deployments(),
                lambda: world.driver.drifted([world.spec("away")]),
                lambda: world.driver.delete("away"),
                lambda: world.driver.logs("away", "away-0-00000000"),
            )
            for call in calls:
                with pytest.raises(TryLater) as caught:
                    call()
                assert 0 < caught.value.delay <= 60
        until(lambda: world.driver.observe("away") is None, patience_s=world.patience_s, what="its return")
