"""What the commands that export and apply share: reading files, whose they are, and telling what came of it."""

from __future__ import annotations

import getpass
from collections.abc import Callable, Iterable, Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Final, TextIO

from clusters.endpoints.approvals.deciding import Asker
from clusters.inventory import remit
from clusters.models import AppliedObject, AppliedPlatformObject
from portal.configuration.applier import Applier, of_shell
from portal.configuration.applying import Outcome
from portal.configuration.documents import Document, read_yaml
from portal.configuration.kinds import KINDS
from portal.configuration.kinds.base import Money
from portal.configuration.places import Place
from portal.configuration.problems import Problem, Refused, Unusable
from tenants import roles
from tenants.errors import Invalid, NotFound
from tenants.members import memberships_of
from tenants.models import Tenant, User

_SUFFIXES: Final = (".yaml", ".yml")
_GREEN, _RED, _CYAN, _PLAIN = "\x1b[32m", "\x1b[31m", "\x1b[36m", "\x1b[0m"


def read_files(names: Sequence[str], stdin: TextIO) -> list[Document]:
    """Read the documents of files, of all YAML files in folders, and of ``-``, the standard input.

    Raises:
        Refused: one cannot be read; the problem says where.
    """
    found: list[Document] = []
    for source, text in _texts(names, stdin):
        try:
            found += read_yaml(text, source=source)
        except Unusable as error:
            raise Refused([error.problem]) from error
    return found


def _texts(names: Sequence[str], stdin: TextIO) -> Iterator[tuple[str, str | bytes]]:
    for name in names:
        if name == "-":
            yield "standard input", stdin.read()
            continue
        path = Path(name)
        inside = (
            sorted(each for each in path.rglob("*") if each.suffix in _SUFFIXES) if path.is_dir() else [path]
        )
        if not inside:
            raise _unreadable(name, f"The folder holds no {' or '.join(_SUFFIXES)} file.")
        for each in inside:
            try:
                yield str(each), each.read_bytes()
            except OSError as error:
                raise _unreadable(str(each), f"It cannot be read: {error.strerror}.") from error


def _unreadable(source: str, message: str) -> Refused:
    return Refused([Problem(source=source, line=0, path="", message=message)])


class Doors:
    """Places for documents, and who applies there: the shell's account, or a person by their own rights.

    The command that uses it holds the platform's scope.
    """

    def __init__(self, *, tenant: str = "", person: User | None = None) -> None:
        self._tenant, self._person = tenant, person
        self._known: dict[str, tuple[Place, Applier]] = {}

    def of(self, document: Document) -> tuple[Place, Applier]:
        """Give where a document belongs.

        Raises:
            Invalid: it does not say in which tenant.
            NotFound: there is no such tenant.
        """
        if document.kind in KINDS and not KINDS[document.kind].of_tenants:
            return self.at("")
        slug = document.tenant or self._tenant
        if not slug:
            text = "Say whose it is, as metadata: {tenant: …}, or with --tenant."
            raise Invalid(text, errors={"metadata": [text]})
        if self._tenant and slug != self._tenant:
            text = f"It is of {slug}, and only {self._tenant} is asked for."
            raise Invalid(text, errors={"metadata.tenant": [text]})
        return self.at(slug)

    def at(self, slug: str) -> tuple[Place, Applier]:
        """Give a tenant's place, or with "" the platform's.

        Raises:
            NotFound: there is no such tenant.
        """
        if slug not in self._known:
            place = _place(slug)
            self._known[slug] = (place, self._applier(place))
        return self._known[slug]

    def labelled(self, owner: str, documents: Iterable[Document]) -> list[tuple[Place, Applier]]:
        """Give the places where something has an owner label, of those that are asked for or that documents name.

        Labels are free text: the same one elsewhere may well be somebody else's.
        """
        return [self.at(slug) for slug in sorted(_with_label(owner) & self._meant(documents))]

    def elsewhere(self, owner: str, documents: Iterable[Document]) -> list[str]:
        """Give the other places where something has an owner label, in words; none where one tenant is asked for."""
        others = set() if self._tenant else _with_label(owner) - self._meant(documents)
        return [slug or "the platform" for slug in sorted(others)]

    def _meant(self, documents: Iterable[Document]) -> set[str]:
        if self._tenant:
            return {self._tenant}
        known = [each for each in documents if each.kind in KINDS]
        return {each.tenant if KINDS[each.kind].of_tenants else "" for each in known}

    def _applier(self, place: Place) -> Applier:
        if self._person is None:
            return of_shell(getpass.getuser())
        return _as_person(self._person, place)


def _with_label(owner: str) -> set[str]:
    slugs = set(AppliedObject.objects.filter(owner=owner).order_by().values_list("tenant__slug", flat=True))
    if AppliedPlatformObject.objects.filter(owner=owner).exists():
        slugs.add("")
    return slugs


def _place(slug: str) -> Place:
    if not slug:
        return Place()
    tenant = Tenant.objects.filter(slug=slug).first()
    if tenant is None:
        raise NotFound(f"There is no tenant {slug!r}.")
    return Place(tenant.slug, tenant.id)


def _as_person(person: User, place: Place) -> Applier:
    asker = Asker(user=person)
    if place.tenant_id is None:
        operator = remit.operator_of(person)
        may: Callable[[str], bool] = operator.may if operator else _nothing  # type: ignore[assignment]
        return Applier(actor=person.email, may=may, user=person, asked_by=asker)
    held = [each for each in memberships_of(user_id=person.id) if each.tenant_id == place.tenant_id]
    role = held[0].role if held else ""
    return Applier(
        actor=person.email,
        may=lambda action: roles.allows(role, roles.Action(action)),
        user=person,
        asked_by=asker,
        role=role,
    )


def _nothing(action: str) -> bool:
    return False


def told(
    outcomes: Iterable[Outcome], *, colour: bool, dry_run: bool, with_diff: bool = True
) -> Iterator[str]:
    """Tell what became of objects, or would, line by line."""
    counted: dict[str, int] = {}
    for each in outcomes:
        counted[each.result] = counted.get(each.result, 0) + 1
        note = f" {each.note}" if each.note else ""
        yield f"{each.title}: {each.result.replace('-', ' ')}.{note}"
        if each.diff and with_diff:
            yield from (_coloured(line) if colour else line for line in each.diff.splitlines())
        if each.money and (text := price_effect(each.money)):
            yield f"  {text}"
    parts = [f"{number} {result.replace('-', ' ')}" for result, number in counted.items()]
    yield f"{'Would be' if dry_run else 'Done'}: {', '.join(parts) or 'nothing'}."


def price_effect(money: Money) -> str:
    """Say what a change does to the price, "" where neither price is known."""
    if money.before is None and money.after is None:
        return ""
    return f"Per hour: {_amount(money.before)} -> {_amount(money.after)} {money.currency}"


def _amount(value: Decimal | None) -> str:
    return "nothing" if value is None else f"{value.normalize():f}"


def _coloured(line: str) -> str:
    colour = {"+": _GREEN, "-": _RED, "@": _CYAN}.get(line[:1], "")
    return f"{colour}{line}{_PLAIN}" if colour else line
