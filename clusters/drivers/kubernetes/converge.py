"""Bring live objects to what was rendered: read, compare, write only what differs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from clusters.drivers.base import GiveUp, TryLater
from clusters.drivers.kubernetes.compare import Difference, differences, pointer, removals
from clusters.drivers.kubernetes.reading import Reader
from clusters.drivers.kubernetes.scope import RENDER, Object, annotation_of, is_ending, label_of
from clusters.kube import kinds
from clusters.kube.client import KubeClient
from clusters.kube.errors import Forbidden, Invalid
from clusters.kube.kinds import kind_of
from clusters.kube.manifests import ONCE
from clusters.kube.manifests.names import INSTALLATION

ENDING_S = 2.0


class Standoffs:
    """What a cluster makes otherwise whenever it is written, or refuses to change: tried once, and then left.

    Kept in memory for one driver. An entry ends as soon as what is ordered, or what is there, changes.
    """

    def __init__(self) -> None:
        self._left: dict[tuple[str, ...], str] = {}

    def holds(self, live: Object, of: str) -> bool:
        """Whether it was found before that this stays as it is."""
        return self._left.get(_key(live)) == of

    def note(self, live: Object, of: str) -> None:
        """Remember it."""
        self._left[_key(live)] = of

    def forget(self, live: Object) -> None:
        """It is as ordered."""
        self._left.pop(_key(live), None)


class Convergence:
    """One pass over the objects of one deployment. ``written`` counts writes, ``drift`` names what was left.

    Where ``report`` is set, what others changed stays as they left it and is named; what Berth itself renders
    otherwise than before is written all the same.
    """

    def __init__(
        self, client: KubeClient, reader: Reader, installation: str, standoffs: Standoffs, *, report: bool
    ) -> None:
        self._client, self._reader, self._installation = client, reader, installation
        self._standoffs, self._report = standoffs, report
        self.written = 0
        self.drift: list[str] = []

    def read(self, obj: Mapping[str, Any]) -> Object | None:
        """Give the live object of the same kind and name, None where there is none."""
        meta = obj["metadata"]
        return self._reader.get(kind_of(obj), meta["name"], meta.get("namespace"))

    def settle(self, obj: Mapping[str, Any], *, settled_before: bool = False) -> Object:
        """Make the live object as ``obj``; give the live one. ``settled_before``: it was there already once.

        Raises:
            TryLater: the object is on its way out, or the cluster cannot do it now.
            GiveUp: an object of that name is there that is not Berth's.
        """
        return self.bring(self.read(obj), obj, settled_before=settled_before)

    def bring(
        self,
        live: Object | None,
        obj: Mapping[str, Any],
        *,
        settled_before: bool = False,
        stamp_of: Mapping[str, Any] | None = None,
    ) -> Object:
        """Do what :meth:`settle` does with a live object that was read already.

        ``stamp_of`` is what the object's own digest is made of, where that is not the object.

        Raises:
            TryLater: the object is on its way out, or the cluster cannot do it now.
            GiveUp: an object of that name is there that is not Berth's.
        """
        kind, label = kind_of(obj), _label(obj)
        wanted = dict(obj) if kind in ONCE else stamped(obj, of=stamp_of)
        if live is None:
            if self._report and settled_before:
                self.drift.append(f"{label} is missing")
                return wanted
            return self.write(wanted)
        self.check_ours(label, live)
        found = differences(wanted, live) if kind not in ONCE or kind == kinds.PVC else []
        if not found:
            self._standoffs.forget(live)
            return live
        if kind in ONCE:
            return self._grow(live, found[0])
        if self._report and _stamp(live) == _stamp(wanted):
            self.drift += [f"{label}: {each}" for each in found]
            return live
        if self._standoffs.holds(live, _digest_of(found)):
            self.drift += [f"{label}: {each}" for each in found]
            return live
        return self.write(wanted)

    def look(self, live: Object | None, obj: Mapping[str, Any], *, stamp: bool) -> None:
        """Name what a live object differs in, and write nothing; what cannot be changed is left out.

        With ``stamp`` the digest is compared too, and whose the object is.

        Raises:
            TryLater: the object is on its way out.
            GiveUp: an object of that name is there that is not Berth's.
        """
        label = _label(obj)
        if live is None:
            self.drift.append(f"{label} is missing")
            return
        if stamp:
            self.check_ours(label, live)
        if kind_of(obj) in ONCE:
            return
        found = differences(stamped(obj) if stamp else obj, live)
        if not stamp or not self._standoffs.holds(live, _digest_of(found)):
            self.drift += [f"{label}: {each}" for each in found]

    def check_ours(self, label: str, live: Object) -> None:
        """See that a live object stays and belongs to this installation.

        Raises:
            TryLater: it is on its way out.
            GiveUp: it is somebody else's.
        """
        owner = label_of(live, INSTALLATION)
        if owner != self._installation and (owner or not _stamp(live)):
            whose = f"Berth's installation {owner}" if owner else "somebody else"
            raise GiveUp(f"{label} is there already and belongs to {whose}; rename or remove it there.")
        if is_ending(live):
            raise TryLater(f"{label} is still being removed.", delay=ENDING_S)

    def remove(self, obj: Object, *, propagation: str = "Background") -> None:
        """Delete an object that is rendered no more."""
        meta = obj["metadata"]
        if not is_ending(obj):
            self.written += self._client.delete(
                kind_of(obj),
                meta["name"],
                meta.get("namespace"),
                uid=meta["uid"],
                propagation=propagation,
            )

    def write(self, wanted: Object) -> Object:
        """Apply an object, and take out of its lists what others put there; give the live one.

        What the cluster makes otherwise all the same is left until it changes.
        """
        live = self._client.apply(wanted)
        self.written += 1
        if kind_of(wanted) in ONCE:
            return live
        found = differences(wanted, live)
        extras = removals(found)
        if extras:  # what others put into our lists outlives an apply
            meta = wanted["metadata"]
            try:
                live = self._client.patch(kind_of(wanted), meta["name"], meta.get("namespace"), extras)
            except Invalid as error:
                raise TryLater(
                    f"{meta['name']} changed meanwhile: {error.message}", delay=ENDING_S
                ) from error
            self.written += 1
            found = differences(wanted, live)
        if found:
            self._standoffs.note(live, _digest_of(found))
            self.drift += [f"{_label(wanted)}: {each}" for each in found]
        else:
            self._standoffs.forget(live)
        return live

    def _grow(self, live: Object, wish: Difference) -> Object:
        """Enlarge a claim; where its storage does not let it grow, that is only noted."""
        meta = live["metadata"]
        if not self._standoffs.holds(live, _digest_of([wish])):
            path = pointer(wish.pointer)
            steps = [
                {"op": "test", "path": path, "value": wish.found},
                {"op": "replace", "path": path, "value": wish.wanted},
            ]
            try:
                live = self._client.patch(kinds.PVC, meta["name"], meta["namespace"], steps)
            except (Invalid, Forbidden):
                self._standoffs.note(live, _digest_of([wish]))
            else:
                self.written += 1
                return live
        self.drift.append(f"{_label(live)} has {wish.found} of {wish.wanted} wanted, and cannot grow")
        return live


def stamped(obj: Mapping[str, Any], *, of: Mapping[str, Any] | None = None) -> Object:
    """Give the object with a digest of itself, by which a field that is rendered no more is noticed."""
    digest = digest_of(obj if of is None else of)
    meta = obj["metadata"]
    annotations = {**(meta.get("annotations") or {}), RENDER: digest}
    return {**obj, "metadata": {**meta, "annotations": annotations}}


def digest_of(*objects: Mapping[str, Any] | Sequence[Any] | str) -> str:
    """A short digest of JSON-ready values."""
    text = json.dumps(objects, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _stamp(obj: Object) -> str:
    return annotation_of(obj, RENDER)


def _label(obj: Mapping[str, Any]) -> str:
    return f"{obj['kind']} {obj['metadata']['name']}"


def _key(obj: Object) -> tuple[str, ...]:
    meta = obj["metadata"]
    return obj["kind"], meta.get("namespace") or "", meta["name"], meta["uid"]


def _digest_of(found: Sequence[Difference]) -> str:
    return digest_of([[each.way.value, list(each.pointer), each.wanted, each.found] for each in found])
