"""Writes that are committed unasked, not sent yet, or told from outside of any app."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from flask_login import current_user
from rows_site import MakeSite, Modules, RowsSite, name, sites_in


@pytest.fixture
def make(tmp_path: Path) -> Iterator[MakeSite]:
    with sites_in(tmp_path) as make_site:
        yield make_site


@pytest.fixture
def site(make: MakeSite) -> RowsSite:
    return make(Modules(handlers=False))


def in_database(site: RowsSite) -> str:
    with site.engine.connect() as connection:
        row = connection.connection.driver_connection.execute(
            "SELECT name FROM member WHERE id = 1"
        )
        return str(row.fetchone()[0])


def ann(site: RowsSite) -> Any:
    return site.modules.db.session.get(site.modules.User, 1)


def nothing(_site: RowsSite) -> None:
    pass


def write_again(site: RowsSite) -> None:
    ann(site).name = "anna"
    site.modules.db.session.flush()


def write_elsewhere(site: RowsSite) -> None:
    site.modules.db.session.add(site.modules.Thing())
    site.modules.db.session.flush()


def read_again(site: RowsSite) -> None:
    site.modules.db.session.refresh(ann(site))


# What is done after the savepoint was released and before all is rolled back.
AFTER = [nothing, write_again, write_elsewhere, read_again]


@pytest.mark.parametrize("further", AFTER)
def test_a_savepoint_that_the_driver_commits_is_seen_though_all_is_rolled_back(
    site: RowsSite, further: Callable[[RowsSite], None]
) -> None:
    client = site.warm()
    with site.app.app_context():
        with site.modules.db.session.begin_nested():
            ann(site).name = "anne"
        further(site)
        site.modules.db.session.rollback()
    # Python's driver for SQLite sent no BEGIN before SAVEPOINT: RELEASE was a COMMIT.
    assert in_database(site) == "anne"
    assert site.run(client) == "anne"


def test_a_savepoint_within_a_transaction_is_rolled_back_with_it(site: RowsSite) -> None:
    client = site.warm()
    with site.app.app_context():
        write_elsewhere(site)
        with site.modules.db.session.begin_nested():
            ann(site).name = "anne"
        site.modules.db.session.rollback()
    assert in_database(site) == "ann"
    assert not site.spent(client)
    assert site.run(client) == "ann"


def added(site: RowsSite) -> None:
    site.modules.db.session.add(site.modules.Thing(member_id=1))


def changed(site: RowsSite) -> None:
    site.modules.db.session.get(site.modules.Thing, 1).member_id = 2


def deleted(site: RowsSite) -> None:
    db = site.modules.db
    db.session.delete(db.session.get(site.modules.Thing, 1))


def added_unflushed(site: RowsSite) -> None:
    site.modules.db.session.autoflush = False
    added(site)


PENDING = {added: [1, 2], changed: [], deleted: [], added_unflushed: [1]}


@pytest.mark.parametrize("enabled", [True, False], ids=["cached", "Flask alone"])
@pytest.mark.parametrize("write", PENDING)
def test_what_a_load_would_flush_is_seen_by_the_request_that_wrote_it(
    make: MakeSite, write: Callable[[RowsSite], None], enabled: bool
) -> None:
    site = make(Modules(handlers=False), load=["things"], enabled=enabled)
    with site.elsewhere() as db:
        db.session.add(db.Thing(id=1, member_id=1))

    def things() -> list[int]:
        return sorted(thing.id for thing in current_user.things)

    def act() -> list[int]:
        write(site)
        return things()

    client = site.client()
    assert [site.run(client, things) for _ in range(3)] == [[1]] * 3
    assert site.run(client, act) == PENDING[write]
    assert site.run(client, things) == [1], "it was never committed"


def tell_by_id(site: RowsSite) -> None:
    site.cache.invalidate(1)


def tell_all(site: RowsSite) -> None:
    site.cache.clear()


def fence(site: RowsSite) -> None:
    with site.cache.changing(1):
        pass


@pytest.mark.parametrize("told", [tell_by_id, tell_all, fence])
def test_changes_are_told_from_outside_of_any_app(
    site: RowsSite, told: Callable[[RowsSite], None]
) -> None:
    client = site.warm()
    with site.engine.begin() as connection:
        connection.connection.driver_connection.execute("UPDATE member SET name = 'anne'")
    assert site.run(client, name) == "ann", "nobody knows"
    told(site)
    assert site.run(client, name) == "anne"
    assert site.cache.stats().hits
    assert site.cache.explain("/").lane == "cached"
