"""The same for a program that knows nothing of Flask-SQLAlchemy and Flask-Login: its models and
its session are SQLAlchemy's own, and nobody ever logs in. Arguments: way, user's id, name."""

from __future__ import annotations

import sys

import sqlalchemy as sa
from flask import Flask
from flask_login import UserMixin
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, scoped_session, sessionmaker

from wsgi_usercache import UserCache

from .ways import change


class Base(DeclarativeBase):
    pass


class User(UserMixin, Base):
    __tablename__ = "users"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


session = scoped_session(sessionmaker())


def create_app() -> Flask:
    app = Flask(__name__)
    app.config.from_prefixed_env("ELSEWHERE")
    session.configure(bind=sa.create_engine(app.config["SQLALCHEMY_DATABASE_URI"]))
    app.teardown_appcontext(lambda _error: session.remove())
    UserCache(app, session=session)
    return app


def main(way: str, user_id: str, name: str) -> None:
    with create_app().app_context():
        change(way, session, User, int(user_id), name)


if __name__ == "__main__":
    main(*sys.argv[1:])
