"""However an application comes by its session, users are remembered and come back to it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from flask import g
from flask_login import current_user
from rows_site import RowsSite, arrive, name, rename
from session_kinds import (
    KINDS,
    MakeKind,
    begun,
    closed,
    configure,
    expunged,
    kept_in_g,
    kinds_in,
    rename_by_core,
)
from sqlalchemy.orm import Session
from sqlalchemy.orm.exc import DetachedInstanceError

from wsgi_usercache import UserCache


@pytest.fixture
def make(tmp_path: Path) -> Iterator[MakeKind]:
    with kinds_in(tmp_path) as make_kind:
        yield make_kind


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def site(make: MakeKind, kind: str) -> RowsSite:
    return make(KINDS[kind]())


def user() -> Any:
    return current_user._get_current_object()


def test_a_hit_costs_no_statement_no_load_and_no_connection(site: RowsSite) -> None:
    client = site.warm()
    taken: list[Any] = []
    sa.event.listen(site.engine, "checkout", lambda *event: taken.append(event))
    hits = site.stats.hits
    assert site.run(client) == "ann"
    assert not site.spent(client)
    assert site.stats.hits == hits + 2
    assert taken == []


def test_the_session_gets_the_user_of_a_hit(site: RowsSite) -> None:
    def act() -> None:
        session, ann = site.modules.db.session, user()
        assert session.get(site.modules.User, 1) is ann
        assert ann in session
        assert ann not in session.dirty

    assert not site.spent(site.warm(), act)


def test_what_is_written_to_the_user_of_a_hit_is_kept(site: RowsSite) -> None:
    client = site.warm()

    def act() -> None:
        current_user.name = "anne"
        site.modules.db.session.commit()

    assert site.spent(client, act).loads == 0
    with site.elsewhere() as db:
        assert db.session.get(db.User, 1).name == "anne"
    assert site.run(client) == "anne"


def test_the_user_of_a_hit_loads_lazily(site: RowsSite) -> None:
    with site.elsewhere() as db:
        db.session.add(db.Thing(id=9, member_id=1))
    client = site.warm()

    def act() -> None:
        assert [thing.id for thing in user().things] == [9]

    spent = site.spent(client, act)
    assert spent.loads == 0
    assert len(spent.statements) == 1


def test_the_user_of_a_hit_can_be_deleted(site: RowsSite) -> None:
    client = site.warm()

    def act() -> None:
        site.modules.db.session.delete(user())
        site.modules.db.session.commit()

    assert site.spent(client, act).loads == 0
    assert site.run(client) is None


def test_refresh_expire_and_merge_do_what_they_do(site: RowsSite) -> None:
    def act() -> None:
        session, ann = site.modules.db.session, user()
        session.refresh(ann)
        session.expire(ann)
        assert ann.name == "ann"
        assert session.merge(site.modules.User(id=1, name="anne")) is ann
        assert ann.name == "anne"
        session.rollback()
        assert ann.name == "ann"
        session.expunge(ann)
        assert session.merge(ann) is not ann

    assert site.spent(site.warm(), act).loads == 0


def test_the_user_of_a_hit_is_read_again_after_a_commit(site: RowsSite) -> None:
    client = site.warm()

    def act() -> None:
        assert current_user.name == "ann"
        site.modules.db.session.commit()
        rename_by_core(site, "anne")
        assert current_user.name == "anne"

    spent = site.spent(client, act)
    assert spent.loads == 0
    assert [statement[:6] for statement in spent.statements] == ["UPDATE", "SELECT"]


@pytest.mark.parametrize("way", ["orm", "core"])
def test_the_next_request_sees_a_change(site: RowsSite, way: str) -> None:
    client = site.warm()
    rename(site) if way == "orm" else rename_by_core(site, "anne")
    assert site.spent(client, lambda: user().name).loads == 1
    assert site.run(client) == "anne"
    assert not site.spent(client)


@pytest.mark.parametrize("load", [expunged, closed])
def test_a_detached_user_comes_back_detached(
    site: RowsSite, load: Callable[[RowsSite, str], Any]
) -> None:
    site.modules.load = lambda user_id: load(site, user_id)

    def act() -> Any:
        assert sa.inspect(user()).detached
        assert user() not in site.modules.db.session
        with pytest.raises(DetachedInstanceError):
            user().things
        return name()

    client = site.client()
    assert site.run(client, act) == "ann"
    assert not site.spent(client, act)
    rename(site)
    assert site.run(client, act) == "anne"
    assert not site.spent(client, act)


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
    assert site.run(client) == "ann"
    rename(site)
    assert site.spent(client, lambda: user().name).loads == 1
    assert site.run(client) == "anne"
    assert site.stats.unstored["foreign session"] == 3
    assert site.stats.size == 0


@pytest.mark.parametrize("way", ["miss", "hit"])
def test_a_session_that_begins_nothing_by_itself_gets_users_as_they_are_loaded(
    site: RowsSite, way: str
) -> None:
    client = arrive(site, way)
    configure(site, autobegin=False)
    site.modules.load = lambda user_id: begun(site).get(site.modules.User, user_id)
    assert site.run(client) == "ann"
    rename_by_core(site, "anne")
    assert site.run(client) == "anne"
    assert site.spent(client).loads == 1
    assert site.stats.unstored["autobegin off"] == 3


def test_a_session_kept_in_g_gets_users_as_they_are_now(make: MakeKind) -> None:
    """Whether they are remembered or not."""
    site = make(kept_in_g())
    client = site.client()
    for to in ("anna", "anne"):
        rename(site, to=to)
        assert [site.run(client) for _ in range(2)] == [to, to]


def test_a_session_kept_in_g_is_no_difference_if_vary_names_it(make: MakeKind) -> None:
    modules, options = kept_in_g()
    site = make((modules, {**options, "vary": lambda: (modules.db.my_session(), "")[1]}))
    client = site.warm()
    rename(site, to="anne")
    assert site.run(client) == "anne"
    assert not site.spent(client)


def test_users_are_invalidated_where_no_session_is_to_be_had(site: RowsSite) -> None:
    client = site.warm()
    site.cache.invalidate(1)
    assert site.spent(client).loads == 1
    assert not site.spent(client)


def test_apps_with_the_same_modules_see_each_others_changes(make: MakeKind, kind: str) -> None:
    made, shared = KINDS[kind](), {"cache": UserCache(), "database": "shared.db"}
    one, other = make(made, **shared), make(made, **shared)
    clients = {site: site.warm() for site in (one, other)}
    for changed, to in ((one, "anna"), (other, "anne")):
        rename(changed, to=to)
        for site, client in clients.items():
            assert site.run(client) == to
            assert not site.spent(client)


@pytest.mark.parametrize("kind", ["Flask-SQLAlchemy", "Flask-SQLAlchemy-Lite"])
def test_apps_with_the_same_modules_and_two_databases_never_mix_users(
    make: MakeKind, kind: str
) -> None:
    made, cache = KINDS[kind](), UserCache()
    one, other = make(made, cache=cache), make(made, cache=cache)
    clients = {site: site.warm() for site in (one, other)}
    rename(other, to="otto")
    for _ in range(2):
        assert [site.run(client) for site, client in clients.items()] == ["ann", "otto"]
    assert not any(site.spent(client) for site, client in clients.items())


VISITS = {
    "as Flask-Login has it": ["ann", "ann", "ann", "anne", "anne", "anne"],
    "looked up each time": ["ann", "bob", "ann", "anne", "bob", "anne"],
}


@pytest.mark.parametrize("how", VISITS)
@pytest.mark.parametrize(
    ("kind", "enabled"), [*((kind, True) for kind in KINDS), ("Flask-SQLAlchemy", False)]
)
def test_requests_in_one_app_context_are_answered_as_without_the_cache(
    make: MakeKind, kind: str, how: str, enabled: bool
) -> None:
    """A test's client inside `with app.app_context():` shares `g` and the session with it."""
    site = make(KINDS[kind](), enabled=enabled)
    ann, bob = site.client(1), site.client(2)
    said = []
    with site.app.app_context():
        for to in ("ann", "anne"):
            site.modules.db.session.get(site.modules.User, 1).name = to
            site.modules.db.session.commit()
            for client in (ann, bob, ann):
                said.append(client.get("/name").text)
                if how == "looked up each time":
                    g.pop("_login_user")
    assert said == VISITS[how]
