"""The models of the site on which every write is made, and what its pages show of them."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from flask import current_app, g
from flask_login import LoginManager, UserMixin, current_user
from flask_principal import Identity, Need, Principal, RoleNeed
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy.ext.mutable import MutableDict
from sqlalchemy.orm import DeclarativeBase, Mapped, backref, mapped_column, relationship


class Models:
    """`db`, the mapped classes by their names, and the managers. Users log in with the attribute
    *login*."""

    def __init__(self, login: str) -> None:
        class Base(DeclarativeBase):
            pass

        self.db: Any = SQLAlchemy(model_class=Base)
        self.login = login
        self.login_manager = LoginManager()
        self.principals = Principal()
        _declare_around(self)
        _declare_users(self)
        self.login_manager.user_loader(self._load)

    def _load(self, login_id: str) -> Any:
        page = current_app.extensions["page"]
        page.loads += 1
        if self.login == "id":
            user = self.db.session.get(self.Member, int(login_id))
        else:
            user = self.db.session.scalar(sa.select(self.Member).filter_by(uid=login_id))
        if user is not None:
            page.shows(user)  # now, so that it is remembered with the user
        return user


def everything(user: Any) -> dict[str, Any]:
    """All that can be shown of a user."""
    roles, team, profile = user.roles, user.team, user.profile
    return {
        **columns(user),
        "team": team and [team.id, team.name],
        "roles": sorted(role.name for role in roles),
        "abilities": sorted({ability.name for role in roles for ability in role.abilities}),
        "groups": sorted(group.name for group in user.groups),
        "bio": profile and profile.bio,
        "notes": sorted(note.text for note in user.notes),
    }


def columns(user: Any) -> dict[str, Any]:
    """What can be shown without another table than that of users."""
    names = ("id", "uid", "kind", "name", "team_id", "settings", "edited", "version")
    return {name: getattr(user, name) for name in names} | {"level": getattr(user, "level", None)}


def needs() -> list[str]:
    """What Flask-Principal takes the user to have."""
    identity = getattr(g, "identity", None)
    return sorted(f"{need.method} {need.value}" for need in identity.provides) if identity else []


def identify(_app: Any, identity: Identity) -> None:
    """The handler of `identity_loaded`."""
    identity.user = current_user
    for role in getattr(current_user, "roles", ()):
        identity.provides.add(RoleNeed(role.name))
        for ability in role.abilities:
            identity.provides.add(Need("ability", ability.name))


def _follows(target: str, **more: Any) -> Any:
    """A column that goes, or changes, with what it refers to."""
    key = sa.ForeignKey(target, ondelete="CASCADE", onupdate="CASCADE")
    return mapped_column(key, **more)


def _pairs(models: Models, name: str, one: str, other: str) -> Any:
    columns = (
        sa.Column(
            f"{table}_id",
            sa.ForeignKey(f"{table}.id", ondelete="CASCADE", onupdate="CASCADE"),
            primary_key=True,
        )
        for table in (one, other)
    )
    return models.db.Table(name, *columns)


def _declare_around(models: Models) -> None:
    """All but users."""
    base: Any = models.db.Model

    class Organisation(base):
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str]

    class Team(base):
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str]
        organisation_id: Mapped[int | None] = _follows("organisation.id")
        organisation = relationship(Organisation, backref=backref("teams", passive_deletes=True))

    class Ability(base):
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str]

    class Role(base):
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str]
        abilities = relationship(Ability, secondary=_pairs(models, "can", "role", "ability"))

    class Group(base):
        __tablename__ = "club"
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str]

    class Note(base):
        __bind_key__ = "other"
        id: Mapped[int] = mapped_column(primary_key=True)
        member_id: Mapped[int]
        text: Mapped[str]

    class Thing(base):
        """What nobody's page shows."""

        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str | None]

    models.__dict__.update(
        Organisation=Organisation, Team=Team, Ability=Ability, Role=Role, Group=Group, Note=Note,
        Thing=Thing,
    )  # fmt: skip


def _declare_users(models: Models) -> None:
    base: Any = models.db.Model
    member_roles = _pairs(models, "member_roles", "member", "role")
    club_members = _pairs(models, "club_members", "member", "club")
    # SQLAlchemy remembers classes, and with them whatever they refer to: no manager, no app.
    note, login = models.Note, models.login

    def get_id(self: Any) -> str:
        return str(getattr(self, login))

    class Profile(base):
        id: Mapped[int] = mapped_column(primary_key=True)
        member_id: Mapped[int] = _follows("member.id")
        bio: Mapped[str | None]

    class Member(UserMixin, base):
        id: Mapped[int] = mapped_column(primary_key=True)
        uid: Mapped[str] = mapped_column(unique=True)
        kind: Mapped[str]
        name: Mapped[str | None]
        settings: Mapped[dict[str, Any]] = mapped_column(
            MutableDict.as_mutable(sa.JSON),  # type: ignore[arg-type]
            default=dict,
        )
        edited: Mapped[int] = mapped_column(default=0, onupdate=sa.text("edited + 1"))
        version: Mapped[int] = mapped_column(default=1)
        team_id: Mapped[int | None] = mapped_column(
            sa.ForeignKey("team.id", ondelete="SET NULL", onupdate="CASCADE", deferrable=True)
        )
        team = relationship(models.Team, backref=backref("members", passive_deletes=True))
        roles = relationship(models.Role, secondary=member_roles, backref="members")
        # Two relationships that know nothing of each other.
        groups = relationship(
            models.Group, secondary=club_members, overlaps="members,crowd,people"
        )
        profile = relationship(
            Profile, uselist=False, cascade="all, delete-orphan", passive_deletes=True
        )
        notes = relationship(
            note,
            primaryjoin=lambda: Member.id == sa.orm.foreign(note.member_id),
            passive_deletes="all",
        )
        __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "member"}

    class Admin(Member):
        id: Mapped[int] = _follows("member.id", primary_key=True)
        level: Mapped[int | None]
        __mapper_args__ = {"polymorphic_identity": "admin"}

    more: dict[str, Any] = {"secondary": club_members, "overlaps": "groups,members,crowd,people"}
    models.Group.members = relationship(Member, **more)
    more["passive_deletes"] = True  # one of them deletes the rows between
    models.Group.crowd = relationship(Member, lazy="dynamic", **more)
    models.Group.people = relationship(Member, lazy="write_only", **more)

    class Stamped(UserMixin, base):
        """The same users, with a counter of versions."""

        __table__ = Member.__table__
        __mapper_args__ = {"version_id_col": Member.__table__.c.version}

    Member.get_id = Stamped.get_id = get_id
    models.__dict__.update(
        Profile=Profile, Member=Member, Admin=Admin, Stamped=Stamped,
        member_roles=member_roles, club_members=club_members,
    )  # fmt: skip
