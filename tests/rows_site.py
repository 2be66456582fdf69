"""A whole site on a database: Flask-SQLAlchemy, Flask-Login and Flask-Principal, and what a
request costs it."""

from __future__ import annotations

import gc
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import Context
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import sqlalchemy as sa
from flask import Flask, g, has_app_context
from flask.testing import FlaskClient
from flask_login import current_user, login_user
from flask_principal import (
    Identity,
    RoleNeed,
    UserNeed,
    identity_changed,
    identity_loaded,
)
from rows_models import Modules

from wsgi_usercache import UserCache
from wsgi_usercache.statistics import Stats

Act = Callable[[], Any]
MakeSite = Callable[..., "RowsSite"]
ANN = {"id": 1, "name": "ann", "roles": ["reader"], "needs": {"reader"}}
ANNE = {**ANN, "name": "anne"}


@dataclass(frozen=True)
class Spent:
    """What one act cost the database, the loader and the handlers."""

    loads: int
    statements: tuple[str, ...]
    signals: int

    def __bool__(self) -> bool:
        return bool(self.loads or self.statements or self.signals)


class RowsSite:
    """One app on one database. User 1 is ann, a reader; user 2 is bob, with no role."""

    def __init__(
        self,
        database: Path | sa.URL,
        modules: Modules | None = None,
        *,
        cache: UserCache | None = None,
        pool: dict[str, Any] | None = None,
        cache_first: bool = False,
        **options: Any,
    ) -> None:
        if options.get("volatile"):
            gc.collect()  # apps of tests gone by have a say in what counts, as long as they live
        self.modules = modules or Modules()
        self.calls: Counter[str] = Counter()
        self.statements: list[str] = []
        self._acts: dict[int, tuple[Act, list[Any]]] = {}
        self._numbers = count()
        self.first: Act = lambda: None  # done before anything else in each request
        self._look = who if self.modules.principals is not None else name
        self.app = app = Flask("site")
        app.extensions["site"] = self
        app.config.update(
            SECRET_KEY="k", TESTING=True, SQLALCHEMY_ENGINE_OPTIONS=pool or {},
            SQLALCHEMY_DATABASE_URI=(
                f"sqlite:///{database}" if isinstance(database, Path) else database
            ),
        )  # fmt: skip
        self.before_roles: Act = lambda: None  # in the identity handler
        self.last: Act = lambda: None  # and after it
        app.before_request(lambda: (self.first(), None)[1])
        app.teardown_request(lambda _error: self.last())
        self.cache = cache or UserCache()
        if cache_first:
            self.cache.init_app(app, **options)
        self.modules.db.init_app(app)
        self.modules.login_manager.init_app(app)
        if self.modules.principals is not None:
            self.modules.principals.init_app(app)
            identity_loaded.connect(self._identify, app)
        app.add_url_rule("/login/<user_id>", view_func=self._login)
        app.add_url_rule("/act/<int:number>", view_func=self._act)
        if not cache_first:
            self.cache.init_app(app, **options)
        self._fill()

    def _fill(self) -> None:
        m = self.modules
        with self.app.app_context():
            self.engine: sa.Engine = m.db.engine
            m.db.create_all()
            reader, writer = m.Role(id=1, name="reader"), m.Role(id=2, name="writer")
            reader.abilities = [m.Ability(id=1, name="read")]
            ann = m.User(id=1, name="ann", password_hash="secret", roles=[reader])
            if m.db.session.get(m.User, 1) is None:  # else another app came first
                m.db.session.add_all([ann, m.User(id=2, name="bob"), writer])
                m.db.session.commit()
            note = self.statements.append  # not the site: classes are remembered, and with them
            sa.event.listen(  # their `db`, its engines and their listeners
                self.engine, "before_cursor_execute", lambda *event: note(event[2])
            )

    def _identify(self, _app: Flask, identity: Identity) -> None:
        """As Flask-Principal's documentation has it."""
        self.before_roles()
        self.calls["signals"] += 1
        identity.user = current_user
        if hasattr(current_user, "id"):
            identity.provides.add(UserNeed(current_user.id))
        for role in getattr(current_user, "roles", ()):
            identity.provides.add(RoleNeed(role.name))

    def _login(self, user_id: str) -> str:
        login_user(self.modules.db.session.get(self.modules.User, user_id))
        identity_changed.send(self.app, identity=Identity(int(user_id)))
        return "in"

    def _act(self, number: int) -> str:
        act, results = self._acts.pop(number)
        results.append(act())
        return "done"

    def client(self, user_id: int = 1) -> FlaskClient:
        """A browser in which that user has logged in."""
        client = self.app.test_client()
        Context().run(client.get, f"/login/{user_id}")
        return client

    def run(self, client: FlaskClient, act: Act | None = None) -> Any:
        """What *act* (a look at the user without) returns in a view, in a request of *client*."""
        number, results = next(self._numbers), []  # type: ignore[var-annotated]
        self._acts[number] = act or self._look, results
        # In the context of a thread of its own where this one is in the middle of something:
        # Flask would have the request share the app context, and with it the session.
        call = Context().run if has_app_context() else lambda get, url: get(url)
        assert call(client.get, f"/act/{number}").status_code == 200
        return results[0]

    def spent(self, client: FlaskClient, act: Act | None = None) -> Spent:
        """What a request of *client* that does *act* costs."""
        loads, signals, statements = (
            self.calls["loads"],
            self.calls["signals"],
            len(self.statements),
        )
        self.run(client, act)
        return Spent(
            self.calls["loads"] - loads,
            tuple(self.statements[statements:]),
            self.calls["signals"] - signals,
        )

    def warm(self, user_id: int = 1) -> FlaskClient:
        """A browser whose user is remembered: its requests cost nothing."""
        client = self.client(user_id)
        self.run(client)
        assert not self.spent(client), "the entry is cold"
        return client

    @contextmanager
    def elsewhere(self) -> Iterator[Any]:
        """A session of the app's, in no request, that is committed at the end."""
        with self.app.app_context():
            yield SimpleNamespace(session=self.modules.db.session, **vars(self.modules))
            self.modules.db.session.commit()

    @property
    def stats(self) -> Stats:
        with self.app.app_context():
            return self.cache.stats()

    def close(self) -> None:
        self.engine.dispose()


@contextmanager
def sites_in(folder: Path) -> Iterator[MakeSite]:
    """Makes sites, each with a database of its own in *folder* unless one is named."""
    sites: list[RowsSite] = []

    def make(
        modules: Modules | None = None, *, database: str | sa.URL | None = None, **options: Any
    ) -> RowsSite:
        if not isinstance(database, sa.URL):
            database = folder / (database or f"{len(sites)}.db")
        sites.append(RowsSite(database, modules, **options))
        return sites[-1]

    yield make
    for each in sites:
        each.close()


def arrive(site: RowsSite, way: str) -> FlaskClient:
    """A browser whose next request is a hit, or a miss."""
    client = site.warm()
    if way == "miss":
        with site.app.app_context():
            site.cache.clear()
    return client


def rename(site: RowsSite, user_id: int = 1, to: str = "anne") -> None:
    """Somebody else, in the middle of whatever this context is doing, changes a user."""

    def act() -> None:
        with site.elsewhere() as db:
            db.session.get(db.User, user_id).name = to

    Context().run(act)


def name() -> Any:
    """The name of the user, if there is one."""
    return getattr(current_user, "name", None)


def who() -> dict[str, Any]:
    """All that a page shows of its user, and what Flask-Principal would let it do."""
    if not current_user.is_authenticated:
        return {"id": None, "needs": needs()}
    roles = [role.name for role in current_user.roles]
    return {"id": current_user.id, "name": current_user.name, "roles": roles, "needs": needs()}


def needs() -> set[str]:
    """The roles that Flask-Principal takes the user to have."""
    identity = getattr(g, "identity", None)
    return (
        {need.value for need in identity.provides if need.method == "role"} if identity else set()
    )


class Background:
    """*act* in a thread of its own, and what came of it."""

    def __init__(self, act: Act) -> None:
        self._result: Any = None
        self._error: BaseException | None = None
        self._act = act
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._result = self._act()
        except BaseException as error:
            self._error = error

    @property
    def result(self) -> Any:
        self._thread.join(10)
        assert not self._thread.is_alive(), "it hangs"
        if self._error is not None:
            raise self._error
        return self._result
