"""Who answers for a file? Flask's own static route, bare or with somebody logged in, and those
that stand in front of it: ours and its peers, each set up as its documentation says."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

from flask import Flask, current_app
from flask_login import LoginManager, UserMixin, current_user, login_user
from flask_principal import Identity, Principal, UserNeed, identity_changed, identity_loaded
from servestatic import ServeStatic
from werkzeug.test import create_environ
from whitenoise import WhiteNoise

from wsgi_usercache import UserCache, UserCacheMiddleware
from wsgi_usercache.app_cache import Clocks

from .racing import Contender

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

BROWSER = {
    "Accept": "text/css,*/*;q=0.1",
    "Accept-Encoding": "gzip, deflate, br, zstd",
    "Accept-Language": "en",
    "User-Agent": "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
}
LONG_AGO = 1_700_000_000  # seconds; when the files were written


@dataclass
class User(UserMixin):
    id: str
    name: str


USERS = {"1": User("1", "ada")}
Loader = Callable[[str], User | None]


def write(folder: Path, name: str, size: int) -> bytes:
    """Write a file of *size* bytes as if long ago and return what is in it."""
    folder.mkdir(exist_ok=True)
    content = Random(name).randbytes(size // 2).hex().encode()  # noqa: S311
    (folder / name).write_bytes(content)
    os.utime(folder / name, (LONG_AGO, LONG_AGO))
    return content


def from_sqlite() -> Loader:
    """Return a loader that asks SQLite, in memory, and keeps nothing."""
    database = sqlite3.connect(":memory:", check_same_thread=False)
    database.execute("CREATE TABLE users (id TEXT PRIMARY KEY, name TEXT)")
    database.executemany(
        "INSERT INTO users VALUES (?, ?)", [(u.id, u.name) for u in USERS.values()]
    )

    def load(user_id: str) -> User | None:
        query = "SELECT id, name FROM users WHERE id = ?"
        row = database.execute(query, (user_id,)).fetchone()
        return None if row is None else User(*row)

    return load


def bare(folder: Path) -> Flask:
    """Flask and nothing else."""
    return Flask("site", static_folder=folder, static_url_path="/static")


def logged_in(folder: Path, load: Loader = USERS.get) -> Flask:
    """Flask-Login and Flask-Principal with its session, as they document it."""
    app = bare(folder)
    app.secret_key = "known to everybody"  # noqa: S105
    LoginManager(app).user_loader(load)
    Principal(app)

    @identity_loaded.connect_via(app)
    def on_identity_loaded(sender: Flask, identity: Identity) -> None:
        identity.user = current_user
        if hasattr(current_user, "id"):
            identity.provides.add(UserNeed(current_user.id))

    app.extensions["on_identity_loaded"] = on_identity_loaded  # signals hold it weakly

    @app.post("/login")
    def login() -> str:
        login_user(USERS["1"])
        identity_changed.send(current_app._get_current_object(), identity=Identity("1"))
        return "welcome"

    @app.get("/")
    def page() -> str:
        return str(getattr(current_user, "name", "nobody"))

    return app


def ours(folder: Path) -> Flask:
    """The same with our middleware."""
    app = logged_in(folder)
    app.wsgi_app = UserCacheMiddleware(app.wsgi_app, app, state_file=f"{folder}.state")
    return app


def whitenoise(folder: Path) -> Flask:
    """The same with WhiteNoise."""
    app = logged_in(folder)
    app.wsgi_app = WhiteNoise(app.wsgi_app, root=folder, prefix="static/")
    return app


def servestatic(folder: Path) -> Flask:
    """The same with ServeStatic."""
    app = logged_in(folder)
    app.wsgi_app = ServeStatic(app.wsgi_app, root=folder, prefix="static/")
    return app


def constant(status: str, headers: list[tuple[str, str]], body: bytes) -> WSGIApplication:
    """An application that always says the same: what asking costs."""
    chunks = [body]

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
        start_response(status, headers)
        return chunks

    return app


@dataclass
class Ticking:
    """A clock that is moved by hand."""

    now: float = 1e6

    def __call__(self) -> float:
        return self.now


def ours_much_later(folder: Path) -> WSGIApplication:
    """Ours, asked for everything an hour after the last time."""
    clock = Ticking()

    class TickingCache(UserCache):
        clocks = Clocks(steady=clock)

    app = logged_in(folder)
    TickingCache(state_file=f"{folder}.later").init_app(app)

    def later(environ: WSGIEnvironment, start_response: StartResponse) -> object:
        clock.now += 3600
        return app(environ, start_response)

    return later


def cookie_of(folder: Path) -> str:
    """Return the cookie of somebody logged in, which every site here accepts."""
    client = logged_in(folder).test_client()
    client.post("/login")
    cookie = client.get_cookie("session")
    if cookie is None:
        raise RuntimeError("nobody was let in")
    return f"session={cookie.value}"


def asking(app: WSGIApplication, path: str, **headers: str) -> Contender:
    """Return *app*, asked for *path* as a browser would."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Contender(app, partial(dict, create_environ(path, headers={**BROWSER, **named})))
