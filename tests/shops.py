"""A small app with users in a dict, not yet cached, and the ways to install the cache on it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from flask import Flask, request
from flask.testing import FlaskClient
from flask_login import LoginManager, UserMixin, current_user, login_user
from werkzeug.test import Client

from wsgi_usercache import UserCache, UserCacheMiddleware

PATIENCE = 10.0  # seconds after which a test that hangs is given up

LANE, USER_ID = "wsgi_usercache.lane", "wsgi_usercache.user_id"


class User(UserMixin):
    def __init__(self, id: str, name: str) -> None:
        self.id = id
        self.name = name


class Shop:
    """An app with users in a dict, not yet cached. *loads* are the calls of its user loader."""

    def __init__(self, folder: Path, name: str = "shop") -> None:
        self.names = {"1": "ann", "2": "bob"}
        self.loads: list[str] = []
        self.environs: list[dict[str, Any]] = []
        self.during_load: Callable[[], object] = lambda: None
        self.app = app = Flask(name, static_folder=str(folder), static_url_path="/static")
        app.secret_key = "key"
        LoginManager(app).user_loader(self.load)
        app.add_url_rule("/login/<id>", view_func=self.login)
        app.add_url_rule("/who", view_func=self.who)
        app.add_url_rule("/admin", view_func=self.who, endpoint="admin")
        app.add_url_rule("/ping", view_func=self.ping)

    def load(self, id: str) -> User | None:
        self.loads.append(id)
        name = self.names.get(id)
        self.during_load()
        return None if name is None else User(id, name)

    def login(self, id: str) -> str:
        login_user(User(id, self.names[id]))
        return "in"

    def who(self) -> str:
        name = getattr(current_user, "name", "nobody")
        self.environs.append(dict(request.environ))
        return name

    def ping(self) -> str:
        self.environs.append(dict(request.environ))
        return "pong"

    def client(self, id: str | None = "1") -> FlaskClient:
        client = self.app.test_client()
        if id is not None:
            client.get(f"/login/{id}")
        return client

    def calls(self, act: Callable[[], object]) -> int:
        """How often the loader is called while *act* is done."""
        before = len(self.loads)
        act()
        return len(self.loads) - before

    def pass_by(self, path: str) -> tuple[bytes, dict[str, Any]]:
        """The body for *path*, and what of ours stands in the environ when the answer starts."""
        seen: dict[str, Any] = {}

        def noting(environ: dict[str, Any], start_response: Any) -> Any:
            def start(*args: Any) -> Any:
                seen.update({key: held for key, held in environ.items() if "usercache." in key})
                return start_response(*args)

            return self.app(environ, start)

        return Client(noting).get(path, buffered=True).data, seen


Install = Callable[..., Any]


def as_extension(app: Flask, **options: Any) -> Any:
    UserCache(app, **options)
    return app.extensions["user_cache"]


def as_factory(app: Flask, **options: Any) -> Any:
    UserCache().init_app(app, **options)
    return app.extensions["user_cache"]


def as_middleware(app: Flask, **options: Any) -> Any:
    app.wsgi_app = UserCacheMiddleware(app.wsgi_app, app, **options)  # type: ignore[method-assign]
    return app.extensions["user_cache"]


def new_shop(folder: Path, name: str = "shop") -> Shop:
    """A shop with one static file."""
    (folder / "a.css").write_text("body {}")
    return Shop(folder, name)
