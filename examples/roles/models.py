"""Users, the roles they hold, and the abilities a role brings."""

from datetime import datetime

from flask_login import AnonymousUserMixin, UserMixin
from sqlalchemy import Column, ForeignKey, Table
from sqlalchemy.orm import Mapped, mapped_column, relationship
from werkzeug.security import check_password_hash, generate_password_hash

from .extensions import db

user_roles = Table(
    "user_roles",
    db.metadata,
    Column("user_id", ForeignKey("users.id"), primary_key=True),
    Column("role_id", ForeignKey("roles.id"), primary_key=True),
)

role_abilities = Table(
    "role_abilities",
    db.metadata,
    Column("role_id", ForeignKey("roles.id"), primary_key=True),
    Column("ability_id", ForeignKey("abilities.id"), primary_key=True),
)


class Ability(db.Model):
    """One thing that somebody may do."""

    __tablename__ = "abilities"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)


class Role(db.Model):
    """A named bundle of abilities."""

    __tablename__ = "roles"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)

    abilities: Mapped[list[Ability]] = relationship(
        secondary=role_abilities, order_by=Ability.name
    )
    users: Mapped[list["User"]] = relationship(secondary=user_roles, back_populates="roles")


class User(UserMixin, db.Model):
    """Somebody who can log in."""

    __tablename__ = "users"

    id: Mapped[int] = mapped_column(primary_key=True)
    username: Mapped[str] = mapped_column(unique=True)
    name: Mapped[str]
    motto: Mapped[str] = mapped_column(default="")
    password_hash: Mapped[str]
    last_seen: Mapped[datetime | None]

    roles: Mapped[list[Role]] = relationship(
        secondary=user_roles, back_populates="users", order_by=Role.name
    )

    def set_password(self, password: str) -> None:
        """Keep what is needed to recognise *password*, never the password itself."""
        self.password_hash = generate_password_hash(password)

    def has_password(self, password: str) -> bool:
        return check_password_hash(self.password_hash, password)

    def get_roles(self) -> list[str]:
        """Return the names of the roles this user holds, in order."""
        return [role.name for role in self.roles]

    def get_abilities(self) -> list[str]:
        """Return the names of all abilities this user's roles bring, in order, each once."""
        return sorted({ability.name for role in self.roles for ability in role.abilities})


class AnonymousUser(AnonymousUserMixin):
    """Somebody who is not logged in: answers what a template asks of a user, with nothing."""

    name = "Guest"
    roles: tuple[Role, ...] = ()

    def get_roles(self) -> list[str]:
        return []

    def get_abilities(self) -> list[str]:
        return []
