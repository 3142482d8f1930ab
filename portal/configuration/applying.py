"""Comparing documents with what there is, and applying them: all of them, or none.

A dry run applies them and takes everything back, so that it tells what would become of quotas, budgets, prices and
approvals, too.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Final

from django.db import IntegrityError, transaction
from rest_framework.exceptions import ValidationError

from clusters.endpoints.wishes import tenant_for_update
from portal.configuration.applier import Applier
from portal.configuration.documents import LABEL, LABEL_RULE, Document
from portal.configuration.kinds import KINDS, Kind
from portal.configuration.kinds.base import ASKED_FOR, LEFT, UNCHANGED, WAITING, Done, Money, Wanted
from portal.configuration.kinds.endpoint import EndpointKind
from portal.configuration.places import Place, digest, is_of_another
from portal.configuration.problems import Problem, Refused, did_you_mean, flattened, told
from portal.configuration.writing import unified
from tenants.errors import BerthError, Conflict, Invalid

_ANOTHER: Final = "It is gone already; what has its name now was made by somebody else."
_TOO_MANY: Final = (
    "With this one more than {} endpoints would be ordered or changed at once, and everybody's orders wait meanwhile. "
    "Apply them in parts."
)
_RANK: Final = {name: number for number, name in enumerate(KINDS)}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of one object, or would become of it. ``diff`` is a unified one of its spec."""

    kind: str
    name: str
    tenant: str
    project: str
    result: str
    note: str = ""
    diff: str = ""
    money: Money | None = None
    source: str = ""
    line: int = 0

    @property
    def differs(self) -> bool:
        """Whether it is not as the documents have it."""
        return self.result not in (UNCHANGED, WAITING, LEFT)

    @property
    def title(self) -> str:
        """What it is, in words."""
        where = "/".join(part for part in (self.tenant, self.project) if part)
        return f"{self.kind} {self.name}" + (f" ({where})" if where else "")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """How documents are applied. ``owner`` is the label of those that name none themselves, ``most_orders`` how many
    endpoints may be ordered or changed at once, where that is bounded; ``expect`` is the digest of what a dry run told,
    where only that is to be done."""

    dry_run: bool = False
    owner: str = ""
    prune: bool = False
    take_over: bool = False
    most_orders: int | None = None
    expect: str = ""


class _TakenBack(Exception):
    """What a dry run did is undone."""


#: Gives the place of a document, and who applies it there.
Finder = Callable[[Document], tuple[Place, Applier]]


def configuration_apply(
    documents: Sequence[Document],
    *,
    find: Finder,
    pruned: Iterable[tuple[Place, Applier]] = (),
    options: Options,
) -> list[Outcome]:
    """Apply documents in one transaction, or with ``dry_run`` tell what that would do.

    ``find`` says where a document belongs and who applies it there; ``pruned`` are the places where objects with the
    owner's label that no document names are taken away.

    Raises:
        Refused: at least one of them cannot be applied, so none is; ``problems`` says which, where and why.
        Conflict: something else would be done than what is expected, so nothing is.
    """
    _check(options)
    if not documents:
        # With prune it would take everything away: hardly what an empty folder means.
        raise Invalid("There is no document to apply.", errors={"documents": ["Give at least one."]})
    found: list[Outcome] = []
    try:
        with transaction.atomic():
            work = _Work(options)
            found = work.apply(documents, find)
            if options.prune:
                found += work.prune(pruned)
            if work.problems:
                raise Refused(work.problems)
            if options.expect not in ("", outcomes_digest(found)):
                raise Conflict(
                    "What there is has changed since it was compared. Nothing was applied: look again."
                )
            if options.dry_run:
                raise _TakenBack
    except _TakenBack:
        pass
    return found


def outcomes_digest(outcomes: Iterable[Outcome]) -> str:
    """Give the digest of what becomes of objects and what that costs, as a dry run or applying tells it."""
    said = [
        [each.kind, each.name, each.tenant, each.project, each.result, each.diff]
        + ([str(each.money.before), str(each.money.after), each.money.currency] if each.money else [])
        for each in outcomes
    ]
    return hashlib.sha256(json.dumps(said).encode()).hexdigest()


def _check(options: Options) -> None:
    if options.owner and not LABEL.fullmatch(options.owner):
        raise Invalid(f"An owner label has {LABEL_RULE}.", errors={"owner": [f"Write {LABEL_RULE}."]})
    if options.prune and not options.owner:
        text = "To prune, say whose objects: those with which owner label."
        raise Invalid(text, errors={"owner": [text]})


@dataclasses.dataclass
class _Step:
    document: Document
    place: Place
    by: Applier
    kind: Kind
    row: Any
    wanted: Wanted
    outcome: Outcome


class _Work:
    def __init__(self, options: Options) -> None:
        self.options = options
        self.problems: list[Problem] = []
        self.named: set[tuple[Place, str, str]] = set()

    def apply(self, documents: Sequence[Document], find: Finder) -> list[Outcome]:
        self._refuse_twice(documents)
        known = [each for each in documents if self._known(each)]
        known.sort(key=lambda each: _RANK[each.kind])
        steps: list[_Step] = []
        for name in KINDS:
            ours = self._steps([each for each in known if each.kind == name], find)
            for step in ours:
                self._guarded(step.document, partial(self._finish, step))
            steps += ours
        return [step.outcome for step in steps]

    def _steps(self, documents: Sequence[Document], find: Finder) -> list[_Step]:
        steps, orders = [], 0
        for each in documents:
            step = self._step(each, find)
            steps += [step] if step else []
            # What is refused was planned, too.
            orders += each.kind == EndpointKind.name and (step is None or step.outcome.differs)
            if self.options.most_orders is not None and orders > self.options.most_orders:
                self.problems.append(each.problem(_TOO_MANY.format(self.options.most_orders), "kind"))
                break
        return steps

    def prune(self, places: Iterable[tuple[Place, Applier]]) -> list[Outcome]:
        found = []
        for place, by in places:
            with place.opened():
                records = list(place.records.filter(owner=self.options.owner))
            records.sort(key=lambda each: (-_RANK.get(each.kind, 0), each.name))
            for record in records:
                if (place, record.kind, record.name) in self.named or record.kind not in KINDS:
                    continue
                document = Document(source=f"owner {record.owner}", kind=record.kind, name=record.name)
                outcome = self._guarded(document, partial(self._take_away, place, by, record))
                found += [outcome] if outcome else []
        return found

    def _take_away(self, place: Place, by: Applier, record: Any) -> Outcome:
        kind = KINDS[record.kind]
        by.demand(kind.action)
        with place.opened():
            row = kind.find(record.name)
            before, project = (kind.spec(row), kind.project_of(row)) if row is not None else (None, "")
            if row is not None and is_of_another(record, row):
                before, done = None, Done(result=LEFT, note=_ANOTHER)
            elif row is not None:
                done = kind.remove(row, by)
            else:
                done = Done(result=LEFT, note="It is gone already.")
            if done.result not in (ASKED_FOR, WAITING):
                record.delete()
        stays = before is None or done.result == LEFT
        return Outcome(
            kind=record.kind,
            name=record.name,
            tenant=place.tenant,
            project=project,
            result=done.result,
            note=done.note,
            money=done.money,
            diff="" if stays else unified(before, None, name=f"{record.kind} {record.name}"),
        )

    def _refuse_twice(self, documents: Sequence[Document]) -> None:
        counted = Counter((each.kind, each.tenant, each.name) for each in documents)
        for each in documents:
            if counted[each.kind, each.tenant, each.name] > 1:
                self.problems.append(each.problem("It is described twice; leave one out.", "metadata.name"))

    def _known(self, document: Document) -> bool:
        if document.kind in KINDS:
            return True
        self.problems.append(
            document.problem(
                f"There is no kind {document.kind}. {did_you_mean(document.kind, KINDS)}", "kind"
            )
        )
        return False

    def _step(self, document: Document, find: Finder) -> _Step | None:
        return self._guarded(document, partial(self._placed, document, find))

    def _placed(self, document: Document, find: Finder) -> _Step:
        place, by = find(document)
        with place.opened():
            if place.tenant_id:
                # Held to the end: what is read here is what is written over, by nobody else in between.
                tenant_for_update()
            return self._applied(document, place, by)

    def _applied(self, document: Document, place: Place, by: Applier) -> _Step:
        kind = KINDS[document.kind]
        by.demand(kind.action)
        _check_metadata(document, kind)
        row = kind.find(document.name)
        record = place.record_of(document.kind, document.name, row)
        owner = document.owner or self.options.owner
        if record and owner and record.owner not in ("", owner) and not self.options.take_over:
            raise Conflict(
                f"It belongs to the owner label {record.owner}. Apply it with that one, or take it over.",
                path="metadata.owner",
            )
        if row is not None and document.project and document.project != kind.project_of(row):
            text = f"It is in project {kind.project_of(row) or 'none'}, and stays there."
            raise Invalid(text, errors={"metadata.project": [text]})
        before = kind.spec(row) if row is not None else None
        wanted = kind.wanted(document, row)
        after = kind.after(row, before, wanted)
        done = self._carried_out(document, kind, row, wanted, before, after, by, record)
        self.named.add((place, document.kind, document.name))
        outcome = Outcome(
            kind=document.kind,
            name=document.name,
            tenant=place.tenant,
            project=document.project or (kind.project_of(row) if row is not None else ""),
            result=done.result,
            note=done.note,
            money=done.money,
            diff=unified(before, after, name=document.title) if before != after else "",
            source=document.source,
            line=document.line(),
        )
        step = _Step(document, place, by, kind, done.row if done.row is not None else row, wanted, outcome)
        place.remember(document, step.row, record=record, owner=owner, by=by)
        return step

    def _carried_out(
        self,
        document: Document,
        kind: Kind,
        row: Any,
        wanted: Wanted,
        before: Mapping[str, Any] | None,
        after: Mapping[str, Any],
        by: Applier,
        record: Any,
    ) -> Done:
        if row is None or before is None:
            return kind.create(document, wanted, by)
        changed = frozenset(name for name, value in after.items() if value != before.get(name))
        if not changed:
            note = "It waits for somebody's approval." if kind.asked(row) else ""
            return Done(result=UNCHANGED, row=row, note=note)
        if record is not None and record.digest == digest(document) and kind.asked(row):
            return Done(result=WAITING, row=row, note="It was asked for and waits for somebody's approval.")
        return kind.change(row, document, wanted, changed, by)

    def _finish(self, step: _Step) -> None:
        if step.outcome.differs:
            with step.place.opened():
                step.kind.finish(step.row, step.wanted, step.by)

    def _guarded(self, document: Document, work: Callable[[], Any]) -> Any | None:
        """Do something about a document; what is wrong with it is kept, and what was done of it undone."""
        try:
            with transaction.atomic():
                return work()
        except ValidationError as error:
            for field, messages in flattened(error.detail).items():
                self._wrong(document, field, [told(each, field.rpartition(".")[2]) for each in messages])
        except BerthError as error:
            errors = getattr(error, "errors", {})
            for field, messages in errors.items():
                self._wrong(document, field, messages)
            if not errors:
                self.problems.append(document.problem(error.message, str(error.extra.get("path", ""))))
        except IntegrityError:
            self.problems.append(
                document.problem("It was changed by somebody else at the same moment. Apply again.")
            )
        return None

    def _wrong(self, document: Document, field: str, messages: Iterable[str]) -> None:
        path = field if field.split(".")[0] in ("", "metadata") else f"spec.{field}"
        if field == "name":
            path = "metadata.name"
        self.problems += [document.problem(message, path or "spec") for message in messages]


def _check_metadata(document: Document, kind: Kind) -> None:
    if document.project and not kind.in_project:
        text = f"A {kind.name} belongs to no project: leave it out."
        raise Invalid(text, errors={"metadata.project": [text]})
    if document.tenant and not kind.of_tenants:
        text = f"A {kind.name} is the platform's: leave the tenant out."
        raise Invalid(text, errors={"metadata.tenant": [text]})
