"""Users from the cache whose rows somebody changed unseen: what goes wrong goes wrong once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from flask_login import current_user
from rows_site import MakeSite, Modules, RowsSite, sites_in
from sqlalchemy.orm.exc import ObjectDeletedError, StaleDataError

pytest_plugins = ["postgres"]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[MakeSite]:
    with sites_in(tmp_path) as make_site:
        yield make_site


@pytest.fixture
def site(make: MakeSite) -> RowsSite:
    return make()


def unseen(site: RowsSite, statement: str) -> None:
    """Another program writes."""
    connection = site.engine.raw_connection()
    connection.cursor().execute(statement)
    connection.commit()
    connection.close()


def write(site: RowsSite) -> None:
    current_user.name = "anne"
    site.modules.db.session.commit()


def expire(site: RowsSite) -> Any:
    site.modules.db.session.commit()
    return current_user.name


def clear_roles(site: RowsSite) -> None:
    current_user.roles.clear()
    site.modules.db.session.commit()


ENDS: dict[str, tuple[str, Callable[[RowsSite], Any], type[Exception]]] = {
    "written": ("DELETE FROM member WHERE id = 1", write, StaleDataError),
    "read after a commit": ("DELETE FROM member WHERE id = 1", expire, ObjectDeletedError),
    "a collection cleared": ("DELETE FROM roles", clear_roles, StaleDataError),
}


@pytest.mark.parametrize("end", ENDS)
def test_an_error_that_says_rows_are_outdated_has_its_users_loaded_again(
    site: RowsSite, end: str
) -> None:
    statement, act, error = ENDS[end]
    client, other = site.warm(), site.warm(2)
    unseen(site, statement)
    with pytest.raises(error):
        site.run(client, lambda: act(site))
    assert site.spent(client).loads == 1
    assert not site.spent(other)


def test_all_users_that_came_from_the_cache_in_that_request_are_loaded_again(
    site: RowsSite,
) -> None:
    client, other = site.warm(), site.warm(2)
    unseen(site, "DELETE FROM member WHERE id = 1")

    def act() -> None:
        assert site.modules.login_manager.user_callback("2").name == "bob"
        write(site)

    with pytest.raises(StaleDataError):
        site.run(client, act)
    assert site.spent(client).loads == 1
    assert site.spent(other).loads == 1


def test_an_error_the_view_deals_with_leaves_nobody(site: RowsSite) -> None:
    client = site.warm()
    unseen(site, "DELETE FROM roles")

    def act() -> None:
        with pytest.raises(StaleDataError):
            clear_roles(site)
        site.modules.db.session.rollback()

    site.run(client, act)
    assert not site.spent(client, lambda: current_user.name)


@pytest.mark.parametrize("error", [ValueError, StaleDataError])
def test_other_errors_cost_no_load(make: MakeSite, error: type[Exception]) -> None:
    """Nor does one of a request whose user did not come out of the cache."""
    site = make()
    client = site.client() if error is StaleDataError else site.warm()

    def act() -> None:
        assert current_user.name == "ann"
        raise error("of the view's own")  # made here: it keeps its traceback, and so the site

    with pytest.raises(error):
        site.run(client, act)
    assert site.spent(client).loads == 0


@pytest.mark.parametrize("name", ["SQLite", "PostgreSQL"])
def test_a_row_locked_for_update_is_the_one_the_session_holds(
    make: MakeSite, name: str, request: pytest.FixtureRequest
) -> None:
    """As with every row a session holds; `populate_existing` reads it anew."""
    site = make(database=None if name == "SQLite" else request.getfixturevalue("database"))
    client, user = site.warm(), site.modules.User
    unseen(site, "UPDATE member SET name = 'anne' WHERE id = 1")
    locked = sa.select(user).where(user.id == 1).with_for_update()

    def read(**options: Any) -> str:
        assert current_user.id == 1
        return site.modules.db.session.scalars(locked.execution_options(**options)).one().name

    assert site.run(client, read) == "ann"
    assert site.run(client, lambda: read(populate_existing=True)) == "anne"


def test_who_reads_first_and_looks_then_has_what_was_read(make: MakeSite) -> None:
    site = make(Modules(handlers=False))
    client, m = site.warm(), site.modules
    unseen(site, "UPDATE member SET name = 'anne' WHERE id = 1")

    def act() -> str:
        held = m.db.session.scalars(sa.select(m.User).where(m.User.id == 1)).one()
        return f"{held.name} {current_user.name}"

    assert site.run(client, act) == "anne anne"
