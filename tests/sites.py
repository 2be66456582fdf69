"""An application with users in a dict, and a count of all that is done for a request."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flask_login
from flask import Flask, Response, g, jsonify, request, session
from flask.json.tag import TaggedJSONSerializer
from flask.testing import FlaskClient
from flask_login import LoginManager, UserMixin, current_user, signals
from werkzeug.http import parse_cookie

from wsgi_usercache import UserCache


class Clock:
    """The time, as long as nobody lets it pass."""

    def __init__(self) -> None:
        self.now = 1_000.0
        self.signing = 0.0  # how far the wall clock is ahead of the machine's

    def steady(self) -> float:
        return self.now


class User(UserMixin):
    def __init__(self, id: str, **row: Any) -> None:
        self.id = id
        self.active = True
        self.__dict__.update(row)

    @property
    def is_active(self) -> bool:
        return self.active


class CountingSerializer(TaggedJSONSerializer):
    """Counts the sessions read from a cookie; Flask's own session interface stays stock."""

    def __init__(self) -> None:
        super().__init__()
        self.opened = 0

    def loads(self, value: str) -> Any:
        self.opened += 1
        return super().loads(value)


class Site:
    """One app. `users` is its database, the other lists say what was asked and sent."""

    def __init__(self, cache: UserCache | None, **config: Any) -> None:
        self.users: dict[str, dict[str, Any]] = {
            "1": {"name": "ann", "roles": ["admin"]},
            "2": {"name": "bob", "roles": []},
        }
        self.loads: list[str] = []
        self.signals: list[str] = []
        self.serializer = CountingSerializer()
        self.app = app = Flask(__name__)
        app.config.update({"SECRET_KEY": "k", "TESTING": True, **config})
        app.session_interface.serializer = self.serializer  # type: ignore[attr-defined]
        self.manager = LoginManager(app)
        self.manager.user_loader(self.load)
        self._receivers = [self._note(name) for name in dir(signals) if name.startswith("user_")]
        self._note("session_protected")
        self._routes()
        self.cache = cache
        if cache is not None:
            cache.init_app(app)

    def load(self, user_id: str) -> User | None:
        """The user loader: each call a query, each answer a new object."""
        self.loads.append(user_id)
        row = self.users.get(user_id)
        return None if row is None else User(user_id, **{k: _own(v) for k, v in row.items()})

    def client(self, user_id: str | None = None, **query: str) -> FlaskClient:
        """A browser, in which the user with that id has logged in."""
        client = self.app.test_client()
        if user_id is not None:
            client.get(f"/login/{user_id}", query_string=query)
        return client

    def count(self, act: Callable[[], Any]) -> tuple[int, int]:
        """How many users were loaded, and sessions read, while *act* was done."""
        loads, opened = len(self.loads), self.serializer.opened
        act()
        return len(self.loads) - loads, self.serializer.opened - opened

    def seen(self, response: Response) -> dict[str, Any]:
        """All that a client can tell two answers by, but for signatures and dates."""
        return {
            "status": response.status_code,
            "body": response.get_json(silent=True),
            "vary": response.headers.get("Vary"),
            "cookies": [self._cookie(c) for c in response.headers.getlist("Set-Cookie")],
        }

    def _cookie(self, header: str) -> tuple[Any, ...]:
        pair, *attributes = header.split("; ")
        ((name, value),) = parse_cookie(pair).items()
        if name == "session" and value:
            serializer = self.app.session_interface.get_signing_serializer(self.app)  # type: ignore[attr-defined]
            value = serializer.loads(value)
        undated = sorted(a.partition("=")[0] if "xpires" in a else a for a in attributes)
        return name, value, *undated

    def _note(self, name: str) -> Callable[..., None]:
        def receive(_app: Flask, **_more: Any) -> None:
            self.signals.append(name)

        getattr(signals, name).connect(receive, self.app, weak=False)
        return receive

    def _routes(self) -> None:
        app = self.app

        @app.get("/login/<user_id>")
        def login(user_id: str) -> str:
            session.permanent = "permanent" in request.args
            flask_login.login_user(self.load(user_id), remember="remember" in request.args)
            return current_user.name

        @app.get("/logout")
        def logout() -> dict[str, Any]:
            before = _who()
            flask_login.logout_user()
            return {"before": before, "after": _who()}

        @app.get("/confirm")
        def confirm() -> dict[str, Any]:
            before = _who()
            flask_login.confirm_login()
            return {"before": before, "after": _who()}

        @app.get("/who")
        def who() -> Response:
            return jsonify(_who())

        @app.get("/file")
        def file() -> str:
            return "untouched"


def _own(value: Any) -> Any:
    return list(value) if isinstance(value, list) else value


def _who() -> dict[str, Any]:
    identity = getattr(g, "identity", None)
    return {
        "id": current_user.get_id(),
        "name": getattr(current_user, "name", None),
        "authenticated": current_user.is_authenticated,
        "fresh": flask_login.login_fresh(),
        "remembered": flask_login.login_remembered(),
        "needs": sorted(map(str, identity.provides)) if identity else [],
        "session": dict(session),
    }
