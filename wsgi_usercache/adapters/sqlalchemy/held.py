"""What does a session hold already, and is it still what the database has?

Rows that a session holds are read without a statement: by their key, or because another row refers
to them. Nobody sees that, so that all of them count as read, as of the moment since when the
session has been filling.
"""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

from sqlalchemy.orm import Session

from wsgi_usercache.generations import Generations, Moment, slot_of

from . import changes, connections
from .changes import any_row, unattributed
from .login_ids import login_names
from .mapped import is_user
from .narrow import tables_around

# Each is looked up by the thread that has the session, so that no lock is needed.
_filling_since: WeakKeyDictionary[Session, dict[Generations, Moment]] = WeakKeyDictionary()


def filling(session: Session, *begun: object) -> None:
    """*session* is about to be given rows, perhaps its first.

    In a transaction that had a connection before, rows may be as old as that: the moment stays.
    """
    root = session.get_transaction()
    taken = [] if root is None else connections.connections_of(root)
    if not len(session.identity_map) and len(taken) <= bool(begun):
        _filling_since[session] = changes.moments()


class HeldRows:
    """The rows that *session* held before a run."""

    def __init__(self, session: Session | None, generations: Generations) -> None:
        self.rows: list[Any] = [] if session is None else list(session.identity_map.values())
        self._generations = generations
        since = {} if session is None else _filling_since.get(session, {})
        self._moment = since.get(generations)

    def tables(self) -> set[str]:
        """The tables they are from."""
        return {table for row in self.rows for table in tables_around(row)}

    def are_current(self) -> bool:
        """Whether nobody has changed them since they were read, as far as changes are told."""
        if not self.rows:
            return True
        slots = {slot_of(name) for row in self.rows for name in _names(row)}
        return self._moment is not None and self._generations.unchanged_since(
            self._moment, tuple(slots)
        )


def _names(row: Any) -> set[str]:
    """The names one of which moves when *row* changes, or what it refers to."""
    login = login_names(row, old=False)
    if None in login or not is_user(row):
        return {any_row(table) for table in tables_around(row)}
    own = {name for name in login if name is not None}
    return own | {unattributed(table) for table in tables_around(row)}
