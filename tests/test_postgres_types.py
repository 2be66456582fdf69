"""Users with the values that PostgreSQL's own types hold: right on a hit, and nobody else's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import date
from typing import Any
from uuid import UUID

import pytest
import sqlalchemy as sa
from flask import Flask
from flask_login import LoginManager, UserMixin, current_user
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy.dialects.postgresql import ARRAY, DATERANGE, INET, JSONB, Range
from sqlalchemy.ext.mutable import MutableList

from wsgi_usercache import UserCache

pytest_plugins = ["postgres"]

VALUES = {
    "tags": ["a", "b"],
    "grid": [[1, 2], [3, 4]],
    "tracked": ["t"],
    "data": {"list": [1]},
    "token": UUID(int=7),
    "address": "10.0.0.1",
    "period": Range(date(2024, 1, 1), date(2025, 1, 1)),
}
Ask = Callable[[Callable[[Any], Any]], Any]


@pytest.fixture
def ask(database: sa.URL, make_cache: Callable[..., UserCache]) -> Iterator[Ask]:
    """What an act answers for the user of a request of its own, which ends without a commit."""
    app = Flask("types")
    app.config.update(SECRET_KEY="k", TESTING=True, SQLALCHEMY_DATABASE_URI=database)
    db, manager, acts = SQLAlchemy(app), LoginManager(app), []

    class User(UserMixin, db.Model):  # type: ignore[name-defined, misc]
        id = sa.Column(sa.Integer, primary_key=True)
        tags = sa.Column(ARRAY(sa.Text))
        grid = sa.Column(ARRAY(sa.Integer, dimensions=2))
        tracked = sa.Column(MutableList.as_mutable(ARRAY(sa.Text)))  # type: ignore[arg-type]
        data = sa.Column(JSONB)
        token = sa.Column(sa.Uuid)
        address = sa.Column(INET)
        period = sa.Column(DATERANGE)

    manager.user_loader(lambda user_id: db.session.get(User, int(user_id)))
    app.add_url_rule("/", "page", lambda: acts.append(acts.pop()(current_user)) or "done")
    cache = make_cache()
    cache.init_app(app)
    client = app.test_client()
    with client.session_transaction() as session:
        session["_user_id"], session["_fresh"] = "1", True

    def answer(act: Callable[[Any], Any]) -> Any:
        acts.append(act)
        assert client.get("/").text == "done"
        return acts.pop()

    with app.app_context():
        db.create_all()
        db.session.add(User(id=1, **VALUES))
        db.session.commit()
    answer.stats = cache.stats  # type: ignore[attr-defined]
    yield answer
    with app.app_context():
        db.engine.dispose()


def seen(user: Any) -> dict[str, Any]:
    found = {name: getattr(user, name) for name in VALUES}
    return {**found, "address": str(found["address"])}


def test_values_of_all_types_are_those_of_the_database(ask: Any) -> None:
    assert [ask(seen) for _ in range(3)] == [VALUES] * 3
    assert ask.stats().hits == 2


CHANGES = {
    "array": lambda user: user.tags.append("mine"),
    "array of arrays": lambda user: user.grid[0].append(9),
    "tracked array": lambda user: user.tracked.append("mine"),
    "json": lambda user: user.data["list"].append(2),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_one_request_does_to_a_value_no_other_sees(ask: Any, change: str) -> None:
    assert ask(seen) == VALUES
    for _ in range(2):  # on what was loaded, and on what was thawed
        ask(CHANGES[change])
        assert ask(seen) == VALUES
    assert ask.stats().loads == 1
