"""How users and the rows around them lead to each other."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.associationproxy import association_proxy
from sqlalchemy.orm import attribute_keyed_dict, column_property, foreign, relationship


def relate(models: Any) -> None:
    """Give the classes of *models* their relations."""
    _roles(models)
    _things(models)
    _grants(models)
    _team(models)
    _users(models)
    if models.features["properties"]:
        _properties(models)


def _back(models: Any, feature: str, name: str) -> dict[str, str]:
    return {"back_populates": name} if models.features[feature] in (True, "both") else {}


def _roles(models: Any) -> None:
    features, User, Role, Ability = (
        models.features,
        models["User"],
        models["Role"],
        models["Ability"],
    )
    Role.abilities = relationship(
        Ability, secondary=models.pairs("Role", "Ability"), order_by=Ability.id,
        lazy=features["lazy_abilities"],
    )  # fmt: skip
    secondary = models.pairs("User", "Role")
    one, other = {
        "one": ({}, None),
        "both": ({"back_populates": "members"}, {"back_populates": "roles"}),
        "apart": ({"overlaps": "members"}, {"overlaps": "roles"}),
        "seen": ({"viewonly": True}, {}),
    }[features["roles"]]
    User.roles = relationship(
        Role, secondary=secondary, order_by=[getattr(Role, features["order"]), Role.id],
        lazy=features["lazy_roles"], **one,
    )  # fmt: skip
    if other is not None:
        Role.members = relationship(User, secondary=secondary, order_by=User.id, **other)
    User.role_names = association_proxy("roles", "name")


def _things(models: Any) -> None:
    features, User = models.features, models["User"]
    Thing = models.make(
        "Thing", id=models.key(), title=sa.Column(sa.String), user_id=models.foreign("User")
    )
    kinds = {"list": list, "set": set, "keyed": attribute_keyed_dict("title")}
    User.things = relationship(
        Thing, collection_class=kinds[features["things"]], order_by=Thing.id,
        lazy=features["lazy_things"], **_back(models, "thing_user", "user"),
        **({"cascade": "all, delete-orphan"} if features["orphans"] else {}),
        passive_deletes=features["ondelete"],
    )  # fmt: skip
    if features["thing_user"]:
        Thing.user = relationship(User, back_populates="things")
    User.some_things = relationship(
        Thing, viewonly=True, order_by=Thing.title.desc(),
        primaryjoin=sa.and_(Thing.user_id == User.id, Thing.title != "t2"),
    )  # fmt: skip


def _grants(models: Any) -> None:
    User = models["User"]
    Grant = models.make(
        "Grant", user_id=models.foreign("User", primary_key=True),
        role_id=models.foreign("Role", primary_key=True), level=sa.Column(sa.Integer, default=0),
        role=relationship("Role"),
    )  # fmt: skip
    User.grants = relationship(
        Grant, cascade="all, delete-orphan", order_by=Grant.role_id,
        lazy=models.features["lazy_grants"], passive_deletes=models.features["ondelete"],
    )  # fmt: skip
    User.granted = association_proxy("grants", "role", creator=lambda role: Grant(role=role))


def _team(models: Any) -> None:
    User, Team = models["User"], models["Team"]
    join = {"primaryjoin": foreign(User.team_id) == Team.id}
    User.team = relationship(
        Team, lazy=models.features["lazy_team"], **join, **_back(models, "team_members", "members")
    )
    if models.features["team_members"]:
        Team.members = relationship(User, **join, back_populates="team", order_by=User.id)


def _users(models: Any) -> None:
    features, User = models.features, models["User"]
    User.boss = relationship(
        User, primaryjoin=foreign(User.boss_id) == sa.orm.remote(User.id), join_depth=1,
        lazy=features["lazy_boss"], **_back(models, "staff", "staff"),
    )  # fmt: skip
    if features["staff"]:
        User.staff = relationship(
            User, primaryjoin=sa.orm.remote(foreign(User.boss_id)) == User.id,
            back_populates="boss", order_by=User.id,
        )  # fmt: skip
    pairs = models.pairs("User", "User", ("one", "other"))
    joins = [User.id == pairs.c.one, User.id == pairs.c.other]
    User.friends = relationship(
        User, secondary=pairs, primaryjoin=joins[0], secondaryjoin=joins[1], order_by=User.id,
        **_back(models, "friends", "admirers"),
    )  # fmt: skip
    if features["friends"] == "both":
        User.admirers = relationship(
            User, secondary=pairs, primaryjoin=joins[1], secondaryjoin=joins[0], order_by=User.id,
            back_populates="friends",
        )  # fmt: skip


def _properties(models: Any) -> None:
    User, Team = models["User"], models["Team"]
    things, users = models["Thing"].__table__, User.__table__
    User.shout = column_property(sa.func.upper(User.name))
    User.thing_count = column_property(
        sa.select(sa.func.count(things.c.id))
        .where(things.c.user_id == User.id)
        .correlate_except(things)
        .scalar_subquery()
    )
    if not models.features["team_elsewhere"]:
        Team.size = column_property(
            sa.select(sa.func.count(users.c.id))
            .where(users.c.team_id == Team.id)
            .correlate_except(users)
            .scalar_subquery()
        )
