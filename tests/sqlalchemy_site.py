"""A small Flask-SQLAlchemy application, and what its database is asked for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from flask import Flask
from flask_login import UserMixin
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy.ext.associationproxy import association_proxy
from sqlalchemy.ext.mutable import MutableDict
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from wsgi_usercache.adapters.sqlalchemy import Rows, install, listen
from wsgi_usercache.generations import EVERYBODY, slot_of
from wsgi_usercache.generations.process import ProcessGenerations


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


class Site:
    """The application, its `Rows` and the numbers it moves."""

    def __init__(self, url: str, **options: Any) -> None:
        class Base(DeclarativeBase):
            pass

        self.app = Flask("site")
        self.app.config["SQLALCHEMY_DATABASE_URI"] = url
        self.db: Any = SQLAlchemy(model_class=Base)
        _declare(self)
        self.db.init_app(self.app)
        self.clock = Clock()
        self.generations = ProcessGenerations(clock=self.clock)
        self.rows = Rows(self.app, self.generations, **options)
        listen()
        install(self.generations, self.rows)
        self.statements: list[str] = []
        with self.app.app_context():
            self.engine = self.db.engine
            sa.event.listen(self.engine, "before_cursor_execute", self._count)
            self.db.create_all()
            user = self.User(id=1, name="ann", email="ann@example.org", settings={"a": [1]})
            user.roles = [self.Role(id=1, name="reader"), self.Role(id=2, name="writer")]
            self.db.session.add_all([user, self.User(id=2, name="bob"), self.Team(id=1, name="x")])
            self.db.session.commit()

    def _count(self, _c: Any, _cur: Any, statement: str, *_: Any) -> None:
        self.statements.append(statement)

    @contextmanager
    def request(self) -> Iterator[Any]:
        """A request's app context and its session."""
        with self.app.app_context():
            yield self.db.session()

    def load(self, user_id: int = 1, *touch: str) -> Any:
        """A user frozen as a recorded load leaves him, with *touch* attributes read."""
        with self.request(), self.rows.run() as run:
            user = self.db.session.get(self.User, user_id)
            for name in touch:
                getattr(user, name)
            assert run.refusal is None
            return self.rows.freeze(user, run, None)

    @contextmanager
    def moved(self, *names: str) -> Iterator[set[str]]:
        """The set of those of *names* that have moved when the block ends."""
        slots = [EVERYBODY if name == "everybody" else slot_of(name) for name in names]
        assert len(set(slots)) == len(slots)
        before = self.generations.current(slots)
        moved: set[str] = set()
        yield moved
        after = self.generations.current(slots)
        moved |= {n for n, b, a in zip(names, before, after, strict=True) if b != a}

    def close(self) -> None:
        self.engine.dispose()


def _declare(site: Site) -> None:
    db = site.db

    class Ability(db.Model):
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str]

    class Team(db.Model):
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str]
        members = relationship("User", back_populates="team")

    class Post(db.Model):
        id: Mapped[int] = mapped_column(primary_key=True)
        title: Mapped[str]
        user_id: Mapped[int] = mapped_column(sa.ForeignKey("user.id"))

    user_roles = db.Table(
        "user_roles",
        sa.Column("user_id", sa.ForeignKey("user.id"), primary_key=True),
        sa.Column("role_id", sa.ForeignKey("role.id"), primary_key=True),
    )
    role_abilities = db.Table(
        "role_abilities",
        sa.Column("role_id", sa.ForeignKey("role.id"), primary_key=True),
        sa.Column("ability_id", sa.ForeignKey("ability.id"), primary_key=True),
    )

    class Role(db.Model):
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str]
        abilities = relationship(Ability, secondary=role_abilities)
        users = relationship("User", secondary=user_roles, back_populates="roles")

    class User(UserMixin, db.Model):
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str]
        email: Mapped[str | None]
        last_seen: Mapped[datetime | None]
        password_hash: Mapped[str | None]
        settings: Mapped[dict[str, Any] | None] = mapped_column(
            MutableDict.as_mutable(sa.JSON)  # type: ignore[arg-type]
        )
        team_id: Mapped[int | None] = mapped_column(sa.ForeignKey("team.id"))
        team = relationship(Team, back_populates="members")
        roles = relationship(Role, secondary=user_roles, back_populates="users")
        posts = relationship(Post, backref="author")
        role_names = association_proxy("roles", "name")

    site.User, site.Role, site.Ability, site.Team, site.Post = User, Role, Ability, Team, Post
    site.user_roles = user_roles
