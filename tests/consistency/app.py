"""An application whose every answer says what it saw of its user, and when its request began.

Settings come from CONSISTENCY_* in the environment.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterable
from contextvars import ContextVar
from typing import Any

from flask import Flask, Response, current_app, g, jsonify, request
from flask_login import LoginManager, current_user, login_user
from flask_principal import (
    Identity,
    Need,
    Principal,
    RoleNeed,
    UserNeed,
    identity_changed,
    identity_loaded,
)

from wsgi_usercache import UserCache

from .faults import FaultPoints
from .things import SIDES
from .users import User, change, db, version_of

login_manager = LoginManager()
principals = Principal()
user_cache = UserCache()

_loads: ContextVar[list[int]] = ContextVar("loads")  # of the request; nothing of Flask's is read


@login_manager.user_loader
def load_user(user_id: str) -> User | None:
    _loads.get([]).append(1)
    user = db.session.get(User, int(user_id))
    time.sleep(0)  # lets others run between this load and its being remembered
    return user


def on_identity_loaded(sender: Flask, identity: Identity) -> None:
    identity.user = current_user
    if hasattr(current_user, "id"):
        identity.provides.add(UserNeed(current_user.id))
        identity.provides.add(Need("name", current_user.name))
        identity.provides.add(Need("level", current_user.level))
    if hasattr(current_user, "roles"):
        for role in current_user.roles:
            identity.provides.add(RoleNeed((role.side, role.number)))


class Stamps:
    """Stands before everything else: when did the request begin, who answered it, and how?"""

    def __init__(self, wsgi_app: Callable[..., Iterable[bytes]]) -> None:
        self._wsgi_app = wsgi_app

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        began = time.monotonic()
        loads: list[int] = []
        _loads.set(loads)

        def start(status: str, headers: list[tuple[str, str]], *more: Any) -> Any:
            stamps = {"began": began, "loads": len(loads), "pid": os.getpid()}
            return start_response(status, [*headers, ("X-Stamps", json.dumps(stamps))], *more)

        return self._wsgi_app(environ, start)


def create_app() -> Flask:
    """The application; nothing is opened, so it may be made before workers are forked."""
    app = Flask(__name__)
    app.config["SECRET_KEY"] = "known"
    app.config.from_prefixed_env("CONSISTENCY")
    db.init_app(app)
    login_manager.init_app(app)
    principals.init_app(app)
    identity_loaded.connect(on_identity_loaded, app)
    user_cache.init_app(app)
    app.wsgi_app = Stamps(app.wsgi_app)  # type: ignore[method-assign]
    faults = FaultPoints(app.extensions["user_cache"].generations)
    app.add_url_rule("/login/<int:user_id>", view_func=log_in, methods=["POST"])
    app.add_url_rule("/me", view_func=me)
    app.add_url_rule(
        "/change/<aspect>/<int:user_id>",
        view_func=lambda **which: changed(faults, **which),
        methods=["POST"],
        endpoint="changed",
    )
    app.add_url_rule("/fork/<aspect>/<int:user_id>", view_func=changed_in_child, methods=["POST"])
    return app


def log_in(user_id: int) -> Response:
    user = db.session.get(User, user_id)
    login_user(user)
    identity_changed.send(_app(), identity=Identity(user.id))
    return jsonify(user=user_id)


def me() -> Response:
    """What this request sees of its user: in the row, and in the needs."""
    needs = g.identity.provides
    held = {(role.side, role.number) for role in current_user.roles}
    provided = {need.value for need in needs if need.method == "role"}
    values = {need.method: need.value for need in needs}
    seen = {"name": int(current_user.name), "level": current_user.level}
    seen |= {"needs.name": int(values["name"]), "needs.level": values["level"]}
    for side in SIDES:
        seen[side] = version_of({number for at, number in held if at == side})
        seen[f"needs.{side}"] = version_of({number for at, number in provided if at == side})
    return jsonify(user=current_user.id, seen=seen)


def changed(faults: FaultPoints, aspect: str, user_id: int) -> Response:
    """One version more, made with the ORM, by whoever is logged in."""
    with faults.armed(request.headers.get("X-Kill-At")):
        return jsonify(change(aspect, user_id))


def changed_in_child(aspect: str, user_id: int) -> Response:
    """The same, by a forked child that ends without a word to anybody."""
    reading, writing = os.pipe()
    app = _app()
    child = os.fork()
    if child == 0:
        try:
            with app.app_context():
                # Its connections are the parent's: SQLite wants them not even closed here.
                inherited = db.engine.pool
                db.engine.dispose(close=False)
                os.write(writing, f"{json.dumps(change(aspect, user_id))}\n".encode())
                del inherited
        finally:
            os._exit(0)
    os.close(writing)
    with open(reading) as pipe:
        said = pipe.readline()  # not up to its end: gevent closes what is closed only later
    os.waitpid(child, 0)
    return Response(said, mimetype="application/json")


def _app() -> Flask:
    return current_app._get_current_object()  # type: ignore[attr-defined,no-any-return]
