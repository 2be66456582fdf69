"""A site with Flask-Principal, and a count of what its handlers are asked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flask_login
from flask import Flask, abort, g, request
from flask_login import current_user
from flask_principal import (
    Identity,
    Permission,
    Principal,
    RoleNeed,
    UserNeed,
    identity_changed,
    identity_loaded,
)
from werkzeug.local import LocalProxy

Make = Callable[..., Any]
ADMIN = Permission(RoleNeed("admin"))


class Guarded:
    """A site with Flask-Principal and the documented handler; `handled` notes its calls."""

    def __init__(
        self,
        make_site: Make,
        *,
        principal: Callable[[Flask], Principal] = Principal,
        handlers: tuple[Callable[[Any, Identity], None], ...] = (),
        **options: Any,
    ) -> None:
        self.site = site = make_site(**options)
        self.handled: list[Any] = []
        self.principal = principal(site.app)
        for handler in handlers or (self.documented,):
            identity_loaded.connect(self._noting(handler), site.app, weak=False)
        self._routes(site.app)

    def documented(self, _app: Flask, identity: Identity) -> None:
        """The handler of Flask-Principal's documentation."""
        identity.user = current_user
        if hasattr(current_user, "id"):
            identity.provides.add(UserNeed(current_user.id))
        for role in getattr(current_user, "roles", ()):
            identity.provides.add(RoleNeed(role))

    def _noting(self, handler: Any) -> Callable[..., None]:
        def handle(app: Flask, identity: Identity) -> None:
            self.handled.append(identity.id)
            handler(app, identity)

        return handle

    def client(self, user_id: str = "1", **query: str) -> Any:
        """A browser in which the user has logged in and been seen once."""
        client = self.site.client()
        client.get(f"/enter/{user_id}", query_string=query)
        return client

    def ask(self, client: Any, path: str = "/identity", **how: Any) -> tuple[int, Any]:
        """How often the handlers were called for a request, and its answer."""
        self.handled.clear()
        answer = client.get(path, **how)
        return len(self.handled), answer.get_json(silent=True) or answer.text

    def _routes(self, app: Flask) -> None:
        @app.get("/enter/<user_id>")
        def enter(user_id: str) -> str:
            flask_login.login_user(self.site.load(user_id))
            identity_changed.send(app, identity=Identity(user_id, request.args.get("auth")))
            return ""

        @app.get("/identity")
        def identity() -> dict[str, Any]:
            return about(g.identity)

        @app.get("/admin")
        def admin() -> str:
            return "admin" if ADMIN.can() else "nobody"

        @app.get("/file/admin")
        def file_admin() -> str:
            return "admin" if ADMIN.can() else "nobody"

        @app.get("/file/gone")
        def gone() -> None:
            abort(404)

        @app.errorhandler(404)
        def not_found(_error: Exception) -> tuple[str, int]:
            return ("admin" if ADMIN.can() else "nobody"), 404


def about(identity: Identity) -> dict[str, Any]:
    user = getattr(identity, "user", None)
    kind = "proxy" if type(user) is LocalProxy else type(user).__name__
    return {
        "class": type(identity).__name__,
        "id": identity.id,
        "auth_type": identity.auth_type,
        "needs": sorted(map(str, identity.provides)),
        "user": kind,
        "is current": user is current_user or user is current_user._get_current_object(),
        "user id": getattr(user, "id", None),
    }
