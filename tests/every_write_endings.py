"""Writes and the ways their transactions end: savepoints, several databases, transactions of
others, two phases."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import sqlalchemy as sa
from every_write_acts import (
    EVERYBODY,
    POSTGRES,
    SQLITE,
    Act,
    At,
    narrow,
    own_session,
    put,
    wide,
)
from every_write_texts import UPDATE
from sqlalchemy.orm import Session

AUTOCOMMIT = {"key": "autocommit", "isolation_level": "AUTOCOMMIT"}


def ann_of(session: Any, at: At) -> Any:
    return session.get(at.m.Member, 1)


def rename(session: Any, at: At, to: str = "anne") -> None:
    """Ann gets that name, in the database but not committed."""
    ann_of(session, at).name = to
    session.flush()


def begin(session: Any, at: At) -> None:
    """A transaction has begun: drivers for SQLite put it off until something is written."""
    session.add(at.m.Thing(id=2))
    session.flush()


def nothing(*changes: int, **more: Any) -> Callable[[Callable[[At], Any]], Act]:
    """A write of which nothing remains; *changes* may be loaded again."""
    return lambda write: Act(write, (), changes or (1,), **more)


def released(at: At) -> None:
    begin(at.session, at)
    with at.session.begin_nested():
        rename(at.session, at)


def released_first(at: At) -> None:
    """Python's driver for SQLite sends no BEGIN before SAVEPOINT: RELEASE is a COMMIT."""
    with at.session.begin_nested():
        rename(at.session, at)


def given_up(at: At) -> None:
    begin(at.session, at)
    savepoint = at.session.begin_nested()
    rename(at.session, at)
    savepoint.rollback()


def given_up_after_a_change(at: At) -> None:
    rename(at.session, at)
    savepoint = at.session.begin_nested()
    put(at.bob, name="rob")
    at.session.flush()
    savepoint.rollback()


def refused_then_changed(at: At) -> None:
    """Get or create, as everybody has it."""
    try:
        with at.session.begin_nested():
            at.session.add(at.m.Member(id=1, uid="u9"))
    except sa.exc.IntegrityError:
        put(at.ann, name="anne")


def released_twice(at: At) -> None:
    begin(at.session, at)
    with at.session.begin_nested(), at.session.begin_nested():
        rename(at.session, at)


def inner_given_up(at: At) -> None:
    begin(at.session, at)
    with at.session.begin_nested():
        rename(at.session, at)
        inner = at.session.begin_nested()
        rename(at.session, at, "zoe")
        inner.rollback()


def outer_given_up(at: At) -> None:
    begin(at.session, at)
    outer = at.session.begin_nested()
    with at.session.begin_nested():
        rename(at.session, at)
    outer.rollback()


def core_savepoint(at: At) -> None:
    connection = at.connection()
    connection.exec_driver_sql("UPDATE thing SET name = 'x'")
    with connection.begin_nested():
        connection.exec_driver_sql(UPDATE)


def committed_before_more(at: At) -> None:
    rename(at.session, at)
    at.session.commit()
    rename(at.session, at, "zoe")
    at.session.rollback()


def rolled_back_before_more(at: At) -> None:
    rename(at.session, at, "zoe")
    at.session.rollback()
    put(at.bob, name="rob")


def of_two_databases(at: At) -> None:
    put(at.ann, name="anne")
    put(at.row("Note", 1), text="new")


def joined(mode: Any, outer_end: str) -> Callable[[At], None]:
    """A session commits inside a transaction of somebody else's, who ends it."""

    def write(at: At) -> None:
        connection = at.connection()
        outer = connection.begin()
        connection.exec_driver_sql("UPDATE thing SET name = 'x'")
        with Session(connection, join_transaction_mode=mode) as session:
            rename(session, at)
            session.commit()
        if outer.is_active:
            getattr(outer, outer_end)()

    return write


def in_two_phases(at: At) -> None:
    rename(own_session(at, twophase=True), at)


def prepared(end: str) -> Callable[[At], None]:
    """A session prepares, then commits or rolls back."""

    def write(at: At) -> None:
        session = own_session(at, twophase=True)
        rename(session, at)
        session.prepare()
        getattr(session, end)()

    return write


def core_in_two_phases(end: str) -> Callable[[At], None]:
    def write(at: At) -> None:
        transaction = (connection := at.connection()).begin_twophase()
        connection.exec_driver_sql(UPDATE)
        transaction.prepare()
        getattr(transaction, end)()

    return write


def prepared_and_committed_by(act: Callable[[At, str], Any]) -> Callable[[At], None]:
    """Prepared by one connection, which is closed, and committed by another."""

    def write(at: At) -> None:
        xid = f"w{uuid4().hex}"
        with at.site.engine().connect() as connection:
            connection.exec_driver_sql(UPDATE)
            connection.exec_driver_sql(f"PREPARE TRANSACTION '{xid}'")
        act(at, xid)

    return write


def by_the_recipe(at: At) -> Session:
    """A session whose engine begins transactions as SQLAlchemy's documentation has it."""
    engine = at.site.engine(key="recipe")
    if not sa.event.contains(engine, "begin", _begin):
        sa.event.listen(engine, "connect", _leave_alone)
        sa.event.listen(engine, "begin", _begin)
        engine.dispose()
    return own_session(at, key="recipe")


def _leave_alone(connection: Any, _record: Any) -> None:
    connection.isolation_level = None


def _begin(connection: sa.Connection) -> None:
    connection.exec_driver_sql("BEGIN")


def savepoint_by_the_recipe(at: At) -> None:
    session = by_the_recipe(at)
    with session.begin_nested():
        rename(session, at)


def of_pep_249(at: At) -> Session:
    """A session whose driver begins by itself, as Python 3.12 can have it."""
    return own_session(at, key="pep 249", connect_args={"autocommit": False})


OF_SESSIONS = {
    "savepoint released": narrow(released),
    "savepoint released first": narrow(released_first, on=(POSTGRES,)),
    "savepoint given up": nothing()(given_up),
    "savepoint given up after a change": Act(given_up_after_a_change, (1,), (2,)),
    "refused in a savepoint, then changed": narrow(refused_then_changed),
    "savepoints released": narrow(released_twice),
    "savepoints, the inner given up": narrow(inner_given_up),
    "savepoints, the outer given up": nothing()(outer_given_up),
    "savepoint of a connection": wide(core_savepoint),
    "committed before more": narrow(committed_before_more, ends=True),
    "rolled back before more": Act(rolled_back_before_more, (2,)),
    "two databases": wide(of_two_databases),
    "joined, with a savepoint": narrow(joined("create_savepoint", "commit"), ends=True),
    "joined, in control": narrow(joined("control_fully", "commit"), ends=True),
    "joined, only rolling back": narrow(joined("rollback_only", "commit"), ends=True),
    "joined, all rolled back": nothing(ends=True)(joined("create_savepoint", "rollback")),
    "recipe for SQLite": narrow(lambda at: rename(by_the_recipe(at), at), on=(SQLITE,)),
    "recipe for SQLite, savepoint": narrow(savepoint_by_the_recipe, on=(SQLITE,)),
}  # fmt: skip
if sys.version_info >= (3, 12):
    OF_SESSIONS["driver that begins"] = narrow(lambda at: rename(of_pep_249(at), at), on=(SQLITE,))

IN_TWO_PHASES = {
    "two phases": narrow(in_two_phases, on=(POSTGRES,)),
    "two phases, prepared": narrow(prepared("commit"), on=(POSTGRES,), ends=True),
    "two phases, given up": nothing(on=(POSTGRES,), ends=True)(prepared("rollback")),
    "two phases of a connection": wide(core_in_two_phases("commit"), on=(POSTGRES,), ends=True),
    "two phases of a connection, given up": Act(
        core_in_two_phases("rollback"), (), EVERYBODY, on=(POSTGRES,), ends=True
    ),
    "two phases, by text": wide(
        prepared_and_committed_by(
            lambda at, xid: at.connection(**AUTOCOMMIT).exec_driver_sql(f"COMMIT PREPARED '{xid}'")
        ), on=(POSTGRES,), ends=True
    ),
    "two phases, recovered": wide(
        prepared_and_committed_by(
            lambda at, xid: at.connection().commit_prepared(xid, recover=True)
        ), on=(POSTGRES,), ends=True
    ),
    "two phases, recovered by who writes nothing": wide(
        prepared_and_committed_by(
            lambda at, xid: at.connection("recovery").commit_prepared(xid, recover=True)
        ), on=(POSTGRES,), ends=True
    ),
}  # fmt: skip

ENDINGS: dict[str, Act] = OF_SESSIONS | IN_TWO_PHASES
