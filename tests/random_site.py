"""An application with random models, and all that can be seen there of a plan of acts."""

from __future__ import annotations

import logging
import warnings
from contextvars import Context
from typing import Any

import random_past  # noqa: F401  # its acts
import random_writes  # noqa: F401
import sqlalchemy as sa
from flask import Flask, g
from flask.testing import FlaskClient
from flask_login import LoginManager, current_user
from flask_principal import Identity, Principal, RoleNeed, UserNeed, identity_loaded
from random_acts import ACTS, At
from random_features import Features
from random_loaders import WITH_OPTIONS, user_of
from random_models import Models, rows_of
from sqlalchemy.orm.exc import DetachedInstanceError

from wsgi_usercache import UserCache

Step = dict[str, Any]  # path, client, acts, on_error, end
CLIENTS = ("ann", "bob")  # users 1 and 2
LANES = ("/act", "/fresh", "/file")

log = logging.getLogger("random_site")
log.disabled = True  # what goes wrong is compared


class RandomSite:
    """One app on one database.

    Where the cache is off the loader reads itself what `load` names.
    """

    def __init__(
        self, features: Features, prefix: str, url: str, cache: UserCache, *, cached: bool
    ) -> None:
        self.features = features
        self.models = Models(features, prefix)
        self.cache = cache
        self.cached = cached
        self.values = 0  # made up in this run
        self._step: Step = {}
        self._seen: list[Any] = []
        self._clients: list[FlaskClient] = []
        self.app = app = Flask("random")
        app.logger = log
        app.config.update(
            SECRET_KEY="k", SQLALCHEMY_DATABASE_URI=url, SQLALCHEMY_ENGINE_OPTIONS=_engine(url),
            SQLALCHEMY_BINDS={"other": url.replace(".db", ".other.db")},
        )  # fmt: skip
        self.models.db.init_app(app)
        LoginManager(app).user_loader(self._load)
        if features["handlers"]:
            principal = Principal(app, use_sessions=False)
            principal.identity_loader(_identity)
            identity_loaded.connect(_provide, app)
        for path in LANES:
            app.add_url_rule(path, path, view_func=self._act)
        cache.init_app(app)
        with app.app_context():
            if url.startswith("sqlite"):
                for engine in self.models.db.engines.values():
                    sa.event.listen(engine, "connect", _quick)
            self.models.db.create_all()

    def run(self, plan: list[Step]) -> list[Any]:
        """All that is seen while the steps of *plan* are done, and the tables at the end."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self._begin()
            for number, step in enumerate(plan):
                self._seen.append(f"step {number}")
                self._seen.append(self._do(step))
            return [*self._seen, *self._tables()]

    def visit(self, client: int, acts: list[Any]) -> Any:
        """What another request sees, while one is under way."""
        step = {"path": "/act", "client": client, "acts": acts, "on_error": "pass", "end": ""}
        return Context().run(self._do, step)

    def elsewhere(self, acts: list[Any]) -> list[Any]:
        """What another session sees that does *acts* and commits."""

        def there() -> list[Any]:
            with self.app.app_context():
                at = At(self)
                seen = [ACTS[name](at, *arguments) for name, *arguments in acts]
                at.session.commit()
                return seen

        return Context().run(there)

    def close(self) -> None:
        with self.app.app_context():
            for engine in self.models.db.engines.values():
                engine.dispose()

    def _begin(self) -> None:
        db = self.models.db
        self.values, self._seen = 0, []
        with self.app.app_context():
            for engine, table in reversed(self._every_table()):
                with engine.begin() as connection:
                    if "boss_id" in table.c:
                        connection.execute(sa.update(table).values(boss_id=None))
                    connection.execute(sa.delete(table))
            for rows in rows_of(self.models):
                db.session.add_all(rows)
                db.session.flush()
            db.session.commit()
            self.cache.clear()
        self._clients = [self._client(number) for number in range(len(CLIENTS))]

    def _client(self, number: int) -> FlaskClient:
        client = self.app.test_client()
        by_name = self.features["login"] == "name"
        with client.session_transaction() as session:
            session["_user_id"] = CLIENTS[number] if by_name else str(number + 1)
            session["_fresh"] = True
        return client

    def _do(self, step: Step) -> Any:
        outer, self._step = self._step, step
        try:
            if step["path"]:
                return self._clients[step["client"]].get(step["path"]).status_code
            with self.app.app_context():
                return self._acts(step)
        except Exception as error:
            return type(error).__name__
        finally:
            self._step = outer

    def _act(self) -> str:
        step = self._step
        if step["path"] == "/file" and self.features["handlers"]:
            g.identity.provides
        return self._acts(step)

    def _acts(self, step: Step) -> str:
        """Do the acts of *step*. What goes wrong ends it, is rolled back or is passed over."""
        at = At(self)
        if self.features["loader"] in WITH_OPTIONS:
            at.row("me")
        for act in step["acts"]:
            try:
                self._seen.append((act, _watched(at, act)))
            except Exception as error:
                self._seen.append((act, type(error).__name__))
                if step["on_error"] == "raise" or act[0] == "fail":
                    raise
                if step["on_error"] == "rollback":
                    at.roll_back()
        if step["end"] == "commit":
            at.session.commit()
        return "done"

    def _load(self, user_id: str) -> Any:
        user = user_of(self.models, user_id)
        if user is not None and not self.cached:
            with self.models.db.session.no_autoflush:
                for path in self.features["load"]:
                    _read(user, path.split("."))
        return user

    def _every_table(self) -> list[tuple[sa.Engine, sa.Table]]:
        db = self.models.db
        return [
            (db.engines[bind], table)
            for bind, metadata in db.metadatas.items()
            for table in metadata.sorted_tables
        ]

    def _tables(self) -> list[Any]:
        found = []
        with self.app.app_context():
            for engine, table in self._every_table():
                with engine.connect() as connection:
                    rows = sorted(map(str, connection.execute(table.select())))
                found.append((table.name.partition("_")[2], rows))
        return found


def _watched(at: At, act: Any) -> Any:
    """What *act* answers, and of what it warned."""
    name, *arguments = act
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        result = ACTS[name](at, *arguments)
    return result, sorted({each.category.__name__ for each in warned})


def _read(row: Any, steps: list[str]) -> None:
    """Read what the option `load` names, as it does itself."""
    if row is None or not steps:
        return
    try:
        value = getattr(row, steps[0])
    except DetachedInstanceError:
        return
    members = value.values() if isinstance(value, dict) else value
    for member in members if isinstance(value, (list, set, dict)) else [value]:
        _read(member, steps[1:])


def _identity() -> Identity | None:
    return Identity(current_user.get_id()) if current_user.is_authenticated else None


def _provide(_app: Flask, identity: Identity) -> None:
    """As Flask-Principal's documentation has it."""
    identity.user = current_user
    if hasattr(current_user, "id"):
        identity.provides.add(UserNeed(current_user.id))
    for role in getattr(current_user, "roles", ()):
        identity.provides.add(RoleNeed(role.name))


def _engine(url: str) -> dict[str, Any]:
    """Who meets a lock is told at once."""
    sqlite = url.startswith("sqlite")
    return {"connect_args": {"timeout": 0} if sqlite else {"options": "-c lock_timeout=20ms"}}


def _quick(connection: Any, _record: Any) -> None:
    connection.execute("PRAGMA journal_mode = WAL")  # who reads keeps nobody from committing
    connection.execute("PRAGMA synchronous = OFF")
    connection.execute("PRAGMA foreign_keys = ON")
