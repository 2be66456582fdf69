"""Users who log in with one id and are known by another: right after each change, or not kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from flask_login import current_user
from odd_site import MakeOddSite, OddSite, odd_sites_in
from sites import Site, User

from wsgi_usercache import UserCache

_numbers = count()


@pytest.fixture
def make(tmp_path: Path, make_cache: Callable[..., UserCache]) -> Iterator[MakeOddSite]:
    with odd_sites_in(tmp_path, make_cache) as make_site:
        yield make_site


@dataclass(frozen=True, kw_only=True)
class Way:
    """What the session says of user 1, and what the user says."""

    in_session: str
    said: Callable[[Any], str]
    method: str = "get_id"  # the manager's `id_attribute`


def as_number(user_id: str) -> int:
    return int(user_id.removeprefix("user-").removeprefix("token-").partition(":")[0])


OWN = Way(in_session="user-1", said=lambda user: f"user-{user.id}")
OTHER = {
    "an attribute of its own": Way(
        in_session="token-1", said=lambda user: f"token-{user.id}", method="get_token"
    ),
    "two spellings": Way(in_session="1", said=lambda user: f"user-{user.id}"),
    "a timed id": Way(in_session="1:0", said=lambda user: f"{user.id}:{next(_numbers)}"),
}


def site_of(make: MakeOddSite, way: Way) -> tuple[OddSite, Any]:
    site = make()
    made = site.user_class(**{way.method: way.said})
    site.manager.id_attribute = way.method
    site.manager.user_loader(lambda user_id: site.db.session.get(made, as_number(user_id)))
    site.fill(made(name="ann"))
    return site, made


def rename_unseen(site: OddSite, to: str) -> None:
    """As another driver would."""
    with site.app.app_context(), site.db.engine.begin() as connection:
        driver = connection.connection.driver_connection
        driver.execute(f"UPDATE user SET name = '{to}'")


def tell(site: OddSite, made: Any) -> None:
    with site.app.app_context():
        site.cache.invalidate(site.db.session.get(made, 1))


@pytest.mark.parametrize("way", OTHER.values(), ids=OTHER)
def test_users_who_say_another_id_than_the_session_are_loaded_each_time(
    make: MakeOddSite, way: Way
) -> None:
    site, made = site_of(make, way)
    client = site.client(way.in_session)
    assert [client.get("/").text for _ in range(3)] == ["ann"] * 3
    site.change(made, name="anne")
    assert client.get("/").text == "anne"
    rename_unseen(site, "anna")
    tell(site, made)
    assert client.get("/").text == "anna"
    assert site.stats.unstored == {"another id": 5}
    assert site.stats.hits == 0


def test_an_id_of_the_users_own_making_is_fine_if_session_and_user_agree(
    make: MakeOddSite,
) -> None:
    site, made = site_of(make, OWN)
    client = site.warm(OWN.in_session)
    site.change(made, name="anne")
    assert client.get("/").text == "anne"
    client = site.warm(OWN.in_session)
    rename_unseen(site, "anna")
    assert client.get("/").text == "anne"
    tell(site, made)
    assert client.get("/").text == "anna"
    assert "another id" not in site.stats.unstored


def test_a_user_whose_id_changes_with_the_row_is_not_kept_under_the_old_one(
    make: MakeOddSite,
) -> None:
    way = Way(in_session="1:ann", said=lambda user: f"{user.id}:{user.name}")
    site, made = site_of(make, way)
    client = site.client(way.in_session)
    assert [client.get("/").text for _ in range(3)] == ["ann"] * 3
    unstored = site.stats.unstored.get("another id", 0)
    for name in ("anne", "anna"):
        site.change(made, name=name)
        assert [client.get("/").text for _ in range(2)] == [name] * 2
    assert site.stats.unstored["another id"] == unstored + 4


def no_id(_user: Any) -> str:
    raise LookupError("no id")


PLAIN = {"two spellings": lambda user: f"user-{user.id}", "none at all": no_id}


@pytest.mark.parametrize("said", PLAIN.values(), ids=PLAIN)
def test_users_that_are_no_rows_are_loaded_each_time_if_they_say_another_id(
    site: Site, said: Callable[[Any], str]
) -> None:
    class Odd(User):
        get_id = said

    @site.manager.user_loader
    def load(user_id: str) -> User | None:
        found = site.load(user_id)
        return found and Odd(user_id, name=found.name)

    site.app.add_url_rule("/name", view_func=lambda: current_user.name)
    client = site.app.test_client()
    with client.session_transaction() as session:
        session["_user_id"], session["_fresh"] = "1", True
    assert [client.get("/name").text for _ in range(3)] == ["ann"] * 3
    site.users["1"]["name"] = "anne"
    if said is not no_id:
        site.cache.invalidate(Odd("1"))
    assert client.get("/name").text == "anne"
    assert site.loads == ["1"] * 4
    assert site.cache.stats().unstored == {"another id": 4}
