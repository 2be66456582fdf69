"""A row thawed from plain data is what the loaded one was, and nobody else's."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask
from flask_login import UserMixin
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy.ext.mutable import MutableDict
from sqlalchemy.orm import (
    Mapped,
    Session,
    attribute_keyed_dict,
    composite,
    mapped_column,
    reconstructor,
    relationship,
    scoped_session,
    sessionmaker,
)
from sqlalchemy.orm.exc import DetachedInstanceError
from sqlalchemy_site import Site

from wsgi_usercache.adapters.sqlalchemy import Rows
from wsgi_usercache.generations.process import ProcessGenerations
from wsgi_usercache.storable import Unstorable


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = Site(f"sqlite:///{tmp_path}/a.db")
    yield site
    site.close()


@pytest.fixture
def make_site(tmp_path: Path) -> Iterator[Any]:
    made = []

    def make(**options: Any) -> Site:
        made.append(Site(f"sqlite:///{tmp_path}/{len(made)}.db", **options))
        return made[-1]

    yield make
    for each in made:
        each.close()


def state(row: Any) -> dict[str, Any]:
    return {key: value for key, value in vars(row).items() if key != "_sa_instance_state"}


def unstorable(site: Site, run: Any, user: Any) -> str:
    with pytest.raises(Unstorable) as refused:
        site.rows.freeze(user, run, None)
    return refused.value.reason


def test_a_thawed_user_is_persistent_and_cost_no_sql(site: Site) -> None:
    frozen = site.load(1, "roles")
    site.statements.clear()
    with site.request() as session:
        user = site.rows.thaw(frozen)
        assert sa.inspect(user).persistent
        assert not session.dirty
        assert (user.name, user.settings) == ("ann", {"a": [1]})
        assert {role.name for role in user.roles} == {"reader", "writer"}
        assert set(user.role_names) == {"reader", "writer"}
        assert session.get(site.User, 1) is user
        assert session.get(site.Role, user.roles[0].id) is user.roles[0]
        assert not session.in_transaction()
        with session.begin():
            pass
    assert site.statements == []
    assert site.engine.pool.checkedout() == 0


def test_what_was_not_loaded_loads_when_it_is_asked_for(site: Site) -> None:
    frozen = site.load()
    with site.request():
        user = site.rows.thaw(frozen)
        site.statements.clear()
        assert len(user.roles) == 2
        assert len(site.statements) == 1
        assert user.roles[0].abilities == []
    assert site.rows.lazy_loads == {"User.roles": 1}


def test_two_requests_share_nothing(site: Site) -> None:
    frozen = site.load(1, "roles")
    with site.request():
        one = site.rows.thaw(frozen)
        one.name = "changed"
        one.settings["a"].append(2)
        one.roles.pop()
    with site.request():
        two = site.rows.thaw(frozen)
        assert (two.name, two.settings, len(two.roles)) == ("ann", {"a": [1]}, 2)
    with site.request():
        assert site.rows.thaw(frozen).settings is not two.settings


def test_what_is_done_to_the_loaded_user_later_is_not_seen(site: Site) -> None:
    with site.request() as session, site.rows.run() as run:
        user = session.get(site.User, 1)
        frozen = site.rows.freeze(user, run, None)
        user.settings["a"].append(2)
    with site.request():
        assert site.rows.thaw(frozen).settings == {"a": [1]}


def test_a_user_the_session_holds_is_left_as_he_is(site: Site) -> None:
    frozen = site.load(1, "roles")
    with site.request() as session:
        user = session.get(site.User, 1)
        user.name = "anne"
        assert site.rows.thaw(frozen) is user
        assert user.name == "anne"
        assert list(session.identity_map.values()) == [user]


def test_a_transaction_that_is_open_stays_open(site: Site) -> None:
    frozen = site.load()
    with site.request() as session:
        team = session.get(site.Team, 1)
        site.rows.thaw(frozen)
        assert session.in_transaction()
        assert site.engine.pool.checkedout() == 1
        assert team in session


def test_writes_on_a_thawed_user_reach_the_database(site: Site) -> None:
    frozen = site.load(1, "roles")
    with site.request() as session:
        user = site.rows.thaw(frozen)
        user.last_seen = datetime(2024, 1, 1)
        user.settings["b"] = 2
        user.roles.remove(session.get(site.Role, 1))
        session.commit()
        assert user.name == "ann"  # expired by the commit, and read again
    with site.request() as session:
        user = session.get(site.User, 1)
        assert (user.last_seen, user.settings) == (datetime(2024, 1, 1), {"a": [1], "b": 2})
        assert [role.id for role in user.roles] == [2]


def test_a_thawed_user_can_be_deleted_refreshed_and_merged(site: Site) -> None:
    frozen = site.load(1, "roles")
    with site.request() as session:
        user = site.rows.thaw(frozen)
        session.refresh(user)
        assert session.merge(user) is user
        session.delete(user)
        session.commit()
        assert session.get(site.User, 1) is None


def test_a_row_the_session_already_holds_is_used(site: Site) -> None:
    frozen = site.load(1, "roles")
    with site.request() as session:
        role = session.get(site.Role, 2)
        user = site.rows.thaw(frozen)
        assert role in user.roles
        assert site.rows.thaw(frozen) is user
        session.delete(user)
        with pytest.raises(Unstorable, match="deleted"):
            site.rows.thaw(frozen)


def test_a_pending_object_survives_a_thaw(site: Site) -> None:
    frozen = site.load()
    with site.request() as session:
        session.add(site.Team(id=7, name="new"))
        site.rows.thaw(frozen)
        session.commit()
        assert session.get(site.Team, 7) is not None


def test_cycles_and_shared_rows_stay_what_they_are(site: Site) -> None:
    with site.request() as session, site.rows.run() as run:
        user = session.get(site.User, 1, options=[sa.orm.joinedload(site.User.roles)])
        assert [each.users for each in user.roles] == [[user], [user]]
        frozen = site.rows.freeze(user, run, None)
    with site.request():
        user = site.rows.thaw(frozen)
        assert [each.users for each in user.roles] == [[user], [user]]


def test_a_long_collection_is_kept_only_if_it_is_named(make_site: Any) -> None:
    for load, kept in ((), 0), (("posts",), 101):
        site = make_site(load=load)
        with site.request() as session:
            session.add_all(site.Post(title="t", user_id=1) for _ in range(101))
            session.commit()
        frozen = site.load(1, "posts")
        with site.request():
            user = site.rows.thaw(frozen)
            assert len(state(user).get("posts", ())) == kept
            assert len(user.posts) == 101


def test_what_load_names_is_loaded(make_site: Any) -> None:
    site = make_site(load=["roles.abilities", "team"])
    with site.request() as session, site.rows.run() as run:
        user = session.get(site.User, 1)
        site.rows.load_named(user)
        frozen = site.rows.freeze(user, run, None)
    site.statements.clear()
    with site.request():
        user = site.rows.thaw(frozen)
        assert [role.abilities for role in user.roles] == [[], []]
        assert user.team is None
    assert site.statements == []


def test_volatile_and_excluded_columns_are_not_kept(make_site: Any) -> None:
    site = make_site(volatile=["last_seen"], exclude=["password_hash", "Role.name"])
    frozen = site.load(1, "roles")
    with site.request():
        user = site.rows.thaw(frozen)
        assert not {"last_seen", "password_hash"} & state(user).keys()
        assert "name" in state(user)
        assert "name" not in state(user.roles[0])
        assert user.password_hash is None
        assert {role.name for role in user.roles} == {"reader", "writer"}


def test_a_detached_user_comes_back_detached(site: Site) -> None:
    def load(session: Session) -> Any:
        user = session.get(site.User, 1, options=[sa.orm.joinedload(site.User.roles)])
        session.expunge_all()
        return user

    with site.request(), site.rows.run() as run, Session(site.engine) as session:
        frozen = site.rows.freeze(load(session), run, None)
    with site.request():
        user = site.rows.thaw(frozen)
        assert sa.inspect(user).detached
        assert {role.name for role in user.roles} == {"reader", "writer"}
        with pytest.raises(DetachedInstanceError):
            user.posts  # as it was when it was loaded


def test_a_detached_user_can_not_do_without_what_is_excluded(make_site: Any) -> None:
    site = make_site(exclude=["password_hash"])
    with site.request(), site.rows.run() as run, Session(site.engine) as session:
        user = session.get(site.User, 1)
        session.expunge(user)
        assert unstorable(site, run, user) == "detached"


def test_a_user_of_another_session_is_not_kept(site: Site) -> None:
    with site.request(), site.rows.run() as run, Session(site.engine) as session:
        assert unstorable(site, run, session.get(site.User, 1)) == "foreign session"


def test_a_detached_user_with_attached_roles_is_not_kept(site: Site) -> None:
    with site.request() as session, site.rows.run() as run:
        user = session.get(site.User, 1)
        user.roles
        session.expunge(user)
        assert unstorable(site, run, user) == "foreign session"


def test_a_user_who_stood_in_the_session_before_is_not_kept(site: Site) -> None:
    with site.request() as session:
        held = session.get(site.User, 1)
        session.rollback()
        with site.rows.run() as run:
            assert session.get(site.User, 1) is held
            assert unstorable(site, run, held) == "identity map"


def test_a_user_remembered_by_the_application_itself_is_not_kept(site: Site) -> None:
    with Session(site.engine) as session:
        user = session.get(site.User, 1)
        session.expunge_all()
    with site.request(), site.rows.run() as run:
        assert unstorable(site, run, user) == "identity map"


def changed(site: Site, session: Session, user: Any) -> None:
    user.name = "x"


def to_be_deleted(site: Site, session: Session, user: Any) -> None:
    session.delete(user)


def gone(site: Site, session: Session, user: Any) -> None:
    session.delete(user)
    session.flush()


def with_new_rows(site: Site, session: Session, user: Any) -> None:
    sa.orm.attributes.set_committed_value(user, "posts", [site.Post()])


def with_a_lock(site: Site, session: Session, user: Any) -> None:
    user.lock = object()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (changed, "modified"),
        (to_be_deleted, "modified"),
        (gone, "new or deleted"),
        (with_new_rows, "new or deleted"),
        (with_a_lock, "attributes"),
    ],
)
def test_what_is_not_as_the_database_has_it_is_not_kept(
    site: Site, change: Any, reason: str
) -> None:
    with site.request() as session, site.rows.run() as run:
        user = session.get(site.User, 1)
        change(site, session, user)
        assert unstorable(site, run, user) == reason
        session.rollback()


def test_plain_attributes_the_loader_hung_on_the_row_are_kept(site: Site) -> None:
    with site.request() as session, site.rows.run() as run:
        user = session.get(site.User, 1)
        user.source = ("ldap", 3)
        frozen = site.rows.freeze(user, run, None)
    with site.request():
        assert site.rows.thaw(frozen).source == ("ldap", 3)


def test_what_handlers_loaded_of_a_thawed_user_is_kept_too(site: Site) -> None:
    known = site.load()
    with site.request() as session:
        user = site.rows.thaw(known)
        assert user.posts == []  # by a view, not recorded
        session.rollback()
        user.name  # expired by the roll-back
        session.rollback()
    with site.request():
        user = site.rows.thaw(known)
        with site.rows.run() as run:
            user.roles
            grown = site.rows.freeze(user, run, known)
            run.close()
    with site.request():
        assert "roles" in state(site.rows.thaw(grown))


def test_what_others_loaded_of_a_thawed_user_is_not_kept(site: Site) -> None:
    known = site.load()
    with site.request() as session:
        user = site.rows.thaw(known)
        assert user.posts == []
        with site.rows.run() as run:
            assert session.get(site.Team, 1)
            grown = site.rows.freeze(user, run, known)
        with site.rows.run() as run:
            assert site.rows.freeze(user, run, known) == known
    assert grown == known


def test_without_a_session_attached_users_are_not_thawed(site: Site) -> None:
    frozen = site.load()
    bare = Rows(type(site.app)("bare"), site.generations)
    with pytest.raises(Unstorable, match="foreign session"):
        bare.thaw(frozen)


def test_a_session_that_does_not_begin_by_itself_is_left_alone(site: Site) -> None:
    frozen = site.load()
    session = scoped_session(sessionmaker(site.engine, autobegin=False))
    rows = Rows(type(site.app)("other"), site.generations, session=session)
    with pytest.raises(Unstorable, match="autobegin off"):
        rows.thaw(frozen)
    session.remove()


@pytest.mark.parametrize("kind", ["scoped", "callable"])
def test_the_session_option_says_where_to_thaw(site: Site, kind: str) -> None:
    session = scoped_session(sessionmaker(site.engine))
    rows = Rows(
        type(site.app)("other"),
        site.generations,
        session=session if kind == "scoped" else lambda: session(),
    )
    frozen = site.load()
    user = rows.thaw(frozen)
    assert sa.orm.object_session(user) is session()
    session.remove()


def test_a_model_that_changed_since_is_another_version(site: Site) -> None:
    frozen = site.load()
    old = replace(frozen, nodes=(replace(frozen.nodes[0], columns=("id",)),))
    with site.request(), pytest.raises(Unstorable, match="version"):
        site.rows.thaw(old)


WRONG = [
    ({"load": ["rolls"]}, "USERCACHE_LOAD", "'rolls'"),
    ({"load": ["roles.abilitys"]}, "USERCACHE_LOAD", "'roles.abilitys'"),
    ({"load": ["role_names.abilities"]}, "USERCACHE_LOAD", "'role_names.abilities'"),
    ({"volatile": ["last_sean"]}, "USERCACHE_VOLATILE", "'last_sean'"),
    ({"exclude": ["Role.nom"]}, "USERCACHE_EXCLUDE", "'Role.nom'"),
    ({"exclude": ["Rule.name"]}, "USERCACHE_EXCLUDE", "'Rule.name'"),
]


@pytest.mark.parametrize(("options", "setting", "value"), WRONG)
def test_a_wrong_name_is_told_with_its_setting(
    make_site: Any, options: dict[str, Any], setting: str, value: str
) -> None:
    wrong = make_site(**options).rows.check()
    assert setting in wrong
    assert value in wrong


def test_a_wrong_name_found_late_keeps_everybody_from_being_kept(tmp_path: Path) -> None:
    engine, Admin = fancy(tmp_path)
    session = scoped_session(sessionmaker(engine))
    session.add(Admin(must=1, id=1, level=3, x=1, y=2))
    session.commit()
    rows = Rows(Flask("late"), ProcessGenerations(), session=session, load=["nowhere"])
    assert rows.check() is None
    for _ in range(2):
        session.remove()
        with rows.run() as run, pytest.raises(Unstorable, match="wrong setting"):
            rows.freeze(session.get(Admin, 1), run, None)
    assert "'nowhere'" in str(rows.check())
    session.remove()
    engine.dispose()


def test_right_names_are_not_complained_about(make_site: Any) -> None:
    site = make_site(load=["roles.abilities"], volatile=["last_seen"], exclude=["Role.name"])
    assert site.rows.check() is None
    assert Rows(type(site.app)("bare"), site.generations, load=["nothing"]).check() is None


class Point:
    def __init__(self, x: int, y: int) -> None:
        self.x, self.y = x, y

    def __composite_values__(self) -> tuple[int, int]:
        return self.x, self.y

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Point) and (other.x, other.y) == (self.x, self.y)

    def __hash__(self) -> int:
        return hash((self.x, self.y))


def fancy(tmp_path: Path) -> tuple[Any, Any]:
    """Users by inheritance, with what else a mapper can do."""

    class Base(sa.orm.DeclarativeBase):
        pass

    class Note(Base):
        __tablename__ = "note"
        id: Mapped[int] = mapped_column(primary_key=True)
        kind: Mapped[str]
        owner: Mapped[int] = mapped_column(sa.ForeignKey("person.id"))

    class Person(Base):
        __tablename__ = "person"
        id: Mapped[int] = mapped_column(primary_key=True)
        type: Mapped[str]
        x: Mapped[int]
        y: Mapped[int]
        data: Mapped[dict[str, Any] | None] = mapped_column(MutableDict.as_mutable(sa.PickleType))
        big: Mapped[str | None] = mapped_column(deferred=True)
        where = composite(Point, "x", "y")
        notes = relationship(Note, collection_class=attribute_keyed_dict("kind"))
        __mapper_args__ = {"polymorphic_on": "type", "polymorphic_identity": "person"}

    class Admin(UserMixin, Person):
        __tablename__ = "admin"
        id: Mapped[int] = mapped_column(sa.ForeignKey("person.id"), primary_key=True)
        level: Mapped[int]
        __mapper_args__ = {"polymorphic_identity": "admin"}

        def __init__(self, *, must: int, **values: Any) -> None:
            super().__init__(**values)

        @reconstructor
        def made(self) -> None:
            self.made_of = (self.level, self.where.x)

    Person.Note, Admin.Note = Note, Note
    engine = sa.create_engine(f"sqlite:///{tmp_path}/fancy.db")
    Base.metadata.create_all(engine)
    return engine, Admin


def test_inheritance_composites_keyed_collections_and_reconstructors(tmp_path: Path) -> None:
    engine, Admin = fancy(tmp_path)
    session = scoped_session(sessionmaker(engine))
    rows = Rows(Flask("fancy"), ProcessGenerations(), session=session, user_class=Admin)
    admin = Admin(must=1, id=1, level=3, x=1, y=2, data={"k": [1]}, big="b")
    admin.notes["a"] = Admin.Note(kind="a")
    session.add(admin)
    session.commit()
    session.remove()
    with rows.run() as run:
        admin = session.get(Admin, 1)
        assert admin.notes["a"].kind == "a"
        loaded = state(admin)
        assert run.refusal is None
        frozen = rows.freeze(admin, run, None)
    session.remove()
    admin = rows.thaw(frozen)
    assert type(admin) is Admin
    assert state(admin).keys() == loaded.keys()
    assert (admin.where, admin.made_of, admin.level) == (Point(1, 2), (3, 1), 3)
    assert list(admin.notes) == ["a"]
    admin.data["k2"] = 1
    session.commit()
    assert (admin.data, admin.big) == ({"k": [1], "k2": 1}, "b")
    session.remove()
    engine.dispose()


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    name=st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=9),
    seen=st.none() | st.datetimes(),
    data=st.none() | st.dictionaries(st.text(), values, max_size=4),
    roles=st.sets(st.sampled_from([1, 2, 3])),
    touch=st.sets(st.sampled_from(["roles", "team", "posts"])),
    expire=st.sets(st.sampled_from(["name", "settings", "last_seen", "roles"])),
)
def test_thaw_of_freeze_is_the_user(
    site: Site, name: str, seen: Any, data: Any, roles: Any, touch: Any, expire: Any
) -> None:
    with site.request() as session:
        user = session.get(site.User, 1)
        user.name, user.last_seen, user.settings = name, seen, data
        session.merge(site.Role(id=3, name="third"))
        user.roles = [session.get(site.Role, each) for each in sorted(roles)]
        session.commit()
    with site.request() as session, site.rows.run() as run:
        user = session.get(site.User, 1)
        for each in sorted(touch):
            getattr(user, each)
        expired = expire & state(user).keys()
        if expired:
            session.expire(user, expired)
        before = plain(state(user))
        frozen = site.rows.freeze(user, run, None)
    with site.request():
        thawed = site.rows.thaw(frozen)
        assert plain(state(thawed)) == before
        assert (thawed.name, thawed.settings) == (name, data)
        assert sorted(role.id for role in thawed.roles) == sorted(roles)


def plain(loaded: dict[str, Any]) -> dict[str, Any]:
    return {
        key: [(type(row), sa.inspect(row).key, row.name) for row in value]
        if key in ("roles", "posts")
        else value
        for key, value in loaded.items()
    }


def test_plain_data_it_is(site: Site) -> None:
    frozen = site.load(1, "roles")
    for node in frozen.nodes:
        pickle.dumps((node.key[1:], node.values, node.copied, node.links))
