"""Users whose every aspect has a version that only grows, and how to make one version more.

`name` and `level` are the version; of the roles of a side a user has one, or while they are
exchanged two neighbours, and the sum of the smallest and the greatest of their numbers is the
version.
"""

from __future__ import annotations

import time
from typing import Any

import sqlalchemy as sa
from flask_login import UserMixin
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from .things import SIDES, USERS

ROLES = 1_000  # of each side; a pair of changes takes one


class Base(DeclarativeBase):
    pass


db: Any = SQLAlchemy(model_class=Base)
grants = sa.Table(
    "grants",
    Base.metadata,
    sa.Column("user_id", sa.ForeignKey("users.id"), primary_key=True),
    sa.Column("role_id", sa.ForeignKey("roles.id"), primary_key=True),
)


# Neither side of the relation knows of the other: a change from one flushes only its own row.
class User(UserMixin, db.Model):  # type: ignore[misc,name-defined]
    __tablename__ = "users"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    level: Mapped[int]
    roles: Mapped[list[Role]] = relationship(secondary=grants, overlaps="users")


class Role(db.Model):  # type: ignore[misc,name-defined]
    __tablename__ = "roles"
    id: Mapped[int] = mapped_column(primary_key=True)
    side: Mapped[str]
    number: Mapped[int]
    users: Mapped[list[User]] = relationship(secondary=grants, overlaps="roles")


def change(aspect: str, user_id: int) -> dict[str, Any]:
    """Make one version more of one aspect of one user, as an application does."""
    session = db.session
    now = current_version(aspect, user_id)
    if aspect == "level":
        bulk = sa.update(User).where(User.id == user_id).values(level=now + 1)
        session.execute(bulk)
    else:
        user = session.get(User, user_id)
        if aspect == "name":
            user.name = str(now + 1)
        else:
            role = session.scalars(sa.select(Role).where(*moved_role(aspect, now))).one()
            here, other = (user.roles, role) if aspect == "user_side" else (role.users, user)
            here.remove(other) if now % 2 else here.append(other)
    session.commit()
    return _told(aspect, user_id, now + 1)


def change_in_sql(aspect: str, user_id: int) -> dict[str, Any]:
    """The same without the ORM's objects: no user is loaded."""
    session = db.session
    now = current_version(aspect, user_id)
    if aspect in SIDES:
        role_id = session.scalar(sa.select(Role.id).where(*moved_role(aspect, now)))
        row = {"user_id": user_id, "role_id": role_id}
        granted = sa.insert(grants).values(row)
        revoked = sa.delete(grants).where(*(grants.c[name] == row[name] for name in row))
        session.execute(revoked if now % 2 else granted)
    else:
        value = str(now + 1) if aspect == "name" else now + 1
        session.execute(sa.update(User).where(User.id == user_id).values({aspect: value}))
    session.commit()
    return _told(aspect, user_id, now + 1)


def _told(aspect: str, user_id: int, version: int) -> dict[str, Any]:
    returned = time.monotonic()
    return {"user": user_id, "aspect": aspect, "version": version, "returned": returned}


def current_version(aspect: str, user_id: int) -> int:
    """The version in the database, asked for as columns: no object is involved."""
    if aspect in SIDES:
        query = sa.select(Role.number).join(grants, grants.c.role_id == Role.id)
        mine = query.where(grants.c.user_id == user_id, Role.side == aspect)
        return version_of(set(db.session.scalars(mine)))
    return int(db.session.scalar(sa.select(getattr(User, aspect)).where(User.id == user_id)))


def version_of(numbers: set[int]) -> int:
    """One role, k, is version 2k; k and k + 1 are the version between."""
    return min(numbers) + max(numbers)


def moved_role(side: str, version: int) -> tuple[Any, ...]:
    """The role to revoke if *version* has two, else the next one to grant."""
    number = version // 2 if version % 2 else version // 2 + 1
    return Role.side == side, Role.number == number


def seed() -> None:
    """Make the tables, and everything in them at version 0."""
    with db.engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA journal_mode=WAL")
    db.create_all()
    roles = [
        {"id": ROLES * at + number, "side": side, "number": number}
        for at, side in enumerate(SIDES)
        for number in range(ROLES)
    ]
    db.session.execute(sa.insert(Role), roles)
    db.session.execute(sa.insert(User), [{"id": i, "name": "0", "level": 0} for i in USERS])
    first = [{"user_id": i, "role_id": ROLES * at} for i in USERS for at in range(len(SIDES))]
    db.session.execute(sa.insert(grants), first)
    db.session.commit()
