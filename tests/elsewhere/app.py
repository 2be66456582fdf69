"""The application, as the server and most writers build it.

Settings come from ELSEWHERE_* in the environment.
"""

from __future__ import annotations

from typing import Any

import click
from flask import Flask
from flask_login import LoginManager, UserMixin, current_user, login_user
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from wsgi_usercache import UserCache

from .ways import change


class Base(DeclarativeBase):
    pass


db: Any = SQLAlchemy(model_class=Base)
login_manager = LoginManager()
user_cache = UserCache()
loads: list[str] = []


class User(UserMixin, db.Model):  # type: ignore[misc,name-defined]
    __tablename__ = "users"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


@login_manager.user_loader
def load_user(user_id: str) -> User | None:
    loads.append(user_id)
    user: User | None = db.session.get(User, int(user_id))
    return user


def create_app() -> Flask:
    app = Flask(__name__)
    app.config["SECRET_KEY"] = "known"
    app.config.from_prefixed_env("ELSEWHERE")
    db.init_app(app)
    login_manager.init_app(app)
    user_cache.init_app(app)
    app.add_url_rule("/login/<int:user_id>", view_func=log_in)
    app.add_url_rule("/me", view_func=me)
    app.cli.add_command(change_command)
    return app


def log_in(user_id: int) -> dict[str, Any]:
    return {"in": login_user(db.session.get(User, user_id))}


def me() -> dict[str, Any]:
    """The name this request sees, and how often it asked the database for it."""
    before = len(loads)
    return {"name": current_user.name, "loads": len(loads) - before}


@click.command("change")
@click.argument("way")
@click.argument("user_id", type=int)
@click.argument("name")
def change_command(way: str, user_id: int, name: str) -> None:
    change(way, db.session, User, user_id, name)
