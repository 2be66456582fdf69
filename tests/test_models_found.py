"""What random models and random acts have found, one small application for each."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from flask_login import current_user
from odd_site import MakeOddSite, OddSite, odd_sites_in
from sqlalchemy.orm import defer, lazyload, load_only, raiseload, with_loader_criteria

from wsgi_usercache import UserCache

Options = Callable[[Any, Any], Any]

both = pytest.mark.parametrize("enabled", [True, False], ids=["cached", "Flask alone"])


@pytest.fixture
def make(tmp_path: Path, make_cache: Callable[..., UserCache]) -> Iterator[MakeOddSite]:
    with odd_sites_in(tmp_path, make_cache) as make_site:
        yield make_site


def with_things(site: OddSite, **relation: Any) -> tuple[Any, Any]:
    """Users with a title and things; ann has one that is for sale and one that is not."""
    db = site.db

    class Thing(db.Model):
        id = db.Column(db.Integer, primary_key=True)
        user_id = db.Column(db.ForeignKey("user.id"))
        title = db.Column(db.String, unique=True)
        for_sale = db.Column(db.Boolean)

    things = db.relationship(Thing, order_by=Thing.id, **relation)
    User = site.user_class(bio=db.Column(db.String), things=things)
    site.fill(User(name="ann", bio="long"), User(name="bob"))
    site.fill(*(Thing(user_id=1, title=t, for_sale=s) for t, s in (("hat", True), ("cap", False))))
    return User, Thing


def pages(site: OddSite, number: int = 3) -> list[str]:
    """What one browser gets to see; the cache, if it is on, has its part in it."""
    client = site.client()
    answers = [client.get("/") for _ in range(number)]
    assert {answer.status_code for answer in answers} == {200}
    return [answer.text for answer in answers]


def told(act: Callable[[], Any]) -> Any:
    """What *act* answers, or what it raises."""
    try:
        return act()
    except sa.exc.SQLAlchemyError as error:
        return type(error).__name__


# What the loader asks for, and what every page then shows.
LOADERS: dict[str, tuple[Options, str]] = {
    "criteria": (lambda u, t: with_loader_criteria(t, t.for_sale.is_(True)), "['hat'] long"),
    "raising": (lambda u, t: raiseload(u.things), "InvalidRequestError long"),
    "raising column": (
        lambda u, t: defer(u.bio, raiseload=True),
        "['hat', 'cap'] InvalidRequestError",
    ),
    "raising beyond": (
        lambda u, t: lazyload(u.things).defer(t.title, raiseload=True),
        "InvalidRequestError long",
    ),
}  # fmt: skip


@both
@pytest.mark.parametrize("asked", LOADERS)
def test_what_the_loader_asked_to_load_how_holds_for_the_user_from_the_cache(
    make: MakeOddSite, asked: str, enabled: bool
) -> None:
    site = make(enabled=enabled)
    User, Thing = with_things(site)
    option, page = LOADERS[asked]

    @site.manager.user_loader
    def load(user_id: str) -> Any:
        return site.db.session.get(User, int(user_id), options=[option(User, Thing)])

    def look() -> str:
        titles = told(lambda: [thing.title for thing in current_user.things])
        return f"{titles} {told(lambda: current_user.bio)}"

    site.look = look
    assert pages(site) == [page] * 3


@both
def test_a_column_the_loader_put_off_stays_put_off(make: MakeOddSite, enabled: bool) -> None:
    site = make(enabled=enabled)
    User, _ = with_things(site)

    @site.manager.user_loader
    def load(user_id: str) -> Any:
        return site.db.session.get(User, int(user_id), options=[load_only(User.id)])

    def look() -> str:
        user = current_user._get_current_object()
        return f"{user.name} {'bio' in sa.inspect(user).unloaded}"

    site.look = look
    assert pages(site) == ["ann True"] * 3


def test_a_relation_that_may_not_be_loaded_lazily_makes_no_error_in_load(
    make: MakeOddSite,
) -> None:
    site = make(load=["things"])
    with_things(site, lazy="raise")
    assert pages(site) == ["ann"] * 3


@both
@pytest.mark.parametrize("way", ["hit", "miss"])
def test_a_roll_back_has_the_user_read_again(make: MakeOddSite, way: str, enabled: bool) -> None:
    """If there is something to roll back: a look at the user alone leaves no transaction."""
    site = make(enabled=enabled)
    User, Thing = with_things(site)
    client = site.client()
    if way == "hit":
        assert [client.get("/").text for _ in range(3)] == ["ann"] * 3

    def look() -> str:
        before = current_user.name
        site.db.session.get(Thing, 1)
        with site.db.engine.begin() as connection:
            connection.execute(sa.update(User.__table__).values(name="anne"))
        site.db.session.rollback()
        return f"{before} {current_user.name}"

    site.look = look
    assert client.get("/").text == "ann anne"


@both
def test_what_load_names_is_loaded_without_a_flush(make: MakeOddSite, enabled: bool) -> None:
    site = make(enabled=enabled, load=["things"])
    User, Thing = with_things(site)
    db = site.db

    def look() -> str:
        user = db.session.get(User, 1)  # held by the session, where the loader finds it
        db.session.add(Thing(title="hat"))  # there is one; it gets its title later
        return f"{current_user.name} {user.name} {len(db.session.new)}"

    site.look = look
    assert pages(site, 1) == ["ann ann 1"]
