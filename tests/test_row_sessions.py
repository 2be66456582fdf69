"""Users that are rows in the session they came from: attached, detached, pending, in a
transaction."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from flask_login import current_user
from rows_site import (
    ANN,
    ANNE,
    MakeSite,
    Modules,
    RowsSite,
    arrive,
    rename,
    sites_in,
    who,
)
from sqlalchemy.orm import Session, scoped_session, selectinload, sessionmaker
from sqlalchemy.orm.exc import DetachedInstanceError


@pytest.fixture
def make(tmp_path: Path) -> Iterator[MakeSite]:
    with sites_in(tmp_path) as make_site:
        yield make_site


@pytest.fixture
def site(make: MakeSite) -> RowsSite:
    return make()


@pytest.fixture(params=["miss", "hit"])
def way(request: pytest.FixtureRequest) -> str:
    return request.param


def test_a_user_is_in_the_session_as_if_just_loaded(site: RowsSite, way: str) -> None:
    def act() -> None:
        session, user = site.modules.db.session, current_user._get_current_object()
        assert user in session
        assert session.get(site.modules.User, 1) is user
        assert session.scalars(sa.select(site.modules.User).filter_by(id=1)).one() is user
        assert user not in session.dirty
        state = sa.inspect(user)
        assert state.persistent
        assert not state.modified

    site.run(arrive(site, way), act)


def test_refresh_expire_and_merge_do_what_they_do(site: RowsSite, way: str) -> None:
    def act() -> None:
        session, user = site.modules.db.session, current_user._get_current_object()
        session.refresh(user)
        assert who() == ANN
        session.expire(user)
        assert who() == ANN
        assert session.merge(site.modules.User(id=1, name="anne")) is user
        session.expire_all()
        session.rollback()
        assert who() == ANN
        session.expunge(user)
        assert session.merge(user).name == "ann"

    site.run(arrive(site, way), act)
    assert site.run(site.client()) == ANN


def test_after_a_commit_the_rows_of_a_hit_load_again(site: RowsSite) -> None:
    client = site.warm()

    def act() -> dict[str, Any]:
        site.modules.db.session.add(site.modules.Thing())
        site.modules.db.session.commit()
        return who()

    assert site.run(client, lambda: (who(), act())[1]) == ANN


KINDS = {
    "plain": {"handlers": False},
    "handlers": {},
    "no autoflush": {"handlers": False, "session_options": {"autoflush": False}},
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_row_added_before_the_first_look_at_the_user_goes_with_a_rollback(
    make: MakeSite, way: str, kind: str
) -> None:
    site = make(Modules(**KINDS[kind]))
    client = arrive(site, way)
    session, thing = site.modules.db.session, site.modules.Thing
    site.first = lambda: session.add(thing(id=9))

    def act() -> None:
        assert current_user.name == "ann"
        session.rollback()
        session.commit()

    site.run(client, act)
    site.first = lambda: None
    with site.elsewhere() as db:
        assert db.session.get(db.Thing, 9) is None


@pytest.mark.parametrize("kind", KINDS)
def test_a_row_added_before_the_first_look_at_the_user_is_not_lost(
    make: MakeSite, way: str, kind: str
) -> None:
    site = make(Modules(**KINDS[kind]))
    client = arrive(site, way)
    session, thing = site.modules.db.session, site.modules.Thing
    site.first = lambda: session.add(thing(id=9))

    def act() -> Any:
        name = current_user.name
        session.commit()
        return name

    assert site.run(client, act) == "ann"
    site.first = lambda: None
    with site.elsewhere() as db:
        assert db.session.get(db.Thing, 9) is not None


def test_the_first_look_inside_begin_breaks_nothing(make: MakeSite, way: str) -> None:
    site = make(Modules(handlers=False))
    client = arrive(site, way)
    session = site.modules.db.session

    def act() -> str:
        with session.begin():
            current_user.name += "e"
            session.add(site.modules.Thing(id=9))
        return current_user.name

    assert site.run(client, act) == "anne"
    with site.elsewhere() as db:
        assert db.session.get(db.Thing, 9) is not None
        assert db.session.get(db.User, 1).name == "anne"
    assert site.run(client) == "anne"


def test_begin_works_after_the_user_was_looked_at(site: RowsSite, way: str) -> None:
    """Without the cache it raises: the loader has begun a transaction by then."""

    def act() -> None:
        assert who() == ANN
        with site.modules.db.session.begin():
            site.modules.db.session.add(site.modules.Thing(id=9))

    site.run(arrive(site, way), act)
    with site.elsewhere() as db:
        assert db.session.get(db.Thing, 9) is not None


def test_begin_raises_after_the_user_was_looked_at_without_the_cache(make: MakeSite) -> None:
    site = make(enabled=False)

    def act() -> None:
        assert who() == ANN
        with pytest.raises(sa.exc.InvalidRequestError), site.modules.db.session.begin():
            pass

    site.run(site.client(), act)


def test_a_tenant_looked_up_before_does_not_hide_a_user_remembered(site: RowsSite) -> None:
    client = site.warm()
    site.first = lambda: site.modules.db.session.get(site.modules.Role, 2)
    assert len(site.spent(client).statements) == 1
    rename(site)
    assert site.run(client) == ANNE


def test_what_get_finds_in_the_identity_map_is_not_kept(make: MakeSite) -> None:
    modules = Modules(handlers=False, session_options={"expire_on_commit": False})
    site = make(modules)
    client = site.client()
    held = []

    def first() -> None:
        held.append(modules.db.session.get(modules.User, 1))
        modules.db.session.commit()
        rename(site)

    site.first = first
    assert site.run(client) == "ann"  # the loader's answer, without a statement
    site.first = lambda: None
    assert site.stats.unstored["identity map"] == 1
    assert site.run(client) == "anne"


def test_a_scoped_session_of_ones_own_is_thawed_into(make: MakeSite) -> None:
    own = scoped_session(sessionmaker())
    site = make(session=own)
    own.configure(bind=site.engine)
    site.modules.load = lambda user_id: own.get(site.modules.User, user_id)
    site.last = own.remove
    client = site.warm()

    def act() -> None:
        user = current_user._get_current_object()
        assert user in own()
        assert own.get(site.modules.User, 1) is user
        assert user not in site.modules.db.session
        assert list(user.things) == []
        user.name = "anne"
        own.commit()

    assert site.spent(client, act).loads == 0
    assert site.run(client) == ANNE


def test_a_user_loaded_detached_is_detached_on_a_hit(site: RowsSite) -> None:
    def load(user_id: str) -> Any:
        with Session(site.engine) as session:
            roles = selectinload(site.modules.User.roles)
            return session.get(site.modules.User, user_id, options=[roles])

    site.modules.load = load
    client = site.client()

    def act() -> dict[str, Any]:
        user = current_user._get_current_object()
        assert sa.inspect(user).detached
        with pytest.raises(DetachedInstanceError):
            user.things
        return who()

    assert site.run(client, act) == ANN
    assert not site.spent(client, act)
    rename(site)
    assert site.run(client, act) == ANNE


def test_a_user_of_another_living_session_is_right_and_not_kept(site: RowsSite) -> None:
    sessions: list[Session] = []

    def load(user_id: str) -> Any:
        sessions.append(Session(site.engine))
        return sessions[-1].get(site.modules.User, user_id)

    def close() -> None:
        while sessions:
            sessions.pop().close()

    site.modules.load, site.last = load, close
    client = site.client()
    assert site.run(client) == ANN
    assert site.stats.unstored["foreign session"] >= 1
    rename(site)
    assert site.run(client) == ANNE
    assert site.stats.size == 0
