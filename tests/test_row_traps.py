"""Users that are rows where it gets difficult: loads under way, pools, several apps, sessions."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextvars import Context
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from flask_login import current_user
from rows_site import (
    ANN,
    ANNE,
    Background,
    MakeSite,
    Modules,
    RowsSite,
    name,
    needs,
    rename,
    sites_in,
)

from wsgi_usercache import Lane, UserCache

NOON = datetime(2024, 1, 1, 12)
POOL = {"pool_size": 5, "max_overflow": 0, "pool_timeout": 5}


@pytest.fixture
def make(tmp_path: Path) -> Iterator[MakeSite]:
    with sites_in(tmp_path) as make_site:
        yield make_site


@pytest.fixture
def site(make: MakeSite) -> RowsSite:
    return make()


def together(acts: list[Callable[[], Any]]) -> list[Any]:
    """What *acts* return, each in a thread of its own."""
    running = [Background(act) for act in acts]
    return [each.result for each in running]


def test_threads_that_hold_the_whole_pool_never_wait_for_each_other(make: MakeSite) -> None:
    site = make(Modules(handlers=False), pool=POOL)
    clients, plain = [site.client() for _ in range(5)], site.modules.load
    all_hold, all_load = threading.Barrier(5, timeout=10), threading.Barrier(5, timeout=10)

    def load(user_id: str) -> Any:
        all_load.wait()
        return plain(user_id)

    def act() -> Any:
        site.modules.db.session.execute(sa.select(site.modules.Thing))
        all_hold.wait()
        return current_user.name

    site.modules.load = load
    waits = site.stats.waits
    assert together([lambda c=c: site.run(c, act) for c in clients]) == ["ann"] * 5
    assert site.stats.waits == waits


def test_threads_that_hold_nothing_share_one_load(make: MakeSite) -> None:
    site = make(pool=POOL)
    clients = [site.client() for _ in range(12)]
    arrived, plain = threading.Semaphore(0), site.modules.load

    def load(user_id: str) -> Any:
        assert all(arrived.acquire(timeout=10) for _ in clients)
        return plain(user_id)

    site.first, site.modules.load = arrived.release, load
    loads = site.calls["loads"]
    assert together([lambda c=c: site.run(c) for c in clients]) == [ANN] * 12
    assert site.calls["loads"] == loads + 1


@pytest.mark.parametrize("how", ["commit", "invalidate"])
def test_a_load_overtaken_by_a_change_is_neither_kept_nor_joined(site: RowsSite, how: str) -> None:
    early, late = site.client(), site.client()
    selected, let_go, plain = threading.Event(), threading.Event(), site.modules.load

    def load(user_id: str) -> Any:
        user = plain(user_id)
        if not selected.is_set():
            selected.set()
            assert let_go.wait(10)
        return user

    site.modules.load = load
    hanging = Background(lambda: site.run(early))
    assert selected.wait(10)
    if how == "commit":
        rename(site)
    else:
        with site.engine.begin() as connection:
            connection.connection.driver_connection.execute("UPDATE member SET name = 'anne'")
        with site.app.app_context():
            site.cache.invalidate(1)
    assert site.run(late) == ANNE  # while the load still hangs
    assert site.stats.waits == 0
    let_go.set()
    assert hanging.result["name"] == "ann"  # it began before the change
    assert not site.spent(early)
    assert site.run(early) == ANNE


def test_needs_overtaken_by_a_change_are_not_kept(site: RowsSite) -> None:
    client = site.client()

    def revoke() -> None:
        with site.elsewhere() as db:
            db.session.execute(sa.delete(db.User.roles.property.secondary))

    def before_roles() -> None:
        assert current_user.roles  # read, and then changed while the handler still runs
        Context().run(revoke)

    site.before_roles = before_roles
    assert site.run(client, needs) == {"reader"}
    site.before_roles = lambda: None
    assert site.run(client) == {**ANN, "roles": [], "needs": set()}


def test_a_change_between_the_load_and_the_handlers_is_not_missed(site: RowsSite) -> None:
    client = site.client()

    def update() -> None:
        with site.elsewhere() as db:
            db.session.execute(sa.update(db.User).values(name="anne"))

    def first() -> None:
        assert current_user.name == "ann"
        Context().run(update)

    site.first = first
    site.run(client)
    site.first = lambda: None
    assert site.run(client) == ANNE


@pytest.mark.parametrize("one_cache", [True, False])
def test_two_apps_that_share_db_and_login_manager_keep_apart(
    make: MakeSite, one_cache: bool
) -> None:
    modules, cache = Modules(), UserCache() if one_cache else None
    a, b = make(modules, cache=cache), make(modules, cache=cache)
    rename(b, 2, "otto")
    in_a, in_b = a.warm(2), b.warm(2)
    assert a.run(in_a)["name"] == "bob"
    assert b.run(in_b)["name"] == "otto"
    assert b.run(b_with_cookies_of(in_a, b))["name"] == "otto"
    assert not a.spent(in_a)
    assert not b.spent(in_b)
    rename(a, 2, "bobby")
    assert (a.run(in_a)["name"], b.run(in_b)["name"]) == ("bobby", "otto")
    rename(b, 2, "ottilie")
    assert (a.run(in_a)["name"], b.run(in_b)["name"]) == ("bobby", "ottilie")


def b_with_cookies_of(client: Any, site: RowsSite) -> Any:
    other = site.app.test_client()
    other.set_cookie("session", client.get_cookie("session").value)
    return other


def test_an_app_without_the_cache_shares_a_login_manager_with_one_that_has_it(
    make: MakeSite,
) -> None:
    modules = Modules()
    cached, plain = make(modules), make(modules, enabled=False)
    rename(plain, 2, "otto")
    in_cached, in_plain = cached.warm(2), plain.client(2)
    for _ in range(2):
        assert cached.run(in_cached)["name"] == "bob"
        assert plain.run(in_plain)["name"] == "otto"
    assert plain.spent(in_plain).loads == 1


@pytest.mark.parametrize("order", [("last_seen", None), (None, "last_seen")])
@pytest.mark.parametrize("writer", [0, 1])
def test_what_is_volatile_to_one_app_is_not_to_another_on_the_same_database(
    make: MakeSite, order: tuple[str | None, ...], writer: int
) -> None:
    modules = Modules()
    sites = [
        make(modules, database="one.db", volatile=() if each is None else (each,))
        for each in order
    ]
    clients = [each.warm() for each in sites]
    with sites[writer].elsewhere() as db:
        db.session.get(db.User, 1).last_seen = NOON
    for each, client in zip(sites, clients, strict=True):
        assert each.run(client, lambda: current_user.last_seen) == NOON


def test_a_change_made_through_one_app_is_one_for_another_on_the_same_database(
    make: MakeSite,
) -> None:
    modules = Modules()
    a, b = (make(modules, database="one.db") for _ in range(2))
    in_a, in_b = a.warm(), b.warm()
    rename(a)
    assert (a.run(in_a), b.run(in_b)) == (ANNE, ANNE)


def test_flask_sqlalchemy_may_be_installed_after_the_cache(make: MakeSite) -> None:
    site = make(cache_first=True, volatile=("last_seen",), exclude=("password_hash",))
    client = site.warm()
    rename(site)
    assert site.run(client) == ANNE
    assert len(site.spent(client, lambda: current_user.password_hash).statements) == 1


WRONG = {"load": "rolls", "volatile": "last_sen", "exclude": "Role.pasword"}


@pytest.mark.parametrize("setting", WRONG)
def test_a_name_no_model_has_turns_the_cache_off_and_breaks_nothing(
    make: MakeSite, setting: str, caplog: pytest.LogCaptureFixture
) -> None:
    site = make(**{setting: (WRONG[setting],)})  # type: ignore[arg-type]
    client = site.client()
    for _ in range(3):
        assert site.run(client) == ANN
    assert site.spent(client).loads == 1
    rename(site)
    assert site.run(client) == ANNE
    errors = [each for each in caplog.records if each.levelno >= logging.ERROR]
    assert len(errors) == 1
    message = errors[0].getMessage()
    assert f"USERCACHE_{setting.upper()}" in message
    assert repr(WRONG[setting]) in message
    with site.app.app_context():
        explained = site.cache.explain("/")
    assert (explained.lane, WRONG[setting] in explained.reason) == (Lane.FRESH, True)
    assert site.stats.size == 0


def test_a_name_of_another_class_is_right(make: MakeSite) -> None:
    site = make(load=("roles.abilities",), volatile=("Role.name",), exclude=("Ability.name",))
    client = site.client()
    site.run(client)
    with site.elsewhere() as db:
        db.session.get(db.Role, 1).name = "lector"
    assert not site.spent(client, lambda: current_user.roles[0].abilities[0].id)
    assert site.run(client, lambda: current_user.roles[0].name) == "lector"


def test_nobody_of_an_app_is_somebody_in_another(make: MakeSite) -> None:
    modules = Modules()
    a, b = make(modules), make(modules)
    in_a, in_b = a.warm(2), b.warm(2)
    with a.elsewhere() as db:
        db.session.delete(db.session.get(db.User, 2))
    assert a.run(in_a)["id"] is None
    assert a.spent(in_a).loads == 0
    assert b.run(in_b, name) == "bob"
