"""Changes that would be told to nobody, or marks that would never come down, if a listener of the
application, a driver or SQLAlchemy itself did what it may."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextvars import Context
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from flask_login import current_user
from odd_site import MakeOddSite, OddSite, odd_sites_in
from rows_site import ANN, ANNE, MakeSite, Modules, RowsSite, name, needs, sites_in
from sqlalchemy.orm.attributes import flag_dirty

from wsgi_usercache import UserCache

UPDATE = "UPDATE member SET name = 'anne' WHERE id = 1"
AT_ONCE = {"isolation_level": "AUTOCOMMIT"}


@pytest.fixture
def make(tmp_path: Path) -> Iterator[MakeSite]:
    with sites_in(tmp_path) as make_site:
        yield make_site


@pytest.fixture
def site(make: MakeSite) -> RowsSite:
    return make()


@pytest.fixture
def make_odd(tmp_path: Path, make_cache: Callable[..., UserCache]) -> Iterator[MakeOddSite]:
    with odd_sites_in(tmp_path, make_cache) as make_site:
        yield make_site


def with_level(site: OddSite) -> Any:
    """Users with a number that statements count up."""
    column = site.db.Column
    columns = {key: column(site.db.Integer, default=1) for key in ("level", "seen")}
    User = site.user_class(**columns)
    site.fill(User(name="ann"), User(name="bob"))
    site.look = lambda: f"{current_user.name} {current_user.level} {current_user.seen}"
    return User


def test_a_column_set_to_an_expression_is_told_beside_other_changes(make_odd: MakeOddSite) -> None:
    site = make_odd()
    User = with_level(site)
    client = site.warm("2")
    with site.app.app_context():
        ann, bob = (site.db.session.get(User, number) for number in (1, 2))
        ann.name, bob.level = "anne", User.level + 1
        site.db.session.commit()
    assert client.get("/").text == "bob 2 1"


def test_a_column_set_to_an_expression_is_told_beside_a_volatile_one(
    make_odd: MakeOddSite,
) -> None:
    site = make_odd(volatile=["User.seen"])
    User = with_level(site)
    client = site.warm()
    site.change(User, 1, seen=5, level=User.level + 1)
    assert client.get("/").text == "ann 2 5"


def test_an_expression_that_a_listener_sets_is_told(make_odd: MakeOddSite) -> None:
    site = make_odd()
    User = with_level(site)
    client = site.warm("2")

    def count_up(_mapper: Any, _connection: Any, target: Any) -> None:
        target.level = User.level + 1

    sa.event.listen(User, "before_update", count_up)
    with site.app.app_context():
        ann, bob = (site.db.session.get(User, number) for number in (1, 2))
        ann.name = "anne"
        flag_dirty(bob)  # nothing of it is changed but by the listener
        site.db.session.commit()
    assert client.get("/").text == "bob 2 1"


def test_a_bulk_operation_after_a_flush_that_never_came_is_told(site: RowsSite) -> None:
    client, m = site.warm(), site.modules

    def refuse(*_: Any) -> None:
        raise ValueError("of the application's own")

    with site.app.app_context():
        session = m.db.session()
        sa.event.listen(session, "before_flush", refuse)
        session.get(m.User, 1).name = "anna"
        with pytest.raises(ValueError, match="own"):
            session.flush()
        sa.event.remove(session, "before_flush", refuse)
        session.rollback()
        session.bulk_update_mappings(m.User, [{"id": 1, "name": "anne"}])
        session.commit()
    assert site.run(client) == ANNE


def test_a_user_put_in_the_place_of_another_takes_his_log_in_id_with_it(
    make_odd: MakeOddSite,
) -> None:
    """Deleted and added under one key in one flush, SQLAlchemy sends an UPDATE and says INSERT."""
    site = make_odd()
    User = site.user_class(get_id=lambda user: user.name)
    site.fill(User(name="ann"), User(name="bob"))

    @site.manager.user_loader
    def load(name: str) -> Any:
        return site.db.session.scalars(sa.select(User).filter_by(name=name)).one_or_none()

    client, other = site.warm("ann"), site.client("anne")
    assert other.get("/").text == "nobody"
    with site.app.app_context():
        site.db.session.delete(site.db.session.get(User, 1))
        site.db.session.add(User(id=1, name="anne"))
        site.db.session.commit()
    assert client.get("/").text == "nobody"
    assert other.get("/").text == "anne"


UNASKED = {
    "WITH": [f"WITH t AS (SELECT 1) {UPDATE}"],
    "a savepoint released": ["SAVEPOINT one", UPDATE, "RELEASE one"],
}


@pytest.mark.parametrize("how", UNASKED)
def test_what_the_driver_commits_unasked_is_told_at_once(site: RowsSite, how: str) -> None:
    """Python's driver for SQLite sends its BEGIN before neither of them."""
    client = site.warm()
    with site.engine.connect() as connection:
        for statement in UNASKED[how]:
            connection.exec_driver_sql(statement)
        with site.engine.connect() as other:
            written = other.exec_driver_sql("SELECT name FROM member WHERE id = 1").scalar()
        assert written == "anne"
        assert Context().run(site.run, client) == ANNE
        assert not Context().run(site.spent, client)


RETURNING = {
    "textual": lambda m: sa.text(f"{UPDATE} RETURNING id"),
    "of a table": lambda m: (
        sa.update(m.User.__table__).where(m.User.id == 1).values(name="anne").returning(m.User.id)
    ),
}


@pytest.mark.parametrize("how", RETURNING)
def test_rows_returned_at_once_are_told_though_they_are_read_later(
    site: RowsSite, how: str
) -> None:
    """SQLite commits when the last of them is read."""
    client = site.warm()
    with site.engine.connect().execution_options(**AT_ONCE) as connection:
        returned = connection.execute(RETURNING[how](site.modules))
        Context().run(site.run, client)
        returned.all()
        assert site.run(client) == ANNE


def test_a_statement_that_a_hook_sends_is_told(site: RowsSite) -> None:
    client = site.warm()

    def send(cursor: Any, statement: str, parameters: Any, _context: Any) -> bool:
        cursor.execute(statement, parameters)
        return True

    sa.event.listen(site.engine, "do_execute", send)
    with site.engine.connect().execution_options(**AT_ONCE) as connection:
        connection.execute(sa.update(site.modules.User).values(name="anne"))
    assert site.run(client) == ANNE


def test_a_listener_that_raises_before_a_flushed_statement_leaves_no_mark(site: RowsSite) -> None:
    client, m = site.warm(), site.modules

    def refuse(*event: Any) -> None:
        if event[2].startswith("UPDATE"):
            raise ValueError("of the application's own")

    sa.event.listen(site.engine, "before_cursor_execute", refuse)
    with site.app.app_context():
        m.db.session.connection(execution_options=AT_ONCE)
        m.db.session.get(m.User, 1).name = "anne"
        with pytest.raises(ValueError, match="own"):
            m.db.session.flush()
        m.db.session.rollback()
        m.db.session.execute(sa.select(m.Role)).all()
    site.run(client)
    assert not site.spent(client)
    assert site.run(client) == ANN


def test_a_connection_closed_at_its_commit_leaves_marks_only_until_they_are_settled(
    site: RowsSite, time_of_changes: Any
) -> None:
    client = site.warm()
    connection = site.engine.connect()
    connection.execute(
        sa.update(site.modules.User).where(site.modules.User.id == 1).values(name="x")
    )
    connection.connection.driver_connection.close()  # type: ignore[union-attr]
    with pytest.raises(sa.exc.ProgrammingError):
        connection.commit()
    connection.invalidate()
    connection.close()
    time_of_changes.now += 60.0
    site.run(client)
    assert not site.spent(client)


def test_a_dialect_that_can_not_tell_its_isolation_level_is_not_relied_on(
    make: MakeSite, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    site = make()
    client = site.client()

    def unknown(_driver: Any) -> str:
        raise NotImplementedError

    monkeypatch.setattr(site.engine.dialect, "name", "another")
    monkeypatch.setattr(site.engine.dialect, "get_isolation_level", unknown)
    site.first = lambda: site.modules.db.session.get(site.modules.Role, 2)
    assert [site.run(client), site.run(client)] == [ANN, ANN]
    assert site.stats.unstored["in a transaction"] >= 2
    assert any("READ COMMITTED" in each.getMessage() for each in caplog.records)


def begun_by_hand(site: RowsSite) -> None:
    """SQLAlchemy's recipe for SQLite: the driver sends no BEGIN, a listener does."""

    def connected(driver: Any, _record: Any) -> None:
        driver.isolation_level = None

    sa.event.listen(site.engine, "connect", connected)
    sa.event.listen(site.engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN"))
    site.engine.dispose()


def test_a_begin_of_ones_own_keeps_users_from_nothing(make: MakeSite) -> None:
    site = make()
    begun_by_hand(site)
    client = site.client()
    site.run(client)
    assert not site.spent(client)
    with site.elsewhere() as db:
        db.session.get(db.User, 1).name = "anne"
    assert site.run(client) == ANNE
    assert site.engine.pool.checkedout() == 0  # type: ignore[attr-defined]


def test_a_hit_in_an_older_snapshot_makes_no_needs_of_its_rows(make: MakeSite) -> None:
    """The snapshot is taken, the role renamed, and only then the user thawed, his roles read."""
    site = make(Modules(), excluded_paths=["/act/*"])  # no handler runs unless it is asked for
    begun_by_hand(site)
    with site.engine.connect() as connection:
        connection.exec_driver_sql("COMMIT")
        connection.exec_driver_sql("PRAGMA journal_mode=WAL")
    client, m = site.client(), site.modules
    assert [site.run(client, name), site.run(client, name)] == ["ann", "ann"]

    def rename_role() -> None:
        with site.elsewhere() as db:
            db.session.get(db.Role, 1).name = "nobody"

    def first() -> None:
        m.db.session.execute(sa.text("SELECT count(*) FROM role")).all()
        Context().run(rename_role)
        assert [role.name for role in current_user.roles] == ["reader"]

    site.first = first
    assert site.run(client, needs) == {"reader"}  # as without the cache
    site.first = lambda: None
    assert site.run(client, needs) == {"nobody"}
