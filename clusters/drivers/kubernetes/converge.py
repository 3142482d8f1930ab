"""Bring live objects to what was rendered: read, compare, write only what differs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from clusters.drivers.base import GiveUp, TryLater
from clusters.drivers.kubernetes.compare import differences, removals
from clusters.drivers.kubernetes.reading import Reader
from clusters.drivers.kubernetes.scope import RENDER, Object, annotation_of, is_ending, label_of
from clusters.kube import kinds
from clusters.kube.client import KubeClient
from clusters.kube.errors import Invalid
from clusters.kube.kinds import kind_of
from clusters.kube.manifests.names import INSTALLATION

ENDING_S = 2.0


class Convergence:
    """One pass over the objects of one deployment. ``written`` counts writes, ``drift`` names what was left.

    Where ``report`` is set, what others changed stays as they left it and is named; what Berth itself renders
    otherwise than before is written all the same.
    """

    def __init__(self, client: KubeClient, reader: Reader, installation: str, *, report: bool) -> None:
        self._client, self._reader, self._installation = client, reader, installation
        self._report = report
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

    def bring(self, live: Object | None, obj: Mapping[str, Any], *, settled_before: bool = False) -> Object:
        """Do what :meth:`settle` does with a live object that was read already.

        Raises:
            TryLater: the object is on its way out, or the cluster cannot do it now.
            GiveUp: an object of that name is there that is not Berth's.
        """
        wanted = stamped(obj)
        kind = kind_of(wanted)
        label = f"{kind.kind} {wanted['metadata']['name']}"
        if live is None:
            if self._report and settled_before:
                self.drift.append(f"{label} is missing")
                return wanted
            return self.write(wanted)
        self.check_ours(label, live)
        if kind == kinds.JOB:  # what a job runs is fixed once it is made
            return live
        found = differences(wanted, live)
        if not found:
            return live
        if self._report and _stamp(live) == _stamp(wanted):
            self.drift += [f"{label}: {each}" for each in found]
            return live
        return self.write(wanted)

    def look(self, obj: Mapping[str, Any]) -> None:
        """Name what a live object differs in, and write nothing."""
        kind, live = kind_of(obj), self.read(obj)
        label = f"{kind.kind} {obj['metadata']['name']}"
        if live is None:
            self.drift.append(f"{label} is missing")
        elif kind != kinds.JOB:
            self.drift += [f"{label}: {each}" for each in differences(obj, live)]

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

    def remove(self, obj: Object) -> None:
        """Delete an object that is rendered no more."""
        meta = obj["metadata"]
        if not is_ending(obj):
            self.written += self._client.delete(
                kind_of(obj), meta["name"], meta.get("namespace"), uid=meta["uid"]
            )

    def write(self, wanted: Object) -> Object:
        """Apply an object, and take out of its lists what others put there; give the live one."""
        live = self._client.apply(wanted)
        self.written += 1
        extras = removals(differences(wanted, live))
        if extras:  # what others put into our lists outlives an apply
            meta = wanted["metadata"]
            try:
                live = self._client.patch(kind_of(wanted), meta["name"], meta.get("namespace"), extras)
            except Invalid as error:
                raise TryLater(
                    f"{meta['name']} changed meanwhile: {error.message}", delay=ENDING_S
                ) from error
            self.written += 1
        return live


def stamped(obj: Mapping[str, Any]) -> Object:
    """Give the object with a digest of itself, by which a field that is rendered no more is noticed."""
    digest = digest_of(obj)
    meta = obj["metadata"]
    annotations = {**(meta.get("annotations") or {}), RENDER: digest}
    return {**obj, "metadata": {**meta, "annotations": annotations}}


def digest_of(*objects: Mapping[str, Any] | Sequence[Any] | str) -> str:
    """A short digest of JSON-ready values."""
    text = json.dumps(objects, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _stamp(obj: Object) -> str:
    return annotation_of(obj, RENDER)
