"""Users looked up in a transaction that was open before: after a tenant, after the session."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextvars import Context
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from flask.testing import FlaskClient
from flask_login import current_user
from flask_principal import RoleNeed, identity_loaded
from flask_session import Session as FlaskSession
from rows_site import ANN, ANNE, MakeSite, RowsSite, needs, rename, sites_in, who

pytest_plugins = ["postgres"]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[MakeSite]:
    with sites_in(tmp_path) as make_site:
        yield make_site


@pytest.fixture(params=["SQLite", "PostgreSQL"])
def by_default(request: pytest.FixtureRequest) -> Any:
    """A database that does what it does by default."""
    return None if request.param == "SQLite" else request.getfixturevalue("database")


def tenant(site: RowsSite) -> Any:
    return site.modules.db.session.get(site.modules.Role, 2)


def unstored(site: RowsSite, client: FlaskClient, look: Callable[[], Any] = who) -> dict[str, int]:
    """Why what a request loads is not kept."""
    before = dict(site.stats.unstored)
    site.run(client, look)
    after = site.stats.unstored
    return {why: n - before.get(why, 0) for why, n in after.items() if n != before.get(why, 0)}


@pytest.mark.parametrize("is_kept", [False, True])
def test_a_user_loaded_after_a_tenant_is_kept(
    make: MakeSite, by_default: Any, is_kept: bool
) -> None:
    site = make(database=by_default)
    kept: list[Any] = []
    site.first = lambda: kept.append(tenant(site)) if is_kept else tenant(site)
    client = site.client()
    for to in ("anne", "anna", "anni"):
        rename(site, to=to)
        assert site.run(client) == {**ANN, "name": to}
        kept.clear()
        assert site.spent(client).statements == (site.statements[-1],)  # the tenant's own
        assert "FROM role" in site.statements[-1]


def test_a_connection_taken_before_is_not_given_back(make: MakeSite, by_default: Any) -> None:
    site = make(database=by_default)
    client, pool = site.client(), site.engine.pool
    site.first = lambda: tenant(site)

    def act() -> int:
        assert current_user.name == "ann"
        return pool.checkedout()  # type: ignore[attr-defined]

    assert site.run(client, act) == 1
    assert pool.checkedout() == 0  # type: ignore[attr-defined]


def test_sessions_in_the_database_are_no_reason_to_load(make: MakeSite, by_default: Any) -> None:
    site = make(database=by_default)
    site.app.config.update(SESSION_TYPE="sqlalchemy", SESSION_SQLALCHEMY=site.modules.db)
    FlaskSession(site.app)
    clients = [site.client(), site.client(), site.client(2)]
    for client in clients:
        site.run(client)
    for client in clients:
        spent = site.spent(client)
        assert (spent.loads, spent.signals) == (0, 0)
        assert all("sessions" in statement for statement in spent.statements)
    rename(site)
    assert site.run(clients[0]) == ANNE
    assert site.run(clients[1]) == ANNE


def in_the_engine(site: RowsSite) -> None:
    site.engine.update_execution_options(isolation_level="REPEATABLE READ")


def in_the_session(site: RowsSite) -> None:
    session = site.modules.db.session
    site.first = lambda: session.connection(execution_options={"isolation_level": "SERIALIZABLE"})


def in_the_transaction(site: RowsSite) -> None:
    text = sa.text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
    site.first = lambda: site.modules.db.session.execute(text)


def in_each_connection(site: RowsSite) -> None:
    def connected(driver: Any, _record: Any) -> None:
        driver.execute("SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL SERIALIZABLE")
        driver.commit()

    sa.event.listen(site.engine, "connect", connected)
    site.engine.dispose()


def in_the_database(site: RowsSite) -> None:
    with site.engine.begin() as connection:
        name = connection.scalar(sa.func.current_database().select())
        connection.exec_driver_sql(
            f"ALTER DATABASE {name} SET default_transaction_isolation = 'repeatable read'"
        )
    site.engine.dispose()


SNAPSHOTS = [
    in_the_engine, in_the_session, in_the_transaction, in_each_connection, in_the_database,
]  # fmt: skip


@pytest.mark.parametrize("set_up", SNAPSHOTS)
def test_what_is_seen_in_an_older_snapshot_is_right_and_not_kept(
    make: MakeSite, database: sa.URL, set_up: Callable[[RowsSite], None]
) -> None:
    site = make(database=database)
    client = site.client()
    set_up(site)
    begin = site.first

    def first() -> None:
        begin()
        tenant(site)
        rename(site)  # the number moves, the snapshot stands

    site.first = first
    assert site.run(client) == ANN
    site.first = lambda: None
    assert site.run(client) == ANNE


@pytest.mark.parametrize("set_up", SNAPSHOTS)
def test_who_is_not_kept_is_told_why(
    make: MakeSite,
    database: sa.URL,
    set_up: Callable[[RowsSite], None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    site = make(database=database)
    client = site.client()
    set_up(site)
    begin = site.first
    site.first = lambda: (begin(), tenant(site))
    assert unstored(site, client)["in a transaction"] >= 1
    assert unstored(site, client)["in a transaction"] >= 1
    told = [each.getMessage() for each in caplog.records if "not cached" in each.getMessage()]
    assert len(told) == 1
    assert "READ COMMITTED" in told[0]


def test_in_a_snapshot_of_its_own_a_user_is_kept(make: MakeSite, database: sa.URL) -> None:
    site = make(database=database, pool={"isolation_level": "REPEATABLE READ"})
    client = site.warm()
    rename(site)
    assert site.run(client) == ANNE
    site.first = lambda: tenant(site)
    assert site.spent(client).loads == 0  # a hit is a hit, whatever is open


def test_a_newer_row_is_seen_though_the_transaction_is_older(
    make: MakeSite, database: sa.URL
) -> None:
    site = make(database=database)
    client = site.client()
    site.first = lambda: (tenant(site), rename(site))
    assert site.run(client) == ANNE
    site.first = lambda: tenant(site)
    assert site.spent(client).loads == 0


def begin(site: RowsSite) -> Any:
    """A snapshot that only BEGIN makes."""
    site.modules.db.session.connection().exec_driver_sql("BEGIN")
    tenant(site)


def read_on(site: RowsSite) -> Any:
    """A cursor that is not read to its end keeps its snapshot for all of its connection."""
    table = site.modules.Role.__table__
    return site.modules.db.session.connection().execute(sa.select(table)).fetchone


@pytest.mark.parametrize("keep", [begin, read_on])
def test_sqlite_keeps_a_snapshot_for_whom_it_is_asked(
    make: MakeSite, keep: Callable[[RowsSite], Any]
) -> None:
    site = make()
    with site.engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA journal_mode=WAL")
    client, kept = site.client(), []

    def first() -> None:
        kept.append(keep(site))
        if kept[-1] is not None:
            kept[-1]()
        rename(site)

    site.first = first
    assert site.run(client) == ANN
    site.first = kept.clear
    assert site.run(client) == ANNE


def test_what_the_transaction_has_written_itself_is_not_kept(
    make: MakeSite, by_default: Any
) -> None:
    site = make(database=by_default)
    client, m = site.client(), site.modules

    def first() -> None:
        m.db.session.execute(sa.update(m.User).where(m.User.id == 1).values(name="anne"))

    site.first = first
    assert site.run(client) == ANNE  # and rolled back with the request
    site.first = lambda: None
    assert site.run(client) == ANN


def test_needs_made_of_a_row_held_before_it_changed_are_not_kept(
    make: MakeSite, by_default: Any
) -> None:
    """The handler reads a row the session holds: no statement tells that it is old."""
    site = make(database=by_default)
    client, m, held = site.client(), site.modules, []

    def identify(_app: Any, identity: Any) -> None:
        identity.provides.add(RoleNeed(m.db.session.get(m.Role, 2).name))

    def first() -> None:
        held.append(tenant(site))
        Context().run(change)

    def change() -> None:
        with site.elsewhere() as db:
            db.session.get(db.Role, 2).name = "renamed"

    identity_loaded.connect(identify, site.app)
    site.first, site.last = first, held.clear
    assert site.run(client, needs) == {"reader", "writer"}
    site.first = lambda: None
    assert site.run(client, needs) == {"reader", "renamed"}
    assert not site.spent(client)
