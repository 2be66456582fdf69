"""A wrong name in the settings that only shows once a user was loaded: no Flask-SQLAlchemy tells
which class users are."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from flask import Flask
from flask_login import LoginManager, UserMixin, current_user, login_user
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    mapped_column,
    scoped_session,
    sessionmaker,
)

from wsgi_usercache import UserCache


class Base(DeclarativeBase):
    pass


class Person(UserMixin, Base):
    __tablename__ = "person"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


MakeApp = Callable[..., tuple[Flask, UserCache]]


@pytest.fixture
def make_app(tmp_path: Path) -> Iterator[MakeApp]:
    engine = sa.create_engine(f"sqlite:///{tmp_path}/people.sqlite")

    def make(**options: object) -> tuple[Flask, UserCache]:
        sessions = scoped_session(sessionmaker(engine))
        Base.metadata.create_all(engine)
        with Session(engine) as session:
            session.add(Person(id=1, name="ann"))
            session.commit()
        app = Flask("late")
        app.secret_key = "k"
        login_manager = LoginManager(app)
        login_manager.user_loader(lambda user_id: sessions.get(Person, user_id))
        app.teardown_appcontext(lambda _error: sessions.remove())
        app.add_url_rule(
            "/in", "enter", view_func=lambda: str(login_user(sessions.get(Person, 1)))
        )
        app.add_url_rule("/", "home", view_func=lambda: current_user.name)
        cache = UserCache(app, session=sessions, **options)
        return app, cache

    yield make
    engine.dispose()


def errors(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.levelno == logging.ERROR]


def test_a_wrong_name_turns_the_cache_off_once_a_user_was_loaded(
    make_app: MakeApp, caplog: pytest.LogCaptureFixture
) -> None:
    app, cache = make_app(load=("rolls",))
    client = app.test_client()
    client.get("/in")
    assert [client.get("/").text for _ in range(3)] == ["ann"] * 3
    assert cache.stats().hits == 0
    assert len(errors(caplog)) == 1
    assert "USERCACHE_LOAD has 'rolls'" in errors(caplog)[0]
    assert "USERCACHE_LOAD has 'rolls'" in cache.explain("/").reason


def test_right_names_leave_it_on(make_app: MakeApp, caplog: pytest.LogCaptureFixture) -> None:
    app, cache = make_app(volatile=("name",))
    client = app.test_client()
    client.get("/in")
    assert [client.get("/").text for _ in range(4)] == ["ann"] * 4
    assert cache.stats().hits >= 2  # the first load may have taught it the table
    assert not caplog.records
