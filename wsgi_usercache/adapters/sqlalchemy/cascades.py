"""Which other tables does the database change by itself along with one? Those whose foreign keys
say so: ON DELETE, ON UPDATE, TRUNCATE … CASCADE."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from weakref import WeakKeyDictionary

from sqlalchemy import MetaData

_SETTING = re.compile(r"^\s*SET\s+(?:NULL|DEFAULT)\b", re.IGNORECASE)
_CASCADE = re.compile(r"^\s*CASCADE\b", re.IGNORECASE)
_DELETES = re.compile(r"\b(?:DELETE|REPLACE|MERGE)\b", re.IGNORECASE)
_UPDATES = re.compile(r"\b(?:UPDATE|MERGE)\b", re.IGNORECASE)
_TRUNCATES = re.compile(r"\bTRUNCATE\b.*\bCASCADE\b", re.IGNORECASE | re.DOTALL)
_WHERE = re.compile(r"\bWHERE\b", re.IGNORECASE)
# Where the columns that are set can not be told from the text before WHERE.
_UNTOLD = re.compile(r"\bSELECT\b|\bMERGE\b|\bSET\s*\(|^\s*WITH\b", re.IGNORECASE)
_SET = re.compile(r"""(?:^|[\s,.(])["`\[]?([\w$]+)["`\]]?\s*=""")


class _WholeRows(Enum):
    """What happens to whole rows; to single columns of them it happens by their name."""

    DELETED = 1
    TRUNCATED = 2
    UPDATED = 3  # in columns nobody can tell


_Change = _WholeRows | str


@dataclass(frozen=True, slots=True)
class _Reference:
    """One foreign key: *column* of *table* refers to *target*, a column of another table."""

    table: str
    column: str
    target: str
    on_delete: str
    on_update: str

    def passes_on(self, change: _Change) -> _Change | None:
        """What becomes of the referring row when this happens to the one referred to."""
        if change is _WholeRows.TRUNCATED:
            return change
        is_deleted = change is _WholeRows.DELETED
        if not is_deleted and change not in (_WholeRows.UPDATED, self.target):
            return None
        action = self.on_delete if is_deleted else self.on_update
        if _CASCADE.match(action):
            return _WholeRows.DELETED if is_deleted else self.column
        return self.column if _SETTING.match(action) else None


# By the bare name of the table referred to. Process-wide and only ever growing, as table names.
_references: dict[str, set[_Reference]] = {}
_sizes: WeakKeyDictionary[MetaData, int] = WeakKeyDictionary()


def learn(metadata: MetaData) -> None:
    """From now on the foreign keys of these tables are known."""
    if _sizes.get(metadata) == len(metadata.tables):
        return
    tables = list(metadata.tables.values())
    for table in tables:
        for key in table.foreign_keys:
            *_, target_table, target = key.target_fullname.lower().split(".")
            reference = _Reference(
                table.name.lower(),
                key.parent.name.lower(),
                target,
                key.ondelete or "",
                key.onupdate or "",
            )
            _references.setdefault(target_table, set()).add(reference)
    _sizes[metadata] = len(tables)


def known() -> int:
    """How much is known: more, whenever something was learned."""
    return sum(map(len, list(_references.values())))


def reached(tables: Iterable[str], statement: str) -> frozenset[str]:
    """The tables that change along when *statement*, which writes, changes *tables*.

    A table can reach itself: by the rows of it that refer to others of it.
    """
    starts = _referred_to(tables)
    return _closure(starts, _changes(statement)) if starts else frozenset()


def reached_at_most(tables: Iterable[str]) -> frozenset[str]:
    """The tables that may change along with rows of *tables* that are updated or deleted."""
    return _closure(_referred_to(tables), (_WholeRows.DELETED, _WholeRows.UPDATED))


def _referred_to(tables: Iterable[str]) -> list[str]:
    return [table for table in tables if table in _references]


def _closure(starts: Iterable[str], changes: Iterable[_Change]) -> frozenset[str]:
    changes = list(changes)
    waiting = [(table, change) for table in starts for change in changes]
    seen = set(waiting)
    found: set[str] = set()
    while waiting:
        table, change = waiting.pop()
        for reference in _references.get(table, ()):
            passed_on = reference.passes_on(change)
            if passed_on is not None:
                found.add(reference.table)
                step = (reference.table, passed_on)
                if step not in seen:
                    seen.add(step)
                    waiting.append(step)
    return frozenset(found)


def _changes(statement: str) -> Iterator[_Change]:
    """What *statement* does to the rows of its tables, as far as foreign keys pass it on."""
    if _TRUNCATES.search(statement):
        yield _WholeRows.TRUNCATED
    if _DELETES.search(statement):
        yield _WholeRows.DELETED
    if _UPDATES.search(statement):
        head = _WHERE.split(statement, maxsplit=1)[0]
        if _UNTOLD.search(head):
            yield _WholeRows.UPDATED
        else:
            yield from {name.lower() for name in _SET.findall(head)}
