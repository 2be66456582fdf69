"""Which writes move which names? Each asserts that what must move does, and nothing wider."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session
from sqlalchemy_site import Site

from wsgi_usercache.generations import slot_of

USERS = ("user:1", "user:2", "table:user", "rows:user")
ROLES = ("table:role", "rows:role", "table:user_roles", "rows:user_roles")
ALL = (*USERS, *ROLES, "everybody")


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = Site(f"sqlite:///{tmp_path}/a.db", volatile=["last_seen", "Role.name"])
    yield site
    site.close()


def test_a_changed_user_moves_his_own_name_and_that_of_any_row(site: Site) -> None:
    with site.request() as session, site.moved(*ALL) as moved:
        session.get(site.User, 1).name = "anne"
        session.commit()
    assert moved == {"user:1", "rows:user"}


def test_nothing_moves_before_the_commit(site: Site) -> None:
    with site.request() as session, site.moved(*ALL) as moved:
        session.get(site.User, 1).name = "anne"
        session.flush()
    assert moved == set()


def test_a_rollback_moves_nothing_then_or_later(site: Site) -> None:
    with site.request() as session, site.moved(*ALL) as moved:
        session.get(site.User, 1).name = "anne"
        session.flush()
        assert slot_of("user:1") in site.rows.pending()
        session.rollback()
        assert slot_of("user:1") not in site.rows.pending()
        session.get(site.Team, 1).name = "y"
        session.commit()
    assert moved == set()


def test_a_rollback_on_a_connection_that_is_kept_moves_nothing_later(site: Site) -> None:
    with site.engine.connect() as connection, site.moved(*ALL) as moved:
        connection.execute(sa.update(site.User).values(name="x"))
        connection.rollback()
        connection.execute(sa.update(site.Team).values(name="y"))
        connection.commit()
    assert moved == set()


def test_a_connection_nobody_closed_takes_what_it_wrote_with_it(site: Site) -> None:
    connection = site.engine.connect()
    connection.execute(sa.update(site.User).values(name="x"))
    del connection
    gc.collect()
    with site.engine.connect() as connection, site.moved(*ALL) as moved:
        connection.execute(sa.update(site.Team).values(name="y"))
        connection.commit()
    assert moved == set()


def test_a_connection_given_back_takes_what_was_never_committed_with_it(site: Site) -> None:
    with site.request() as session:
        session.get(site.User, 1).name = "anne"
        session.flush()
    with site.request() as session, site.moved(*ALL) as moved:
        session.get(site.Team, 1).name = "y"
        session.commit()
    assert moved == set()


@pytest.mark.parametrize("change", ["insert", "delete"])
def test_a_user_who_comes_or_goes_moves_his_own_name(site: Site, change: str) -> None:
    with site.request() as session, site.moved("user:7", *ALL) as moved:
        if change == "insert":
            session.add(site.User(id=7, name="eve"))
        else:
            session.delete(session.get(site.User, 1))
        session.commit()
    user = "user:7" if change == "insert" else "user:1"
    assert moved - {"rows:user_roles"} == {user, "rows:user"}


def test_a_new_user_without_an_id_moves_the_one_he_is_given(site: Site) -> None:
    with site.request() as session, site.moved("user:3", *ALL) as moved:
        session.add(site.User(name="eve"))
        session.commit()
    assert moved == {"user:3", "rows:user"}


def test_a_changed_login_id_moves_the_old_one_and_the_new_one(site: Site) -> None:
    with site.request() as session, site.moved("user:9", *ALL) as moved:
        session.get(site.User, 2).id = 9
        session.commit()
    assert moved == {"user:2", "user:9", "rows:user"}


def test_a_login_id_nobody_knows_moves_the_table(site: Site) -> None:
    site.User.get_id = lambda self: f"mail:{self.email}"
    with site.request() as session, site.moved(*ALL) as moved:
        user = session.get(site.User, 1, options=[sa.orm.defer(site.User.email)])
        user.email = "new@example.org"  # the old address was never loaded
        session.commit()
    assert moved == {"table:user", "rows:user"}


@pytest.mark.parametrize("side", ["user", "role"])
@pytest.mark.parametrize("verb", ["append", "remove"])
def test_a_role_granted_or_revoked_from_either_side_moves_the_user(
    site: Site, side: str, verb: str
) -> None:
    with site.request() as session:
        user = session.get(site.User, 1 if verb == "remove" else 2)
        role = session.get(site.Role, 1)
        with site.moved(*ALL) as moved:
            if side == "user":
                getattr(user.roles, verb)(role)
            else:
                getattr(role.users, verb)(user)
            session.commit()
    assert moved == {f"user:{2 if verb == 'append' else 1}", "rows:user_roles"}


def test_a_role_granted_without_a_back_reference_moves_the_user(site: Site) -> None:
    class Group(site.db.Model):
        __table__ = sa.Table("role", site.db.metadata, extend_existing=True)
        people = sa.orm.relationship(site.User, secondary=site.user_roles, overlaps="users,roles")

    with site.request() as session:
        group, user = session.get(Group, 1), session.get(site.User, 2)
        with site.moved(*ALL) as moved:
            group.people.append(user)
            session.commit()
    assert moved == {"user:2", "rows:user_roles"}


def test_a_deleted_role_moves_the_tables_for_everybody_had_it(site: Site) -> None:
    with site.request() as session, site.moved(*ALL) as moved:
        session.delete(session.get(site.Role, 2))
        session.commit()
    assert moved == set(ROLES)


def test_a_renamed_ability_moves_its_table_only(site: Site) -> None:
    with site.request() as session:
        session.add(site.Ability(id=1, name="fly"))
        session.commit()
        with site.moved(*ALL, "table:ability", "rows:ability") as moved:
            session.get(site.Ability, 1).name = "swim"
            session.commit()
    assert moved == {"table:ability", "rows:ability"}


def test_volatile_columns_alone_move_nothing(site: Site) -> None:
    with site.request() as session, site.moved(*ALL) as moved:
        session.get(site.User, 1).last_seen = datetime(2024, 1, 1)
        session.get(site.Role, 1).name = "lector"
        session.commit()
    assert moved == set()


def test_volatile_columns_beside_others_hide_nothing(site: Site) -> None:
    with site.request() as session, site.moved(*ALL) as moved:
        session.get(site.User, 1).last_seen = datetime(2024, 1, 1)
        session.get(site.User, 1).name = "anne"
        session.commit()
    assert moved == {"user:1", "rows:user"}


def test_what_is_volatile_to_one_app_is_not_to_another(site: Site, tmp_path: Path) -> None:
    other = Site(f"sqlite:///{tmp_path}/b.db")
    try:
        with site.request() as session, other.moved(*ALL) as moved:
            session.get(site.User, 1).last_seen = datetime(2024, 1, 1)
            session.commit()
    finally:
        other.close()
    assert moved == {"user:1", "rows:user"}


def test_a_value_changed_in_place_moves_the_user(site: Site) -> None:
    with site.request() as session, site.moved(*ALL) as moved:
        user = session.get(site.User, 1)
        user.settings["b"] = 2
        session.commit()
    assert moved == {"user:1", "rows:user"}


BULK = {
    "orm update": lambda s, site: s.execute(sa.update(site.User).values(name="x")),
    "query update": lambda s, site: s.query(site.User).update({"name": "x"}),
    "bulk mappings": lambda s, site: s.bulk_update_mappings(site.User, [{"id": 1, "name": "x"}]),
    "core": lambda s, site: s.connection().execute(
        sa.update(site.User.__table__).values(name="x")
    ),
    "text": lambda s, site: s.execute(sa.text("/* c */ update \"user\" set name = 'x'")),
    "conflict clause": lambda s, site: s.execute(sa.text("UPDATE OR IGNORE user SET name = 'x'")),
    "driver": lambda s, site: s.connection().exec_driver_sql("UPDATE user SET name = 'x'"),
    "delete": lambda s, site: s.execute(sa.delete(site.User).where(site.User.id == 2)),
    "insert": lambda s, site: s.execute(sa.insert(site.User).values(id=5, name="x")),
}


@pytest.mark.parametrize("bulk", BULK)
def test_what_names_no_user_moves_the_table(site: Site, bulk: str) -> None:
    with site.request() as session, site.moved(*ALL) as moved:
        BULK[bulk](session, site)
        assert slot_of("table:user") in site.rows.pending()
        session.commit()
    assert moved == {"table:user", "rows:user"}


def test_a_table_that_is_only_read_from_does_not_move(site: Site) -> None:
    with site.request() as session, site.moved(*ALL, "table:post") as moved:
        users = sa.select(site.User.id)
        session.execute(
            sa.update(site.Post).values(title="t").where(site.Post.user_id.in_(users)),
            execution_options={"synchronize_session": False},
        )
        session.commit()
    assert moved == {"table:post"}


def test_a_table_no_class_is_mapped_to_moves_by_its_name(site: Site) -> None:
    names = ("table:nobodys", "rows:nobodys")
    with site.engine.connect() as connection:
        connection.exec_driver_sql("CREATE TABLE nobodys (id INTEGER)")
        connection.commit()
        with site.moved(*ALL, *names) as moved:
            connection.exec_driver_sql('INSERT INTO main."nobodys" VALUES (1)')
            connection.commit()
    assert moved == set(names)


def test_association_rows_written_by_statement_move_their_table(site: Site) -> None:
    with site.request() as session, site.moved(*ALL) as moved:
        session.execute(site.user_roles.insert().values(user_id=2, role_id=1))
        session.commit()
    assert moved == {"table:user_roles", "rows:user_roles"}


def test_a_statement_sent_from_within_a_flush_moves_its_table(site: Site) -> None:
    @sa.event.listens_for(site.User, "after_update")
    def rename(_mapper: object, connection: sa.Connection, _target: object) -> None:
        table = site.User.__table__
        connection.execute(sa.update(table).where(table.c.id == 2).values(name="x"))

    with site.request() as session, site.moved(*ALL) as moved:
        session.get(site.User, 1).name = "anne"
        session.commit()
    assert moved == {"user:1", "table:user", "rows:user"}


def test_what_a_listener_sends_after_a_flush_is_not_part_of_it(site: Site) -> None:
    with site.request() as session:

        @sa.event.listens_for(session, "after_flush")
        def grant(session: Session, _context: object) -> None:
            session.execute(site.user_roles.insert().values(user_id=2, role_id=2))

        user, role = session.get(site.User, 2), session.get(site.Role, 1)
        with site.moved(*ALL) as moved:
            user.roles.append(role)
            session.commit()
    assert moved == {"user:2", "table:user_roles", "rows:user_roles"}


def test_a_flush_that_failed_leaves_later_statements_seen(site: Site) -> None:
    with site.request() as session, site.moved(*ALL) as moved:
        session.add(site.User(id=1, name="twice"))
        with pytest.raises(sa.exc.IntegrityError):
            session.flush()
        session.rollback()
        session.execute(sa.update(site.User).values(name="x"))
        session.commit()
    assert moved == {"table:user", "rows:user"}


def test_releasing_a_savepoint_moves_nothing_the_commit_does(site: Site) -> None:
    with site.request() as session:
        session.connection().exec_driver_sql("BEGIN")  # without it the release is a COMMIT
        with site.moved(*ALL) as moved, session.begin_nested():
            session.get(site.User, 1).name = "anne"
        assert moved == set()
        with site.moved(*ALL) as moved:
            session.commit()
    assert moved == {"user:1", "rows:user"}


def test_a_session_inside_somebody_elses_transaction_moves_at_its_own_commit(site: Site) -> None:
    with site.engine.connect() as connection:
        outer = connection.begin()
        connection.exec_driver_sql("BEGIN")  # without it the session's own commit is all there is
        session = Session(connection, join_transaction_mode="create_savepoint")
        session.get(site.User, 1).name = "anne"
        with site.moved(*ALL) as moved:
            session.commit()
        assert moved == {"user:1", "rows:user"}
        session.close()
        with site.moved(*ALL) as moved:
            outer.commit()
        assert moved == {"user:1", "rows:user"}


def test_marks_stand_while_the_commit_runs(site: Site) -> None:
    seen = []
    with site.request() as session:
        session.get(site.User, 1).name = "anne"
        session.flush()
        raw = session.connection().connection.dbapi_connection
        assert raw is not None

        @sa.event.listens_for(site.engine, "commit")
        def just_before(_connection: object) -> None:
            seen.append(site.generations.current([slot_of("user:1")]))

        raw.set_trace_callback(
            lambda sql: seen.append((sql, *site.generations.current([slot_of("user:1")])))
        )
        session.commit()
        raw.set_trace_callback(None)
    assert seen[0] != (0,)
    assert ("COMMIT", 0) in seen
    assert site.generations.current([slot_of("user:1")]) != (0,)


def test_a_commit_that_failed_keeps_its_marks_until_the_database_must_be_done(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lost(_connection: object) -> None:
        raise OSError("the answer was lost")

    # Before the first write, so that the fence stands around it.
    monkeypatch.setattr(type(site.engine.dialect), "do_commit", lambda self, c: lost(c))
    monkeypatch.delitem(vars(site.engine.dialect), "do_commit", raising=False)
    fresh = sa.create_engine(site.engine.url)
    slots = [slot_of("user:1")]
    before = site.generations.current(slots)
    with Session(fresh) as session:
        session.get(site.User, 1).name = "anne"
        with pytest.raises(OSError, match="lost"):
            session.commit()
    fresh.dispose()
    assert site.generations.current(slots) == (0,)
    site.clock.now += 11
    assert site.generations.current(slots) not in [(0,), before]


def test_what_was_told_before_a_commit_is_told_again_at_its_end(site: Site) -> None:
    with site.request() as session:
        assert not site.rows.bump_again_at_end([slot_of("user:1")])
        session.get(site.User, 1)
        with site.moved(*ALL) as moved:
            assert site.rows.bump_again_at_end([slot_of("user:1")])
        assert moved == set()
        with site.moved(*ALL) as moved:
            session.commit()
        assert moved == {"user:1"}
        session.get(site.User, 1)
        with site.moved(*ALL) as moved:
            session.commit()
        assert moved == set()


def test_reading_moves_nothing(site: Site) -> None:
    with site.request() as session, site.moved(*ALL) as moved:
        session.scalars(sa.select(site.User).with_for_update()).all()
        session.execute(sa.text("SELECT * FROM user"))
        session.execute(sa.text("WITH u AS (SELECT * FROM user) SELECT * FROM u"))
        session.commit()
    assert moved == set()
