"""Users that are rows, request by request: what a hit costs, and that it is like a miss."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from flask_login import current_user, logout_user
from rows_site import (
    ANN,
    Background,
    MakeSite,
    Modules,
    RowsSite,
    arrive,
    sites_in,
    who,
)
from sqlalchemy.ext.associationproxy import association_proxy

NOON = datetime(2024, 1, 1, 12)


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


def test_a_hit_costs_no_statement_no_load_and_no_signal(site: RowsSite) -> None:
    client = site.client()
    assert site.spent(client).statements
    hits = site.stats.hits
    spent = site.spent(client)
    assert (spent.loads, spent.statements, spent.signals) == (0, (), 0)
    assert site.stats.hits == hits + 1
    assert site.run(client) == ANN


def test_roles_that_the_identity_handler_loaded_are_kept(site: RowsSite) -> None:
    client = site.client()
    site.run(client, lambda: None)
    assert not site.spent(client, lambda: [role.name for role in current_user.roles])


def test_what_load_names_is_kept_though_nobody_asked_for_it(make: MakeSite) -> None:
    site = make(Modules(handlers=False), load=("roles.abilities",))
    client = site.client()
    site.run(client, lambda: current_user.name)
    spent = site.spent(
        client, lambda: [ability.name for role in current_user.roles for ability in role.abilities]
    )
    assert not spent


def test_what_nobody_loaded_loads_on_a_hit_and_is_counted(site: RowsSite) -> None:
    with site.elsewhere() as db:
        db.session.add(db.Thing(id=5, member_id=1))
    client = site.warm()
    assert site.run(client, lambda: [thing.id for thing in current_user.things]) == [5]
    assert len(site.spent(client, lambda: list(current_user.things)).statements) == 1
    assert site.stats.lazy_loads == {"Member.things": 2}


def test_what_users_load_all_the_time_is_said_once_with_what_to_name(
    make: MakeSite, caplog: pytest.LogCaptureFixture
) -> None:
    site = make(Modules(handlers=False))
    client = site.client()
    site.run(client, lambda: current_user.name)
    for _ in range(120):
        site.run(client, lambda: [role.abilities for role in current_user.roles])
    assert site.stats.lazy_loads == {"Member.roles": 120}
    said = [each.getMessage() for each in caplog.records if "USERCACHE_LOAD" in each.getMessage()]
    assert len(said) == 1
    assert "Member.roles" in said[0]
    assert "'roles'" in said[0]


def test_what_is_named_nested_is_said_with_its_whole_path(
    make: MakeSite, caplog: pytest.LogCaptureFixture
) -> None:
    site = make(Modules(handlers=False), load=("roles",))
    client = site.client()
    site.run(client, lambda: current_user.name)
    for _ in range(120):
        site.run(client, lambda: [role.abilities for role in current_user.roles])
    said = [each.getMessage() for each in caplog.records if "USERCACHE_LOAD" in each.getMessage()]
    assert [("'roles.abilities'" in each) for each in said] == [True]


@pytest.mark.parametrize("path", ["abilities", "role_names"])
def test_what_load_names_by_an_association_proxy_is_kept(make: MakeSite, path: str) -> None:
    """All it goes through: roles and their abilities, or the roles whose names it shows."""
    modules = Modules(handlers=False)
    modules.User.abilities = association_proxy("roles", "abilities")
    modules.User.role_names = association_proxy("roles", "name")
    site = make(modules, load=(path,))
    client = site.client()
    site.run(client, lambda: current_user.name)
    assert not site.spent(client, lambda: list(current_user.role_names))
    spent = site.spent(client, lambda: [list(each) for each in current_user.abilities])
    assert bool(spent) is (path == "role_names")


@pytest.mark.parametrize("named", [True, False])
def test_a_long_collection_is_kept_only_if_load_names_it(make: MakeSite, named: bool) -> None:
    modules = Modules(handlers=False)
    site = make(modules, load=("things",) if named else ())
    with site.elsewhere() as db:
        db.session.add_all(db.Thing(id=n, member_id=1) for n in range(1, 102))

    def load(user_id: str) -> Any:
        user = modules.db.session.get(modules.User, user_id)
        assert len(user.things) == 101
        return user

    modules.load = load
    client = site.warm() if named else site.client()
    site.run(client, lambda: current_user.name)
    spent = site.spent(client, lambda: current_user.things)
    assert spent.loads == 0
    assert len(spent.statements) == (0 if named else 1)
    assert site.run(client, lambda: len(current_user.things)) == 101


def test_a_user_who_deletes_himself_is_gone(site: RowsSite, way: str) -> None:
    client = arrive(site, way)

    def act() -> None:
        site.modules.db.session.delete(current_user._get_current_object())
        site.modules.db.session.commit()

    site.run(client, act)
    assert site.run(client)["id"] is None
    with site.elsewhere() as db:
        assert db.session.get(db.User, 1) is None


def test_what_is_written_on_a_hit_reaches_the_database(make: MakeSite, way: str) -> None:
    site = make(volatile=("last_seen",))
    client = arrive(site, way)

    def act() -> str:
        current_user.last_seen = NOON
        current_user.name = "anne"
        site.modules.db.session.commit()
        return current_user.name

    assert site.run(client, act) == "anne"
    with site.elsewhere() as db:
        user = db.session.get(db.User, 1)
        assert (user.name, user.last_seen) == ("anne", NOON)
    assert site.run(client)["name"] == "anne"


def test_an_excluded_column_is_not_in_memory_and_still_there(make: MakeSite) -> None:
    site = make(exclude=("password_hash",))
    client = site.warm()
    assert not site.spent(client, lambda: current_user.name)
    assert len(site.spent(client, lambda: current_user.password_hash).statements) == 1
    assert site.run(client, lambda: current_user.password_hash) == "secret"


def test_a_volatile_column_answers_what_the_database_has(make: MakeSite) -> None:
    site = make(volatile=("last_seen",))
    client = site.warm()
    with site.engine.begin() as connection:
        driver = connection.connection.driver_connection
        driver.execute("UPDATE member SET last_seen = '2024-01-01 12:00:00.000000'")
    assert site.run(client, lambda: current_user.last_seen) == NOON
    assert site.spent(client).loads == 0


def test_two_threads_never_share_a_user(site: RowsSite) -> None:
    site.warm()
    clients = [site.client(), site.client()]
    both_in = threading.Barrier(2, timeout=10)

    def act() -> tuple[Any, Any]:
        user = current_user._get_current_object()
        both_in.wait()
        user.name += "!"
        both_in.wait()
        return user, user.roles[0], user.name  # type: ignore[return-value]

    hits = site.stats.hits
    one, other = (
        background.result
        for background in [Background(lambda c=c: site.run(c, act)) for c in clients]
    )
    assert site.stats.hits == hits + 2
    assert one[0] is not other[0]
    assert one[1] is not other[1]
    assert one[2] == other[2] == "ann!"
    assert site.run(clients[0]) == ANN


def test_neither_a_miss_nor_a_hit_leaves_a_connection_checked_out(
    site: RowsSite, way: str
) -> None:
    client = arrive(site, way)

    def act() -> int:
        assert who() == ANN
        return site.engine.pool.checkedout()  # type: ignore[attr-defined]

    assert site.run(client, act) == 0
    assert site.stats.unstored == {}


def test_without_the_cache_a_connection_is_held_from_the_first_look(make: MakeSite) -> None:
    site = make(enabled=False)

    def act() -> int:
        assert who() == ANN
        return site.engine.pool.checkedout()  # type: ignore[attr-defined]

    assert site.run(site.client(), act) == 1


def test_nobody_is_found_twice_without_asking_the_database_twice(site: RowsSite) -> None:
    client = site.client(2)
    with site.elsewhere() as db:
        db.session.delete(db.session.get(db.User, 2))
    assert site.run(client)["id"] is None
    assert site.spent(client).loads == 0


def test_who_logged_out_is_nobody_in_the_same_request(site: RowsSite) -> None:
    client = site.warm()
    assert site.run(client, lambda: (who(), logout_user(), who()))[2]["id"] is None
    assert site.run(client)["id"] is None
