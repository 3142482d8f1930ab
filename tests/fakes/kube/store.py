"""The objects of the stand-in, their versions and their history, and how they go."""

from __future__ import annotations

import asyncio
import collections
import secrets
import uuid
from collections.abc import Iterator

import msgspec

from clusters.kube import kinds
from clusters.kube.kinds import Kind
from tests.fakes.kube import defaults, fields, ownership, rules
from tests.fakes.kube.answers import Refusal, gone
from tests.fakes.kube.entries import Change, Entry, Key, Object, copy_of, defined, fixed_meta, now, part

_FOREGROUND = "foregroundDeletion"  # the garbage collector takes it away once no dependent is left
_PROTECTED = "kubernetes.io/pvc-protection"  # a controller takes it away once no pod uses the claim


class Store:
    """Everything happens in one thread, that of the server's event loop."""

    def __init__(self, *, history: int) -> None:
        self.entries: dict[Kind, dict[tuple[str, str], Entry]] = collections.defaultdict(dict)
        self.history: collections.deque[Change] = collections.deque(maxlen=history)
        self.version = 100
        self.oldest = 100  # versions before this one are forgotten
        self.moved = asyncio.Event()
        self.served = {kind for kind in kinds.KINDS if kind not in kinds.OPTIONAL}
        for name in ("default", "kube-system"):
            self.create(kinds.NAMESPACE, "", {"metadata": {"name": name}}, "kube-apiserver")

    def get(self, kind: Kind, namespace: str, name: str) -> Entry:
        entry = self.entries[kind].get((namespace, name))
        if entry is None:
            raise Refusal(404, "NotFound", f'{rules.resource(kind)} "{name}" not found')
        return entry

    def list(self, kind: Kind, namespace: str) -> list[tuple[tuple[str, str], Entry]]:
        return sorted(
            (item for item in self.entries[kind].items() if not namespace or item[0][0] == namespace),
            key=lambda item: item[0],
        )

    def create(
        self, kind: Kind, namespace: str, body: Object, manager: str, *, dry_run: bool = False
    ) -> Object:
        meta = body.setdefault("metadata", {})
        if not meta.get("name") and meta.get("generateName"):
            meta["name"] = meta["generateName"] + secrets.token_hex(3)[:5]
        name = str(meta.get("name") or "")
        if name and (namespace, name) in self.entries[kind]:
            raise Refusal(409, "AlreadyExists", f'{rules.resource(kind)} "{name}" already exists')
        obj = self._new(kind, namespace, body)
        owners = ownership.update({}, obj, {}, (manager, "Update", ""))
        return self._save(kind, namespace, name, None, obj, owners, dry_run=dry_run)

    def apply(
        self,
        kind: Kind,
        namespace: str,
        name: str,
        body: Object,
        manager: str,
        *,
        subresource: str = "",
        force: bool,
        dry_run: bool = False,
    ) -> tuple[Object, bool]:
        """Give the object after a server-side apply, and whether it was made by it."""
        owner = (manager, "Apply", subresource)
        applied = defaults.canonical(body)
        asked = applied.get("metadata", {}).get("name", name)
        if asked != name:
            raise Refusal(
                400, "BadRequest", f"the name of the object ({asked}) does not match the URL ({name})"
            )
        entry = self.entries[kind].get((namespace, name))
        if entry is None:
            if subresource:
                self.get(kind, namespace, name)
            obj = self._new(kind, namespace, msgspec.json.decode(msgspec.json.encode(applied)))
            owners = {owner: fields.named({key: value for key, value in applied.items() if key != "status"})}
            return self._save(kind, namespace, name, None, obj, owners, dry_run=dry_run), True
        applied = part(kind, applied, subresource)
        self._check_version(kind, name, entry, applied)
        merged, owners = ownership.apply(copy_of(entry), applied, entry.owners, owner, force=force)
        return self._save(kind, namespace, name, entry, merged, owners, dry_run=dry_run), False

    def replace(
        self,
        kind: Kind,
        namespace: str,
        name: str,
        body: Object,
        manager: str,
        *,
        subresource: str = "",
        dry_run: bool = False,
    ) -> Object:
        entry = self.get(kind, namespace, name)
        self._check_version(kind, name, entry, body)
        before = entry.obj
        body = defaults.canonical(body)
        if subresource == "status":
            after = {**copy_of(entry), "status": body.get("status") or {}}
        elif subresource == "finalize":
            after = {**copy_of(entry), "spec": body.get("spec") or {}}
        else:
            after = {**body, "metadata": {**body["metadata"], **fixed_meta(before)}}
            if kind.plural in rules.STATUS:
                after.pop("status", None)
                if "status" in before:
                    after["status"] = before["status"]
        after = msgspec.json.decode(msgspec.json.encode(after))
        owners = ownership.update(before, after, entry.owners, (manager, "Update", subresource))
        return self._save(kind, namespace, name, entry, after, owners, dry_run=dry_run)

    def delete(self, kind: Kind, namespace: str, name: str, options: Object) -> Object:
        entry = self.get(kind, namespace, name)
        wanted = (options.get("preconditions") or {}).get("uid")
        if wanted and wanted != entry.obj["metadata"]["uid"]:
            raise Refusal(
                409,
                "Conflict",
                f'Operation cannot be fulfilled on {rules.resource(kind)} "{name}": the UID in the '
                f"precondition ({wanted}) does not match the UID in record. The object might have been "
                "deleted and then recreated",
            )
        meta = entry.obj["metadata"]
        propagation = options.get("propagationPolicy") or "Background"
        waits = False
        if propagation == "Foreground":
            self._cascade(meta["uid"])
            waits = bool(self._owned_by(meta["uid"]))
        elif propagation == "Orphan":
            self._orphan(meta["uid"])
        grace = options.get("gracePeriodSeconds")
        if kind == kinds.POD:
            spec = entry.obj.get("spec") or {}
            if grace is None:
                grace = spec.get("terminationGracePeriodSeconds", 30)
            held = bool(spec.get("nodeName")) and grace > 0
        else:
            held = kind == kinds.NAMESPACE
        finalizers = [each for each in meta.get("finalizers") or () if each != _PROTECTED]
        if waits and _FOREGROUND not in finalizers:
            finalizers.append(_FOREGROUND)
        if not held and not finalizers:
            self._remove(kind, namespace, name)
            return entry.obj
        if meta.get("deletionTimestamp") and not (kind == kinds.POD and grace == 0):
            return entry.obj
        after = copy_of(entry)
        if finalizers:
            after["metadata"]["finalizers"] = finalizers
        after["metadata"] |= {
            "deletionTimestamp": now(),
            "deletionGracePeriodSeconds": grace if kind == kinds.POD else 0,
        }
        if kind == kinds.NAMESPACE:
            after["status"] = {**after.get("status", {}), "phase": "Terminating"}
        result = self._save(kind, namespace, name, entry, after, entry.owners)
        if kind == kinds.NAMESPACE:
            self._empty(name)
        return result

    def changes(self, after: int) -> Iterator[Change]:
        """Give the history after a version; raises a 410 where it is forgotten."""
        if after < self.oldest:
            raise gone(after)
        return iter([change for change in self.history if change.version > after])

    def forget(self) -> None:
        """Forget the history, as a compaction does."""
        self.history.clear()
        self.version += 1
        self.oldest = self.version

    def _new(self, kind: Kind, namespace: str, body: Object) -> Object:
        if namespace:
            place = self.entries[kinds.NAMESPACE].get(("", namespace))
            if place is None:
                raise Refusal(404, "NotFound", f'namespaces "{namespace}" not found')
            if place.obj["metadata"].get("deletionTimestamp"):
                raise Refusal(
                    403,
                    "Forbidden",
                    f'{rules.resource(kind)} "{body["metadata"].get("name")}" is forbidden: unable to create '
                    f"new content in namespace {namespace} because it is being terminated",
                    causes=[
                        {
                            "reason": "NamespaceTerminating",
                            "message": f"namespace {namespace} is being terminated",
                            "field": "metadata.namespace",
                        }
                    ],
                )
        obj: Object = {"apiVersion": kind.api_version, "kind": kind.kind, **defaults.canonical(body)}
        if kind.plural in rules.STATUS:
            obj.pop("status", None)
        meta = {
            key: value
            for key, value in obj["metadata"].items()
            if key not in ("resourceVersion", "managedFields", "deletionTimestamp") and value is not None
        }
        obj["metadata"] = {
            **meta,
            "uid": str(uuid.uuid4()),
            "creationTimestamp": now(),
            **({"namespace": namespace} if namespace else {}),
        }
        return obj

    def _save(
        self,
        kind: Kind,
        namespace: str,
        name: str,
        entry: Entry | None,
        obj: Object,
        owners: ownership.Owners,
        *,
        dry_run: bool = False,
    ) -> Object:
        obj = defaults.complete(obj)
        before = entry.obj if entry else None
        rules.check(kind, obj, before)
        meta = obj["metadata"]
        owned = ownership.managed_fields(
            owners,
            entry.owners if entry else {},
            (before or {}).get("metadata", {}).get("managedFields", []),
            kind.api_version,
        )
        meta["managedFields"] = owned
        if kind.plural in rules.GENERATIONS and "spec" in obj:
            if before is None:
                meta["generation"] = 1
            elif before.get("spec") != obj.get("spec"):
                meta["generation"] = before["metadata"].get("generation", 0) + 1
        if entry is not None and obj == entry.obj:
            return entry.obj
        if dry_run:
            return {**obj, "metadata": {"resourceVersion": str(entry.version if entry else ""), **meta}}
        if meta.get("deletionTimestamp") and self._may_go(kind, obj):
            self._remove(kind, namespace, name)
            return obj
        self.version += 1
        meta["resourceVersion"] = str(self.version)
        bare = {key: value for key, value in obj.items() if key not in ("apiVersion", "kind")}
        self.entries[kind][(namespace, name)] = Entry(obj, owners, self.version, msgspec.json.encode(bare))
        self._tell(Change(self.version, (kind, namespace, name), before, obj))
        if kind == kinds.CUSTOM_RESOURCE:
            self._serve(obj)
        return obj

    def _may_go(self, kind: Kind, obj: Object) -> bool:
        if obj["metadata"].get("finalizers"):
            return False
        if kind == kinds.NAMESPACE:
            return self._is_empty(obj["metadata"]["name"]) and not obj["spec"].get("finalizers")
        return kind != kinds.POD or obj["metadata"].get("deletionGracePeriodSeconds") == 0

    def _remove(self, kind: Kind, namespace: str, name: str) -> None:
        entry = self.entries[kind].pop((namespace, name), None)
        if entry is None:
            return
        self.version += 1
        if kind == kinds.CUSTOM_RESOURCE:
            self._unserve(entry.obj)
        last = {**entry.obj, "metadata": {**entry.obj["metadata"], "resourceVersion": str(self.version)}}
        self._tell(Change(self.version, (kind, namespace, name), last, None))
        self._cascade(entry.obj["metadata"]["uid"])
        for owner in entry.obj["metadata"].get("ownerReferences") or ():
            self._release(owner.get("uid"))
        if namespace:
            self._finish(namespace)

    def _release(self, uid: str) -> None:
        """Let an owner go that waited for its last dependent."""
        for kind, entries in list(self.entries.items()):
            for (namespace, name), entry in list(entries.items()):
                meta = entry.obj["metadata"]
                if meta["uid"] == uid and _FOREGROUND in (meta.get("finalizers") or ()):
                    if not self._owned_by(uid):
                        after = copy_of(entry)
                        after["metadata"]["finalizers"].remove(_FOREGROUND)
                        self._save(kind, namespace, name, entry, after, entry.owners)
                    return

    def _cascade(self, owner: str) -> None:
        for kind, namespace, name in self._owned_by(owner):
            if (namespace, name) in self.entries[kind]:
                self.delete(kind, namespace, name, {})

    def _orphan(self, owner: str) -> None:
        for kind, namespace, name in self._owned_by(owner):
            entry = self.get(kind, namespace, name)
            after = copy_of(entry)
            kept = [each for each in after["metadata"]["ownerReferences"] if each.get("uid") != owner]
            after["metadata"]["ownerReferences"] = kept
            self._save(kind, namespace, name, entry, after, entry.owners)

    def _owned_by(self, owner: str) -> list[Key]:
        return [
            (kind, namespace, name)
            for kind, entries in self.entries.items()
            for (namespace, name), entry in entries.items()
            if any(each.get("uid") == owner for each in entry.obj["metadata"].get("ownerReferences") or ())
        ]

    def _empty(self, namespace: str) -> None:
        for kind in list(self.entries):
            if kind.namespaced:
                for (place, name), _ in self.list(kind, namespace):
                    if (place, name) in self.entries[kind]:
                        self.delete(kind, place, name, {})
        self._finish(namespace)

    def _finish(self, namespace: str) -> None:
        entry = self.entries[kinds.NAMESPACE].get(("", namespace))
        if entry and entry.obj["metadata"].get("deletionTimestamp") and self._is_empty(namespace):
            after = {**copy_of(entry), "spec": {}}
            if not after["metadata"].get("finalizers"):
                self._remove(kinds.NAMESPACE, "", namespace)

    def _is_empty(self, namespace: str) -> bool:
        return not any(
            place == namespace
            for kind, entries in self.entries.items()
            if kind.namespaced
            for place, _ in entries
        )

    def _serve(self, definition: Object) -> None:
        self.served |= defined(definition)

    def _unserve(self, definition: Object) -> None:
        for kind in defined(definition):
            self.served.discard(kind)
            for namespace, name in list(self.entries[kind]):
                self._remove(kind, namespace, name)

    def _tell(self, change: Change) -> None:
        if len(self.history) == self.history.maxlen:
            self.oldest = self.history[0].version
        self.history.append(change)
        self.moved.set()
        self.moved = asyncio.Event()

    def _check_version(self, kind: Kind, name: str, entry: Entry, body: Object) -> None:
        meta = body.get("metadata") or {}
        wanted = meta.get("resourceVersion")
        uid = meta.get("uid")
        if (wanted and wanted != str(entry.version)) or (uid and uid != entry.obj["metadata"]["uid"]):
            raise Refusal(
                409,
                "Conflict",
                f'Operation cannot be fulfilled on {rules.resource(kind)} "{name}": the object has been '
                "modified; please apply your changes to the latest version and try again",
            )
