"""An application whose pool is small and whose views are slow once they know who asks.

No view asks the database for anything else: every connection is taken for a user. Settings come
from POOL_* in the environment.
"""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from flask import Flask, Response, current_app, jsonify
from flask_login import LoginManager, UserMixin, current_user, login_user
from flask_principal import (
    Identity,
    Principal,
    RoleNeed,
    UserNeed,
    identity_changed,
    identity_loaded,
)
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from wsgi_usercache import UserCache

from .connections import OPTIONS
from .tally import Tally

SLOW = 0.5  # seconds that a template or a call of another service takes
PATIENCE = 30.0  # seconds after which a call hangs no longer
ASSETS = Path(__file__).parents[2] / "examples" / "roles" / "static"


class Base(DeclarativeBase):
    pass


db: Any = SQLAlchemy(model_class=Base)
login_manager = LoginManager()
principals = Principal()
user_cache = UserCache()
tally = Tally()
answered = threading.Event()

grants = sa.Table(
    "grants",
    Base.metadata,
    sa.Column("user_id", sa.ForeignKey("users.id"), primary_key=True),
    sa.Column("role_id", sa.ForeignKey("roles.id"), primary_key=True),
)


class Role(db.Model):  # type: ignore[misc]
    __tablename__ = "roles"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


class User(UserMixin, db.Model):  # type: ignore[misc]
    __tablename__ = "users"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    roles: Mapped[list[Role]] = relationship(secondary=grants)


@login_manager.user_loader
def load_user(user_id: str) -> User | None:
    tally.add("loads")
    return db.session.get(User, int(user_id))


def on_identity_loaded(sender: Flask, identity: Identity) -> None:
    """As Flask-Principal's documentation has it."""
    identity.user = current_user
    if hasattr(current_user, "id"):
        identity.provides.add(UserNeed(current_user.id))
    if hasattr(current_user, "roles"):
        for role in current_user.roles:
            identity.provides.add(RoleNeed(role.name))


def create_app() -> Flask:
    """The application, with as many users in its database as PEOPLE says."""
    app = Flask(__name__, static_folder=ASSETS)
    app.config.update(SECRET_KEY="known", SQLALCHEMY_ENGINE_OPTIONS=OPTIONS)
    app.config.from_prefixed_env("POOL")
    db.init_app(app)
    login_manager.init_app(app)
    principals.init_app(app)
    identity_loaded.connect(on_identity_loaded, app)
    user_cache.init_app(app)
    app.add_url_rule("/login/<int:user_id>", view_func=log_in, methods=["POST"])
    app.add_url_rule("/slow", view_func=slow)
    app.add_url_rule("/page", view_func=page)
    app.add_url_rule("/call", view_func=call)
    app.add_url_rule("/answer", view_func=answer, methods=["POST"])
    app.add_url_rule("/counts", view_func=counts)
    with app.app_context():
        seed(range(1, app.config["PEOPLE"] + 1))
        db.engine.dispose()  # nobody finds a connection ready
        tally.watch(db.engine)
    return app


def seed(user_ids: range) -> None:
    """Everybody holds the same two roles."""
    db.create_all()
    users = [{"id": user_id, "name": f"user {user_id}"} for user_id in user_ids]
    held = [{"user_id": user_id, "role_id": role_id} for user_id in user_ids for role_id in (1, 2)]
    db.session.execute(sa.insert(User), users)
    db.session.execute(sa.insert(Role), [{"id": 1, "name": "reader"}, {"id": 2, "name": "writer"}])
    db.session.execute(sa.insert(grants), held)
    db.session.commit()


def log_in(user_id: int) -> str:
    login_user(db.session.get(User, user_id))
    app = current_app._get_current_object()  # type: ignore[attr-defined]
    identity_changed.send(app, identity=Identity(user_id))
    return "in"


def slow() -> str:
    """Who asks; it takes its time when it knows."""
    shown = who()
    time.sleep(SLOW)  # the work of the page itself: the slow view is what the pool is tested with
    return shown


def page() -> str:
    """The same, with all that a browser fetches beside it."""
    names = sorted(path.relative_to(ASSETS).as_posix() for path in ASSETS.glob("*/*"))
    return slow() + "".join(f'<img src="/static/{name}">' for name in names)


def call() -> str:
    """Who asks; it hangs when it knows, until there is an answer."""
    shown = who()
    tally.add("calls")
    answered.wait(PATIENCE)
    return shown


def answer() -> str:
    answered.set()
    return "given"


def who() -> str:
    """The rest of the request asks the database for nothing."""
    shown = f"{current_user.name}: {', '.join(role.name for role in current_user.roles)}"
    tally.add("views")
    if tally.holds_connection:
        tally.add("views_with_connection")
    return shown


def counts() -> Response:
    """What was counted since the start; nobody has to be known for it."""
    stats = user_cache.stats()
    return jsonify(
        **tally.read(),
        hits=stats.hits,
        misses=stats.misses,
        served=stats.served,
        unstored=dict(stats.unstored),
    )
