"""What did a run read, may it be remembered, and is its connection given back?"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session, joinedload, selectinload
from sqlalchemy_site import Site


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = Site(f"sqlite:///{tmp_path}/a.db")
    yield site
    site.close()


def select(site: Site, *options: Any) -> Any:
    return sa.select(site.User).where(site.User.id == 1).options(*options)


NARROW = {
    "get": (lambda s, site: s.get(site.User, 1), {"user"}),
    "query": (lambda s, site: site.User.query.filter_by(name="ann").first(), {"user"}),
    "select": (lambda s, site: s.scalars(select(site)).one(), {"user"}),
    "joined": (
        lambda s, site: s.scalars(select(site, joinedload(site.User.roles))).unique().one(),
        {"user", "user_roles", "role"},
    ),
    "selectin": (
        lambda s, site: s.scalars(select(site, selectinload(site.User.roles))).one(),
        {"user", "user_roles", "role"},
    ),
    "lazy": (
        lambda s, site: (s.get(site.User, 1), s.get(site.User, 1).roles)[0],
        {"user", "user_roles", "role"},
    ),
    "lazy twice": (
        lambda s, site: (s.get(site.User, 1), s.get(site.User, 1).roles[0].abilities)[0],
        {"user", "user_roles", "role", "role_abilities", "ability"},
    ),
    "another class": (
        lambda s, site: (s.get(site.User, 1), s.scalars(sa.select(site.Team)).all())[0],
        {"user", "team"},
    ),
}

WIDE = {
    "other users": lambda s, site: (site.User.query.all(), s.get(site.User, 1))[1],
    "users of a role": lambda s, site: (s.get(site.Role, 1).users, s.get(site.User, 1))[1],
    "members of a team": lambda s, site: (s.get(site.Team, 1).members, s.get(site.User, 1))[1],
    "members come along": lambda s, site: (
        s.get(site.Team, 1, options=[joinedload(site.Team.members)]),
        s.get(site.User, 1),
    )[1],
    "core": lambda s, site: (s.execute(sa.select(site.user_roles)).all(), s.get(site.User, 1))[1],
    "columns": lambda s, site: (s.execute(sa.select(site.User.id)).all(), s.get(site.User, 1))[1],
    "join": lambda s, site: s.scalars(
        sa.select(site.User).join(site.User.roles).where(site.Role.name == "writer")
    ).one(),
    "exists": lambda s, site: s.scalars(
        sa.select(site.User).where(site.User.roles.any(name="writer"))
    ).one(),
    "alias": lambda s, site: (
        s.scalars(sa.select(sa.orm.aliased(site.Role))).all(),
        s.get(site.User, 1),
    )[1],
}


@pytest.mark.parametrize("how", NARROW)
def test_what_only_this_user_can_change_is_narrow(site: Site, how: str) -> None:
    load, tables = NARROW[how]
    with site.request() as session, site.rows.run() as run:
        user = load(session, site)
        assert run.refusal is None
        assert run.names(user) == {f"table:{table}" for table in tables}


@pytest.mark.parametrize("how", WIDE)
def test_what_other_users_can_change_is_wide(site: Site, how: str) -> None:
    with site.request() as session, site.rows.run() as run:
        user = WIDE[how](session, site)
        assert user.id == 1
        assert run.refusal is None
        names = run.names(user)
    assert "rows:user" in names
    assert not any(name.startswith("table:") for name in names)


def test_a_column_that_counts_other_users_is_wide(site: Site) -> None:
    other = sa.orm.aliased(site.User.__table__)
    site.User.users = sa.orm.column_property(
        sa.select(sa.func.count(other.c.id)).scalar_subquery()
    )
    with site.request() as session, site.rows.run() as run:
        user = session.get(site.User, 1)
        assert user.users == 2
        assert run.names(user) == {"rows:user"}


def test_all_that_can_be_read_is_known_before(site: Site) -> None:
    known = site.rows.known()
    assert {"table:user", "rows:user", "table:role_abilities"} <= known
    assert site.rows.known() is known


def test_a_run_rests_on_what_hangs_loaded_on_the_user_whoever_loaded_it(site: Site) -> None:
    with site.request() as session:
        user = session.get(site.User, 1)
        assert user.posts == []
        with site.rows.run() as run:
            assert run.names(user) >= {"table:post"}


def other_metadata(session: Session, site: Site) -> None:
    table = sa.Table("elsewhere", sa.MetaData(), sa.Column("id", sa.Integer))
    session.execute(sa.select(site.User).where(site.User.id == table.c.id)).all()


REFUSED = {
    "writes": lambda s, site: s.execute(sa.update(site.User).values(name="x")),
    "textual SQL": lambda s, site: s.execute(sa.text("SELECT * FROM user")),
    "new table": other_metadata,
    "schema_translate_map": lambda s, site: s.connection(
        execution_options={"schema_translate_map": {"x": "y"}}
    ).execute(sa.select(site.User)),
}


@pytest.mark.parametrize("reason", REFUSED)
def test_a_run_says_why_it_can_not_be_remembered(site: Site, reason: str) -> None:
    with site.engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE elsewhere (id INTEGER)")
    with site.request() as session, site.rows.run() as run:
        REFUSED[reason](session, site)
        assert run.refusal == reason


@pytest.mark.parametrize(
    "sql",
    [
        sa.text("SELECT * FROM user"),
        sa.select(sa.func.random()),
        sa.select(sa.literal(1)),
    ],
)
def test_what_names_no_table_is_textual(site: Site, sql: Any) -> None:
    with site.request() as session, site.rows.run() as run:
        session.execute(sql)
        assert run.refusal == "textual SQL"


def test_a_session_with_info_is_refused(site: Site) -> None:
    with site.request() as session, site.rows.run() as run:
        session.info["tenant"] = 1
        session.get(site.User, 1)
        assert run.refusal == "session.info"


def test_a_flush_is_refused_and_not_closed(site: Site) -> None:
    with site.request() as session:
        session.add(site.Team(id=7, name="new"))
        with site.rows.run() as run:
            session.get(site.User, 1)  # a flush comes before a query, not before a get
            assert session.scalars(select(site)).one().id == 1
            assert run.refusal == "writes"
            run.close()
        session.commit()
        assert session.get(site.Team, 7) is not None


def test_what_began_before_the_run_is_not_closed(site: Site) -> None:
    with site.request() as session:
        session.get(site.Team, 1)
        with site.rows.run() as run:
            session.get(site.User, 1)
            assert run.refusal is None  # SQLite, without BEGIN: each statement stands alone
            run.close()
        assert site.engine.pool.checkedout() == 1


def rename_team(site: Site) -> None:
    with site.engine.begin() as connection:
        connection.execute(sa.update(site.Team).values(name="renamed"))


DOUBTFUL = {
    "in a transaction": lambda s, site: s.connection().exec_driver_sql("BEGIN"),
    "written in the transaction": lambda s, site: s.execute(sa.delete(site.Post)),
    "reads uncommitted": lambda s, site: s.connection(
        execution_options={"isolation_level": "READ UNCOMMITTED"}
    ),
    "identity map": lambda s, site: (s.get(site.Team, 1), rename_team(site))[0],
}


@pytest.mark.parametrize("reason", DOUBTFUL)
def test_what_may_be_older_or_newer_than_what_is_committed_is_refused(
    site: Site, reason: str
) -> None:
    with site.request() as session:
        held = DOUBTFUL[reason](session, site)
        with site.rows.run() as run:
            session.get(site.User, 1)
            assert run.refusal == reason
        del held


def test_the_connection_the_loader_took_is_given_back(site: Site) -> None:
    events: list[str] = []
    with site.request() as session:
        for name in ("after_commit", "after_rollback", "after_soft_rollback"):
            sa.event.listen(session, name, lambda *_, name=name: events.append(name))
        with site.rows.run() as run:
            user = session.get(site.User, 1)
            assert site.engine.pool.checkedout() == 1
            assert site.rows.holds_connection()
            run.close()
        assert site.engine.pool.checkedout() == 0
        assert not site.rows.holds_connection()
        assert events == []
        assert not sa.inspect(user).expired_attributes
        with session.begin():
            user.name = "anne"
        assert session.get(site.User, 1).name == "anne"


def test_a_pending_object_is_not_lost(site: Site) -> None:
    with site.request() as session:
        session.add(site.Team(id=7, name="new"))
        with site.rows.run() as run, session.no_autoflush:
            session.get(site.User, 1)
            assert run.refusal is None
            run.close()
            assert session.in_transaction()
        session.commit()
        assert session.get(site.Team, 7) is not None


def test_a_transaction_the_application_began_is_its_own_to_end(site: Site) -> None:
    with site.request() as session:
        with session.begin():
            with site.rows.run() as run:
                session.get(site.User, 1)
                assert run.refusal is None
                run.close()
            assert session.in_transaction()
            session.add(site.Team(id=7, name="new"))
        assert session.get(site.Team, 7) is not None


def test_a_savepoint_is_not_closed(site: Site) -> None:
    with site.request() as session:
        with session.begin_nested():
            with site.rows.run() as run:
                session.get(site.User, 1)
                run.close()
            session.add(site.Team(id=7, name="new"))
        session.commit()
        assert session.get(site.Team, 7) is not None


def test_a_select_that_may_do_more_is_not_undone(site: Site) -> None:
    with site.request() as session, site.rows.run() as run:
        session.execute(sa.text("SELECT abs(1)"))
        run.close()
        assert session.in_transaction()


def test_a_session_on_somebody_elses_connection_is_left_alone(site: Site) -> None:
    with site.engine.connect() as connection:
        outer = connection.begin()
        session = Session(connection, join_transaction_mode="control_fully")
        with site.rows.run() as run:
            session.get(site.User, 1)
            run.close()
        assert outer.is_active
        session.close()


def test_runs_nest_and_statements_belong_to_the_innermost(site: Site) -> None:
    with site.request() as session, site.rows.run() as outer:
        user = session.get(site.User, 1)
        with site.rows.run() as inner:
            session.get(site.Team, 1)
            assert inner.refusal is None
        assert outer.names(user) == {"table:user"}
        session.get(site.Role, 1)
        assert outer.refusal is None
        assert outer.names(user) == {"table:user", "table:role"}


def test_a_connection_given_back_by_another_thread_is_held_no_longer(site: Site) -> None:
    connection = site.engine.connect()
    assert site.rows.holds_connection()
    seen = []

    def other() -> None:
        seen.append(site.rows.holds_connection())
        connection.close()

    thread = threading.Thread(target=other)
    thread.start()
    thread.join()
    assert seen == [False]
    assert not site.rows.holds_connection()


def test_a_connection_taken_out_of_the_pool_for_good_is_not_held(site: Site) -> None:
    with site.engine.connect() as connection:
        connection.detach()
        assert not site.rows.holds_connection()


def test_a_connection_replaced_at_check_out_is_counted_once(site: Site) -> None:
    with site.engine.connect():
        pass
    failures = [1]

    @sa.event.listens_for(site.engine, "checkout")
    def ping(*_: object) -> None:
        if failures:
            failures.pop()
            raise sa.exc.DisconnectionError

    with site.engine.connect():
        assert site.rows.holds_connection()
    assert not site.rows.holds_connection()


def test_one_connection_shared_by_all_is_not_held_for_ever() -> None:
    engine = sa.create_engine("sqlite://", poolclass=sa.StaticPool)
    site = Site("sqlite://")
    with engine.connect(), engine.connect():
        assert site.rows.holds_connection()
    assert not site.rows.holds_connection()
    engine.dispose()
    site.close()
