"""Every write, by its name: who is concerned, and on which databases it can be made."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa
from every_write_site import MEMBERS, WriteSite
from sqlalchemy.orm import Session

SQLITE, POSTGRES = "sqlite", "postgresql"
BOTH = (SQLITE, POSTGRES)
EVERYBODY = MEMBERS


@dataclass
class At:
    """Where a write is made: the session of the app, and what the write opens beside it."""

    site: WriteSite
    opened: list[Any] = field(default_factory=list)
    held: list[Any] = field(default_factory=list)  # the session's own hold is weak

    def __post_init__(self) -> None:
        self.m = self.site.models
        self.session = self.m.db.session

    def row(self, name: str, key: int) -> Any:
        """A row of the app's session."""
        self.held.append(self.session.get(getattr(self.m, name), key))
        return self.held[-1]

    @property
    def ann(self) -> Any:
        return self.row("Member", 1)

    @property
    def bob(self) -> Any:
        return self.row("Member", 2)

    def open(self, made: Any) -> Any:
        """A session or a connection, that is ended with the rest."""
        self.opened.insert(0, made)
        return made

    def connection(self, key: str = "plain", **options: Any) -> Any:
        """A connection of an engine of its own."""
        return self.open(self.site.engine(key=key, **options).connect())

    def execute(self, statement: Any, *values: Any, **options: Any) -> Any:
        """What the app's session executes."""
        statement = sa.text(statement) if isinstance(statement, str) else statement
        return self.session.execute(statement, *values, **options)

    def commit(self) -> None:
        for each in (self.session, *self.opened):
            each.commit()

    def roll_back(self) -> None:
        for each in (self.session, *self.opened):
            each.rollback()

    def close(self) -> None:
        """End what was opened; the session ends with its app context."""
        for each in self.opened:
            each.close()


@contextmanager
def acting(site: WriteSite) -> Iterator[At]:
    """The place for a write, outside of any request."""
    site.soil(*MEMBERS)
    with site.full.app.app_context():
        at = At(site)
        try:
            yield at
        finally:
            at.close()


Write = Callable[[At], Any]


@dataclass(frozen=True)
class Act:
    """One write. The pages of those it *changes* show something else afterwards; those in *loads*
    may be loaded again all the same; *ends* says that it commits or rolls back by itself."""

    write: Write
    changes: tuple[int, ...] = (1,)
    loads: tuple[int, ...] = ()
    on: tuple[str, ...] = BOTH
    ends: bool = False


def narrow(write: Write, *changes: int, **more: Any) -> Act:
    """A write that has nobody loaded again but those it *changes*: ann, if nobody is named."""
    return Act(write, changes or (1,), **more)


def wide(write: Write, *changes: int, **more: Any) -> Act:
    """A write of which nobody can tell whom it concerns."""
    return Act(write, changes or (1,), EVERYBODY, **more)


def nobodys(write: Write, **more: Any) -> Act:
    """A write of what nobody's page was made of."""
    return Act(write, (), **more)


def put(row: Any, **values: Any) -> None:
    """Set attributes of a row."""
    for name, value in values.items():
        setattr(row, name, value)


def own_session(at: At, key: str = "plain", **options: Any) -> Session:
    """A session of SQLAlchemy's own, on an engine of its own."""
    known = ("isolation_level", "connect_args")
    engine = {name: options.pop(name) for name in known if name in options}
    return at.open(Session(at.site.engine(key=key, **engine), **options))
