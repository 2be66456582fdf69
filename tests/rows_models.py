"""The models of the site whose users are rows, and the managers it shares with others."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from flask import current_app
from flask_login import LoginManager, UserMixin
from flask_principal import Principal
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy.orm import DeclarativeBase, Mapped, backref, mapped_column, relationship


class Modules:
    """What an application's modules make once, for however many apps: `db`, models, managers.

    *sides* says how users and roles know of each other: `both`, or `apart` for two relationships
    that know nothing of each other.
    """

    def __init__(self, *, sides: str = "both", handlers: bool = True, **db: Any) -> None:
        class Base(DeclarativeBase):
            pass

        self.db: Any = SQLAlchemy(model_class=Base, **db)
        self.login_manager = LoginManager()
        self.principals = Principal() if handlers else None
        _declare(self, sides)
        self.load: Callable[[str], Any] = lambda user_id: self.db.session.get(self.User, user_id)
        self.login_manager.user_loader(self._load)

    def _load(self, user_id: str) -> Any:
        current_app.extensions["site"].calls["loads"] += 1
        return self.load(user_id)


def _declare(modules: Modules, sides: str) -> None:
    db = modules.db

    def pairs(name: str, one: str, other: str) -> Any:
        columns = (
            sa.Column(f"{t}_id", sa.ForeignKey(f"{t}.id"), primary_key=True) for t in (one, other)
        )
        return db.Table(name, *columns)

    member_roles, role_abilities = (
        pairs("roles", "member", "role"),
        pairs("can", "role", "ability"),
    )

    class Ability(db.Model):
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str]

    class Role(db.Model):
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str]
        abilities = relationship(Ability, secondary=role_abilities)

    class Thing(db.Model):
        id: Mapped[int] = mapped_column(primary_key=True)
        member_id: Mapped[int | None] = mapped_column(sa.ForeignKey("member.id"))

    class Member(UserMixin, db.Model):
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str]
        password_hash: Mapped[str | None]
        last_seen: Mapped[datetime | None]
        things = relationship(Thing)
        roles = relationship(
            Role, secondary=member_roles, order_by=Role.id,
            **({"backref": backref("members")} if sides == "both" else {"overlaps": "members"}),
        )  # fmt: skip

    if sides == "apart":
        Role.members = relationship(Member, secondary=member_roles, overlaps="roles")
    modules.__dict__.update(User=Member, Role=Role, Ability=Ability, Thing=Thing)
