"""What did a transaction change, and who must be told when it is committed?"""

from __future__ import annotations

from collections.abc import Iterable
from threading import Lock
from typing import Any, Protocol
from weakref import ref

from sqlalchemy.engine import Connection

from wsgi_usercache.generations import EVERYBODY, Generations, Moment, slot_of

from . import connections
from .statements import EVERYTHING

_CHANGES = "wsgi_usercache.changes"  # of the transaction under way, in its connection's info


class Opinion(Protocol):
    """What counts as a change to one app."""

    def known(self) -> frozenset[str]:
        """The names of its tables, which are looked up again and so become known here."""

    def knows(self, mapped: type) -> bool:
        """Whether the app may hold rows of *mapped*."""

    def counts(self, mapped: type, columns: frozenset[str]) -> bool:
        """Whether a change of nothing but *columns* is one."""


_installing = Lock()
_installed: tuple[tuple[ref[Opinion], Generations], ...] = ()  # replaced, never changed


def any_row(table: str) -> str:
    """The name that moves whenever anything in *table* is written."""
    return f"rows:{table}"


def unattributed(table: str) -> str:
    """The name that moves when what was written in *table* can not be told by its users."""
    return f"table:{table}"


def both(tables: Iterable[str]) -> set[str]:
    """The names that move when *tables* are written by nobody knows whom."""
    return {name(table) for table in tables for name in (any_row, unattributed)}


class Changes:
    """The names one transaction will move. *partial* are those of rows of which only some
    columns were changed: whether that counts each app has its own opinion."""

    __slots__ = ("names", "partial")

    def __init__(self, names: Iterable[str] = ()) -> None:
        self.names = set(names)
        self.partial: dict[tuple[type, frozenset[str]], set[str]] = {}

    def that_count(self, opinions: Iterable[Opinion]) -> set[str]:
        """The names that move if any of *opinions* says so, of those that know the rows."""
        names = set(self.names)
        for (mapped, columns), of_row in self.partial.items():
            asked = [opinion for opinion in opinions if opinion.knows(mapped)]
            if not asked or any(opinion.counts(mapped, columns) for opinion in asked):
                names |= of_row
        return names


def install(generations: Generations, opinion: Opinion) -> None:
    """Tell *generations*, as long as *opinion* lives, what is committed in this process."""
    global _installed
    with _installing:
        others = [each for each in _installed if each[0]() not in (None, opinion)]
        _installed = (*others, (ref(opinion), generations))


def look_up_tables() -> None:
    """Have the tables of every app known: a process that only writes was never asked for them."""
    for reference, _ in _installed:
        opinion = reference()
        if opinion is not None:
            opinion.known()


def record(
    connection: Connection, names: set[str], *, mapped: type | None = None,
    columns: frozenset[str] = frozenset(),
) -> None:  # fmt: skip
    """These *names* move when what *connection* is writing is committed; if *columns* are given,
    only they were changed, of a row of *mapped*."""
    changes: Changes = connection.info.setdefault(_CHANGES, Changes())
    if mapped is not None and columns:
        changes.partial.setdefault((mapped, columns), set()).update(names)
    else:
        changes.names |= names


def noted(info: dict[Any, Any]) -> Changes | None:
    """What was written there and is not committed, if anything."""
    return info.get(_CHANGES)


def taken(info: dict[Any, Any] | None) -> Changes | None:
    """The same, and it is noted no longer."""
    return info.pop(_CHANGES, None) if isinstance(info, dict) else None


def keep(info: dict[Any, Any], noted: Changes) -> None:
    """What was taken is noted again."""
    info[_CHANGES] = noted


def forget(info: dict[Any, Any]) -> None:
    """What was written there is gone, or was published."""
    info.pop(_CHANGES, None)


def pending(opinion: Opinion) -> frozenset[str]:
    """The names this context has written and not committed."""
    found: set[str] = set()
    for info in connections.infos():
        changes = noted(info)
        if changes is not None:
            found |= changes.that_count([opinion])
    return frozenset(found)


def publish(info: dict[Any, Any]) -> None:
    """New numbers for what was written there, which stays noted for the COMMIT to come."""
    changes = noted(info)
    if changes is not None:
        tell(changes)


def tell(changes: Changes) -> None:
    """New numbers for *changes*, which everybody can see by now."""
    for generations, slots in addressees(changes):
        generations.bump(slots)


def bump(slots: Iterable[int]) -> None:
    """New numbers in *slots*, wherever they are kept."""
    for generations in _everybody():
        generations.bump(tuple(slots))


def moments() -> dict[Generations, Moment]:
    """This moment, as each place where changes are told has it."""
    return {generations: generations.moment() for generations in _everybody()}


def addressees(changes: Changes) -> list[tuple[Generations, tuple[int, ...]]]:
    """Whom to tell of *changes*, and the slots that move there."""
    found = []
    for generations, opinions in _everybody().items():
        names = changes.that_count(opinions)
        if names:
            found.append((generations, slots_of(names)))
    return found


def _everybody() -> dict[Generations, list[Opinion]]:
    told: dict[Generations, list[Opinion]] = {}
    for reference, generations in _installed:
        opinion = reference()
        if opinion is not None:
            told.setdefault(generations, []).append(opinion)
    return told


def slots_of(names: Iterable[str]) -> tuple[int, ...]:
    """Where the numbers of *names* stand."""
    slots = {EVERYBODY if name.endswith(f":{EVERYTHING}") else slot_of(name) for name in names}
    return tuple(sorted(slots))
