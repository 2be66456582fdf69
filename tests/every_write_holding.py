"""Drivers that stop where a test says, in the middle of making a change visible."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from threading import Event
from typing import Any, Literal

import psycopg
import sqlalchemy as sa
from every_write_site import WriteSite
from waiting import PATIENCE

COMMIT = "COMMIT"
COMMIT_PREPARED = "COMMIT PREPARED"

# Before the database is told, or when it has done it and nobody knows.
When = Literal["before", "after"]


class Gate:
    """Whoever does *what*, a call or the beginning of a statement, stops here the first time."""

    def __init__(self, what: str, when: When) -> None:
        self._what, self._when = what, when
        self._is_used = False
        self.reached, self._opened = Event(), Event()

    def open(self) -> None:
        self._opened.set()

    def around(self, what: str, act: Callable[[], Any]) -> Any:
        """Do *act*, and stop before or after it."""
        if self._is_used or not what.startswith(self._what):
            return act()
        self._is_used = True
        if self._when == "before":
            self._stop()
            return act()
        answer = act()
        self._stop()
        return answer

    def _stop(self) -> None:
        self.reached.set()
        assert self._opened.wait(PATIENCE), "nobody opens the gate"


def holding_engine(site: WriteSite, gate: Gate, **options: Any) -> sa.Engine:
    """An engine on the site's database, whose driver stops at *gate*."""
    connect = _sqlite(site, gate) if site.is_sqlite else _postgres(site, gate)
    engine = sa.create_engine(site.url, creator=connect, poolclass=sa.NullPool, **options)
    site.set_up(engine)
    return engine


def _sqlite(site: WriteSite, gate: Gate) -> Callable[[], Any]:
    class Cursor(sqlite3.Cursor):
        def execute(self, statement: str, *values: Any) -> Any:
            return gate.around(statement, lambda: super(Cursor, self).execute(statement, *values))

    class Connection(sqlite3.Connection):
        def commit(self) -> None:
            gate.around(COMMIT, super().commit)

        def cursor(self, *_factory: Any) -> Any:
            return super().cursor(Cursor)

    path: Any = sa.make_url(site.url).database
    return lambda: sqlite3.connect(path, factory=Connection)


def _postgres(site: WriteSite, gate: Gate) -> Callable[[], Any]:
    class Cursor(psycopg.Cursor[Any]):
        def execute(self, query: Any, *values: Any, **more: Any) -> Any:
            return gate.around(
                str(query), lambda: super(Cursor, self).execute(query, *values, **more)
            )

    class Connection(psycopg.Connection[Any]):
        def commit(self) -> None:
            gate.around(COMMIT, super().commit)

        def tpc_commit(self, *xid: Any) -> None:
            gate.around(COMMIT_PREPARED, lambda: super(Connection, self).tpc_commit(*xid))

    return lambda: Connection.connect(site.dsn, cursor_factory=Cursor)
