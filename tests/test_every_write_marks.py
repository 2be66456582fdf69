"""While a change is becoming visible nobody concerned is answered from memory; and when that has
failed, everybody is again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
import sqlalchemy as sa
from every_write_acts import BOTH, POSTGRES, SQLITE, At, acting, own_session, put
from every_write_endings import AUTOCOMMIT, rename
from every_write_holding import COMMIT, COMMIT_PREPARED, Gate, When, holding_engine
from every_write_site import MEMBERS, SiteOf, WriteSite
from every_write_texts import UPDATE
from rows_site import Background
from sqlalchemy.orm import Session
from waiting import PATIENCE

pytest_plugins = ["every_write_sites", "postgres"]


@dataclass(frozen=True)
class Visible:
    """What makes a change of ann visible: the call or the statement it stops at. Others are
    remembered meanwhile if it is *narrow*."""

    write: Callable[[sa.Engine, At], Any]
    stops_at: str
    is_narrow: bool = True
    on: tuple[str, ...] = BOTH
    options: tuple[tuple[str, Any], ...] = ()


def commit_flush(engine: sa.Engine, at: At) -> None:
    with Session(engine) as session:
        rename(session, at)
        session.commit()


def commit_statement(engine: sa.Engine, _at: At) -> None:
    with engine.begin() as connection:
        connection.exec_driver_sql(UPDATE)


def commit_by_text(engine: sa.Engine, at: At) -> None:
    with Session(engine) as session:
        rename(session, at)
        session.execute(sa.text("COMMIT"))


def commit_prepared(engine: sa.Engine, at: At) -> None:
    with Session(engine, twophase=True) as session:
        rename(session, at)
        session.commit()


def flush_at_once(engine: sa.Engine, at: At) -> None:
    with Session(engine) as session:
        rename(session, at)


def send_at_once(statement: str) -> Callable[[sa.Engine, At], None]:
    def write(engine: sa.Engine, _at: At) -> None:
        with engine.connect() as connection:
            connection.exec_driver_sql(statement)

    return write


AT_ONCE = (("isolation_level", "AUTOCOMMIT"),)
VISIBLE = {
    "COMMIT of a flush": Visible(commit_flush, COMMIT),
    "COMMIT of a statement": Visible(commit_statement, COMMIT, is_narrow=False),
    "COMMIT as text": Visible(commit_by_text, COMMIT),
    "COMMIT PREPARED": Visible(commit_prepared, COMMIT_PREPARED, on=(POSTGRES,)),
    "AUTOCOMMIT": Visible(send_at_once(UPDATE), "UPDATE", is_narrow=False, options=AT_ONCE),
    "AUTOCOMMIT, flushed": Visible(flush_at_once, "UPDATE", is_narrow=False, options=AT_ONCE),
}


@contextmanager
def held(site: WriteSite, act: Visible, when: When) -> Iterator[Background]:
    """The write in a thread of its own, that stops in the middle as long as the block lasts."""
    gate = Gate(act.stops_at, when)
    engine = holding_engine(site, gate, **dict(act.options))
    at = At(site)
    site.soil(*MEMBERS)
    writer = Background(lambda: act.write(engine, at))
    try:
        assert gate.reached.wait(PATIENCE), "nobody comes to the gate"
        yield writer
    finally:
        gate.open()
        assert writer.result is None
        engine.dispose()


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize(
    ("kind", "name"), [(kind, name) for name, act in VISIBLE.items() for kind in act.on]
)
def test_who_is_concerned_is_asked_for_while_a_change_becomes_visible(
    site_of: SiteOf, kind: str, name: str, when: When
) -> None:
    site, act = site_of(kind), VISIBLE[name]
    site.full.warm()
    with held(site, act, when):
        for _ in range(2):  # what is loaded meanwhile is not remembered
            read, truth = site.full.read(1), site.alone.read(1).answer
            assert read.answer == truth
            assert read.loads == 1
            assert truth["user"]["name"] == ("ann" if when == "before" else "anne")
        bob = site.full.read(2)
        assert bob.answer == site.alone.read(2).answer
        assert bob.is_hit or not act.is_narrow
    ann = site.full.read(1)
    assert ann.answer["user"]["name"] == "anne"
    assert ann.loads == 1
    assert all(site.full.read(member).is_hit for member in MEMBERS if act.is_narrow or member == 1)


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("kind", BOTH)
def test_what_nobodys_page_is_made_of_may_become_visible_meanwhile(
    site_of: SiteOf, kind: str, when: When
) -> None:
    site = site_of(kind)
    site.full.warm()
    thing = send_at_once("UPDATE thing SET name = 'x'")
    with held(site, Visible(thing, "UPDATE", options=AT_ONCE), when):
        assert all(site.full.read(member).is_hit for member in MEMBERS)


def insert_twice(at: At) -> None:
    at.connection(**AUTOCOMMIT).execute(
        sa.insert(at.m.Member.__table__).values(id=1, uid="u9", kind="member", settings={})
    )


def take_anothers(at: At) -> None:
    at.connection(**AUTOCOMMIT).exec_driver_sql("UPDATE member SET uid = 'u2' WHERE id = 1")


def misspell(at: At) -> None:
    at.connection(**AUTOCOMMIT).exec_driver_sql("UPDATE member SET nmae = 'anne'")


def flush_half(at: At) -> None:
    """The first row is committed, the second is refused."""
    session = own_session(at, **AUTOCOMMIT)
    put(session.get(at.m.Member, 1), name="anne")
    session.add(at.m.Profile(id=1, member_id=2))
    session.flush()


def refer_to_nothing(at: At) -> None:
    """What COMMIT itself refuses."""
    connection = at.connection()
    connection.exec_driver_sql("UPDATE thing SET name = 'x'")
    deferred = (
        "PRAGMA defer_foreign_keys=ON" if at.site.is_sqlite else "SET CONSTRAINTS ALL DEFERRED"
    )
    connection.exec_driver_sql(deferred)
    connection.exec_driver_sql("UPDATE member SET team_id = 99 WHERE id = 1")
    connection.commit()


REFUSED: dict[str, Callable[[At], None]] = {
    "insert": insert_twice,
    "update": take_anothers,
    "misspelt": misspell,
    "flush": flush_half,
    "COMMIT": refer_to_nothing,
}


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("kind", BOTH)
def test_a_write_that_the_database_refused_leaves_nobody_waiting(
    site_of: SiteOf, kind: str, name: str
) -> None:
    site = site_of(kind)
    site.full.warm()
    with acting(site) as at:
        with pytest.raises(sa.exc.DBAPIError):
            REFUSED[name](at)
        at.roll_back()
    for member in MEMBERS:
        assert site.full.read(member).answer == site.alone.read(member).answer
        assert site.full.read(member).is_hit, "it waits for the change to be settled"


def test_what_a_refused_commit_left_open_is_seen_when_it_is_committed_at_last(
    site_of: SiteOf,
) -> None:
    """SQLite keeps the transaction, and SQLAlchemy sends no ROLLBACK after a COMMIT."""
    site = site_of(SQLITE)
    with acting(site) as at:
        connection = at.connection()
        connection.exec_driver_sql(UPDATE)
        connection.exec_driver_sql("PRAGMA defer_foreign_keys=ON")
        connection.exec_driver_sql("INSERT INTO profile VALUES (7, 99, 'of nobody')")
        with pytest.raises(sa.exc.IntegrityError):
            connection.commit()
        connection.rollback()
        site.small.warm()
        connection.exec_driver_sql("DELETE FROM profile WHERE id = 7")
        connection.commit()
    assert site.alone.read(1).answer["user"]["name"] == "anne"
    assert site.small.read(1).answer["user"]["name"] == "anne"
