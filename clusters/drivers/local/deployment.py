"""One deployment: as many engines as wanted, of the wanted kind, however often they fall over."""

from __future__ import annotations

import dataclasses
import logging
import secrets
from concurrent.futures import Future
from pathlib import Path
from typing import Final

from clusters.drivers.base import GiveUp
from clusters.drivers.local.driver import engine_spec
from clusters.drivers.local.engine import Ended, Engine, Site, replica_id
from clusters.specs import DeploymentSpec, DeploymentStatus, Phase, ReplicaStatus, Trouble
from clusters.triton import ENGINE_MODEL
from clusters.triton.repository import EngineSpec, write_repository
from embedded.errors import EmbeddedError

logger = logging.getLogger(__name__)

ATTEMPTS: Final = 5
"""Starts in a row that may fail before a replica is given up until its spec changes."""
STEADY_S: Final = 5.0
"""An engine that was ready this long did start, whatever ended it."""
BACKOFF_S: Final = (0.2, 0.5, 1.0, 2.0, 4.0)


@dataclasses.dataclass
class Slot:
    """One wanted replica: its engine, or why it has none at the moment."""

    index: int
    engine: Engine | None = None
    restarts: int = 0
    failures: int = 0
    retry_at: float = 0.0
    message: str = "waiting for its model repository"
    token: str = dataclasses.field(default_factory=lambda: secrets.token_hex(4))
    last: ReplicaStatus | None = None
    gpu_fault: str = ""

    def lose(self, message: str) -> None:
        """Kill its engine, through no fault of the engine's."""
        assert self.engine is not None
        self.engine.clear()
        self.last, self.engine, self.token = self.engine.status(), None, secrets.token_hex(4)
        self.message = message

    @property
    def failed(self) -> bool:
        return self.failures >= ATTEMPTS

    def reset(self) -> None:
        """Give a failed replica another chance."""
        self.failures = 0
        self.retry_at = 0.0

    def status(self, name: str) -> ReplicaStatus:
        """Show the engine, or in its absence the last one with what happened to it."""
        if self.engine is not None:
            return self.engine.status()
        broken = self.failed or bool(self.gpu_fault)
        phase = Phase.FAILED if broken else Phase.STARTING if self.last else Phase.PENDING
        trouble = Trouble.NODE if self.gpu_fault else Trouble.NONE
        message = self.gpu_fault or self.message
        if self.last is not None:
            return dataclasses.replace(
                self.last, phase=phase, url=None, ready_at=None, message=message, restarts=self.restarts,
                trouble=trouble,
            )  # fmt: skip
        return ReplicaStatus(
            replica_id=replica_id(name, self.index, self.token),
            index=self.index,
            phase=phase,
            url=None,
            engine_model=ENGINE_MODEL,
            message=message,
            started_at=None,
            ready_at=None,
            restarts=self.restarts,
            trouble=trouble,
        )


class Deployment:
    """Desired and actual engines of one name. `tick` never blocks on an engine."""

    def __init__(self, site: Site, name: str, *, cache: Path) -> None:
        self.name = name
        self._site = site
        self._cache = cache
        self._spec: DeploymentSpec | None = None
        self._wanted: EngineSpec | None = None
        self._ending = False
        self._slots: list[Slot] = []
        self._outgoing: list[Engine] = []  # of an earlier spec, serving until the new engines are ready
        self._leaving: list[Engine] = []
        self._preparing: Future[None] | None = None
        self._written: DeploymentStatus | None = None

    def adopt(self, engine: Engine) -> None:
        """Take an engine over that an earlier supervisor started; call before the first `want`."""
        self._outgoing.append(engine)

    def want(self, spec: DeploymentSpec | None, *, now: float) -> None:
        """Take a new spec up, None to end the deployment."""
        self._ending = spec is None
        if spec is None:
            self._end_all(now)
            self._slots, self._wanted = [], None
            return
        self._spec = spec
        try:
            wanted = engine_spec(spec)
        except GiveUp as error:  # a file that another version of the driver wrote
            logger.error("%s: %s", self.name, error)
            return
        if wanted != self._wanted:
            self._wanted = wanted
            self._outgoing += [slot.engine for slot in self._slots if slot.engine]
            self._slots = []
            self._preparing = None
        self._slots += [self._filled(Slot(index=i)) for i in range(len(self._slots), spec.replicas)]
        for slot in self._slots[spec.replicas :]:
            if slot.engine:
                self._leave(slot.engine, now)
        del self._slots[spec.replicas :]
        for slot in self._slots:
            if slot.failed:
                slot.reset()

    def tick(self, now: float) -> bool:
        """Bring the engines closer to the spec; False once the deployment has ended altogether."""
        for slot in self._slots:
            self._tend(slot, now)
        if self._wanted is not None:
            self._replace_outgoing(now)
        self._leaving = [engine for engine in self._leaving if not engine.drained(now)]
        if self._ending and not self._leaving:
            return False
        self.write_status()
        return True

    def lose(self) -> None:
        """Kill every engine at once, as their cluster is gone; what is wanted starts again once it is back."""
        for slot in self._slots:
            if slot.engine:
                slot.lose("its cluster was lost; restarting")
        for engine in (*self._outgoing, *self._leaving):
            engine.clear()
        self._outgoing, self._leaving = [], []
        self.write_status()  # who looks once the cluster is back must not see what ran before

    def stop(self, now: float) -> None:
        """End the engines without notice, because the supervisor itself ends."""
        self._end_all(now, notice=False)
        self._slots = []

    def stopped(self, now: float) -> bool:
        """Go on with `stop`; True once no engine is left."""
        self._leaving = [engine for engine in self._leaving if not engine.drained(now)]
        return not self._leaving

    def kill(self) -> None:
        """End what `stop` has not ended yet."""
        for engine in self._leaving:
            engine.clear()
        self._leaving = []

    def remove_traces(self) -> None:
        """Remove the files of a deployment that has ended, its status last."""
        self._site.folder.remove_files(self.name)
        self._site.folder.remove_status(self.name)

    def _filled(self, slot: Slot) -> Slot:
        """Put an adopted or outgoing engine of the wanted kind into its slot, if there is one."""
        assert self._wanted is not None
        for engine in self._outgoing:
            record = engine.record
            if (record.index, record.engine_spec) == (slot.index, self._wanted.digest):
                self._outgoing.remove(engine)
                slot.engine, slot.restarts = engine, record.restarts
                break
        return slot

    def _tend(self, slot: Slot, now: float) -> None:
        slot.gpu_fault = self._site.folder.gpu_fault(self.name, slot.index)
        if slot.gpu_fault:
            if slot.engine is not None:
                slot.lose("restarting")
            return
        if slot.engine is not None:
            ended = slot.engine.check(now)
            if ended is not None:
                self._note_end(slot, slot.engine, ended, now)
            elif slot.engine.ready_for(now) >= STEADY_S:
                slot.failures = 0
        if slot.engine is None and not slot.failed and now >= slot.retry_at and self._prepared(slot, now):
            self._start(slot, now)

    def _note_end(self, slot: Slot, engine: Engine, ended: Ended, now: float) -> None:
        words = engine.last_words()
        engine.clear()
        slot.last, slot.engine, slot.token = engine.status(), None, secrets.token_hex(4)
        slot.failures = 0 if engine.ready_for(now) >= STEADY_S else slot.failures
        logger.warning("%s: %s", engine.record.replica_id, ended)
        self._note_failure(slot, f"{ended}; its log says:\n{words}" if words else str(ended), now)

    def _note_failure(self, slot: Slot, message: str, now: float) -> None:
        slot.retry_at = now + BACKOFF_S[min(slot.failures, len(BACKOFF_S) - 1)]
        slot.failures += 1
        slot.restarts += 1
        outlook = f"gave up after {ATTEMPTS} starts" if slot.failed else "restarting"
        slot.message = f"{outlook}: {message}"

    def _prepared(self, slot: Slot, now: float) -> bool:
        """Have the model repository written, in another thread as it may have to be trained first."""
        if self._preparing is None:
            assert self._wanted is not None
            self._preparing = self._site.probes.submit(
                write_repository,
                self._wanted,
                folder=self._site.folder.repository(self.name, self._wanted.digest),
                cache=self._cache,
            )
        if not self._preparing.done():
            return False
        error = self._preparing.exception()
        if error is not None:
            self._preparing = None
            self._note_failure(slot, f"the model repository could not be written: {error}", now)
        return error is None

    def _start(self, slot: Slot, now: float) -> None:
        assert self._wanted is not None
        assert self._spec is not None
        try:
            slot.engine = Engine.launch(
                self._site,
                deployment=self.name,
                index=slot.index,
                token=slot.token,
                restarts=slot.restarts,
                engine_spec=self._wanted.digest,
                drain_s=self._spec.tuning.drain_s,
                now=now,
            )
        except (EmbeddedError, OSError) as error:
            self._note_failure(slot, str(error), now)

    def _replace_outgoing(self, now: float) -> None:
        """Let engines of an earlier spec serve until the new ones can; those not ready yet go at once."""
        replaced = all(slot.engine and slot.engine.ready for slot in self._slots)
        staying = []
        for engine in self._outgoing:
            if engine.check(now) is not None:
                engine.clear()
            elif replaced or not engine.ready:
                self._leave(engine, now)
            else:
                staying.append(engine)
        self._outgoing = staying

    def _leave(self, engine: Engine, now: float, *, notice: bool = True) -> None:
        engine.drain(now, notice=notice)
        self._leaving.append(engine)

    def _end_all(self, now: float, *, notice: bool = True) -> None:
        for engine in (*(slot.engine for slot in self._slots if slot.engine), *self._outgoing):
            self._leave(engine, now, notice=notice)
        self._outgoing = []
        for engine in self._leaving:
            engine.drain(now, notice=notice)

    def write_status(self) -> None:
        if self._spec is None:
            return
        status = DeploymentStatus(
            name=self.name,
            labels=self._spec.labels,
            spec=self._spec,
            replicas=[
                *(slot.status(self.name) for slot in self._slots),
                *(engine.status() for engine in (*self._outgoing, *self._leaving)),
            ],
            deleting=self._ending,
        )
        if status != self._written:
            self._site.folder.write_status(status)
            self._written = status
