"""A bare site on a database, whose models are made to measure by each test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from flask import Flask
from flask.testing import FlaskClient
from flask_login import LoginManager, UserMixin, current_user
from flask_sqlalchemy import SQLAlchemy

from wsgi_usercache import UserCache
from wsgi_usercache.statistics import Stats

MakeOddSite = Callable[..., "OddSite"]


def name() -> str:
    """The name of the user, if there is one."""
    return getattr(current_user, "name", "nobody")


class OddSite:
    """One app on one database; its page shows what *look* answers.

    Users are found by their primary key until the test sets another loader.
    """

    def __init__(self, folder: Path, cache: UserCache, *, binds: tuple[str, ...] = ()) -> None:
        self.look: Callable[[], Any] = name
        self.app = app = Flask("odd")
        app.config.update(
            SECRET_KEY="k", TESTING=True, SQLALCHEMY_DATABASE_URI=f"sqlite:///{folder}/odd.db",
            SQLALCHEMY_BINDS={bind: f"sqlite:///{folder}/{bind}.db" for bind in binds},
        )  # fmt: skip
        self.db: Any = SQLAlchemy(app)
        self.manager = LoginManager(app)
        self.cache = cache
        app.add_url_rule("/", "page", view_func=lambda: str(self.look()))
        cache.init_app(app)

    def user_class(self, **more: Any) -> Any:
        """A mapped class of users with an id, a name and *more*, found by their id."""
        db = self.db
        columns = {
            "id": db.Column(db.Integer, primary_key=True),
            "name": db.Column(db.String),
        }
        made = type("User", (UserMixin, db.Model), {"__module__": __name__, **columns, **more})
        self.manager.user_loader(lambda user_id: db.session.get(made, int(user_id)))
        return made

    def fill(self, *rows: Any) -> None:
        """Have these rows in the database, in that order."""
        with self.app.app_context():
            self.db.create_all()
            for row in rows:
                self.db.session.add(row)
                self.db.session.flush()
            self.db.session.commit()

    def client(self, user_id: str = "1") -> FlaskClient:
        """A browser whose session says that this user has logged in."""
        client = self.app.test_client()
        with client.session_transaction() as session:
            session["_user_id"], session["_fresh"] = user_id, True
        return client

    def warm(self, user_id: str = "1") -> FlaskClient:
        """A browser whose user is remembered."""
        client = self.client(user_id)
        pages = [client.get("/").text for _ in range(3)]
        assert len(set(pages)) == 1
        hits = self.stats.hits
        client.get("/")
        assert self.stats.hits == hits + 1, "the entry is cold"
        return client

    def change(self, row: type, key: Any = 1, **new: Any) -> None:
        """Somebody changes a row, and commits."""
        with self.app.app_context():
            found = self.db.session.get(row, key)
            for attribute, value in new.items():
                setattr(found, attribute, value)
            self.db.session.commit()

    @property
    def stats(self) -> Stats:
        return self.cache.stats()

    def close(self) -> None:
        with self.app.app_context():
            for engine in self.db.engines.values():
                engine.dispose()


@contextmanager
def odd_sites_in(folder: Path, make_cache: Callable[..., UserCache]) -> Iterator[MakeOddSite]:
    """Makes sites, each with databases of its own; keywords are the options of the cache."""
    sites: list[OddSite] = []

    def make(*, binds: tuple[str, ...] = (), **options: Any) -> OddSite:
        own = folder / str(len(sites))
        own.mkdir()
        sites.append(OddSite(own, make_cache(**options), binds=binds))
        return sites[-1]

    yield make
    for each in sites:
        each.close()
