"""Mapped classes of users as applications have them, one variety for each set of features."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any

import sqlalchemy as sa
from flask_login import UserMixin
from flask_sqlalchemy import SQLAlchemy
from random_features import Features, MutablePoint, Plan, Point
from random_relations import relate
from sqlalchemy.ext.hybrid import hybrid_property
from sqlalchemy.ext.mutable import MutableDict, MutableList
from sqlalchemy.orm import DeclarativeBase, composite, deferred, reconstructor, relationship


class Models:
    """`db` and the mapped classes, by their names. Tables begin with *prefix*."""

    def __init__(self, features: Features, prefix: str) -> None:
        class Base(DeclarativeBase):
            pass

        options = {name: features[name] for name in ("expire_on_commit", "autoflush")}
        self.db: Any = SQLAlchemy(model_class=Base, session_options=options)
        self.features = features
        self.prefix = prefix
        self.left_out = frozenset(features["volatile"] + features["exclude"])
        self._classes: dict[str, Any] = {}
        self.make("Team", id=self.key(), name=sa.Column(sa.String), **_bind(features))
        self.make("Ability", id=self.key(), name=sa.Column(sa.String))
        self.make(
            "Role", id=self.key(), name=sa.Column(sa.String), rank=sa.Column(sa.Integer, default=0)
        )
        self._user()
        relate(self)
        if features["family"] in ("single", "joined"):
            self._heirs()
        sa.orm.configure_mappers()

    def __getitem__(self, name: str) -> Any:
        """The class of that name; one that is not there is the user class."""
        return self._classes.get(name, self._classes["User"])

    def make(self, name: str, /, *bases: type, table: bool = True, **attributes: Any) -> Any:
        if table:
            attributes["__tablename__"] = f"{self.prefix}_{name.lower()}"
        bases = bases or (self.db.Model,)
        self._classes[name] = type(name, bases, {"__module__": __name__, **attributes})
        return self._classes[name]

    def key(self) -> Any:
        """A column of ids that nobody but the acts give out."""
        return sa.Column(sa.Integer, primary_key=True, autoincrement=False)

    def foreign(self, name: str, column: str | None = None, **more: Any) -> Any:
        """A column that refers to the id of another row."""
        if self.features["team_elsewhere"] and name == "Team":
            return sa.Column(sa.Integer)
        does = {}
        if self.features["ondelete"]:
            does = {"ondelete": "CASCADE" if more else "SET NULL", "onupdate": "CASCADE"}
        key = sa.ForeignKey(f"{self.prefix}_{name.lower()}.id", **does)
        return sa.Column(*([column] if column else []), key, **more)

    def pairs(self, one: str, other: str, names: tuple[str, str] | None = None) -> Any:
        """An association table."""
        columns = zip((one, other), names or (one, other), strict=True)
        return self.db.Table(
            f"{self.prefix}_{one}_{other}".lower(),
            *(self.foreign(each, name, primary_key=True) for each, name in columns),
        )

    def _user(self) -> None:
        features, columns = self.features, self._columns()
        mapper: dict[str, Any] = {}
        if features["version"]:
            mapper["version_id_col"] = columns["version"]
        if features["family"] in ("single", "joined"):
            mapper |= {"polymorphic_on": columns["kind"], "polymorphic_identity": "user"}
        bases: tuple[type, ...] = (self.db.Model,)
        if features["family"] == "party":
            bases = (self._party(columns.pop("name")),)
            columns["id"] = self.foreign("Party", primary_key=True)
            mapper["polymorphic_identity"] = "user"
        more: dict[str, Any] = {}
        if features["login"] == "name":
            more["get_id"] = lambda user: user.name
        if features["reconstructor"]:
            more["_remember"] = reconstructor(lambda user: setattr(user, "was", user.name))
        point = Point if features["spot"] == "plain" else MutablePoint
        self.make(
            "User", UserMixin, *bases, __mapper_args__=mapper, **columns, **more,
            spot=composite(point, columns["x"], columns["y"]),
            is_active=property(lambda user: bool(user.active)),
            label=hybrid_property(lambda user: user.name + "!"),
        )  # fmt: skip

    def _party(self, name: Any) -> Any:
        """What users are besides, and others could be as well."""
        sort = sa.Column(sa.String)
        mapper = {"polymorphic_on": sort, "polymorphic_identity": "party"}
        return self.make("Party", id=self.key(), name=name, sort=sort, __mapper_args__=mapper)

    def _columns(self) -> dict[str, Any]:
        features = self.features
        late = deferred if features["deferred"] else lambda column, **_: column
        return {
            "id": self.key(),
            "name": sa.Column(sa.String, nullable=False, unique=True),
            "active": sa.Column(sa.Boolean, default=True),
            "plan": sa.Column(sa.Enum(Plan, name=f"{self.prefix}_plan"), default=Plan.FREE),
            "score": sa.Column(sa.Numeric(10, 2)),
            "born": sa.Column(sa.DateTime),
            "settings": sa.Column(sa.JSON),
            "prefs": sa.Column(MutableDict.as_mutable(sa.JSON)),
            "tags": sa.Column(
                MutableList.as_mutable(sa.JSON if features["tags"] == "json" else sa.PickleType)
            ),
            "blob": late(sa.Column(sa.PickleType), group="large"),
            "bio": late(sa.Column(sa.Text), group="large"),
            "x": sa.Column(sa.Integer),
            "y": sa.Column(sa.Integer),
            "edits": sa.Column(
                sa.Integer, default=0,
                onupdate=sa.literal_column("edits") + 1 if features["onupdate"] else None,
            ),
            "version": sa.Column(sa.Integer, nullable=not features["version"]),
            "kind": sa.Column(sa.String),
            "team_id": self.foreign("Team"),
            "boss_id": self.foreign("User"),
        }  # fmt: skip

    def _heirs(self) -> None:
        joined, load = self.features["family"] == "joined", self.features["polymorphic_load"]

        def own() -> dict[str, Any]:
            return {"id": self.foreign("User", primary_key=True)} if joined else {"table": False}

        self.make(
            "Admin", self["User"], level=sa.Column(sa.Integer),
            notes=sa.Column(MutableDict.as_mutable(sa.JSON)), **own(),
            duties=relationship(
                "Ability", secondary=self.pairs("User", "Ability"), order_by=self["Ability"].id
            ),
            __mapper_args__={
                "polymorphic_identity": "admin", **({"polymorphic_load": load} if load else {})
            },
        )  # fmt: skip
        if self.features["heirs"] == 2:
            self.make(
                "Guest", self["User"], until=sa.Column(sa.DateTime), **own(),
                __mapper_args__={"polymorphic_identity": "guest"},
            )  # fmt: skip


def _bind(features: Features) -> dict[str, Any]:
    return {"__bind_key__": "other"} if features["team_elsewhere"] else {}


def rows_of(m: Models) -> list[list[Any]]:
    """The rows every run begins with, those first that others refer to by a mere id."""
    read, write = m["Ability"](id=1, name="read"), m["Ability"](id=2, name="write")
    roles = [m["Role"](id=n, name=name) for n, name in enumerate(("guest", "member", "chief"), 1)]
    roles[0].abilities, roles[1].abilities = [read], [read, write]
    red, blue = m["Team"](id=1, name="red"), m["Team"](id=2, name="blue")
    users = [
        m[kind](
            id=n, name=name, team=red, score=Decimal("1.50"), born=datetime(2000, 1, n),
            settings={"a": [1]}, prefs={"b": n}, tags=["t"], blob={"deep": [n]}, bio="b", x=n, y=n,
        )
        for n, kind, name in ((1, "User", "ann"), (2, "Admin", "bob"), (3, "Guest", "cyd"))
    ]  # fmt: skip
    users[1].boss = users[2].boss = users[0]
    users[0].friends = [users[1]]
    if m.features["roles"] == "seen":
        roles[0].members, roles[1].members = users[:1], users[:2]
    else:
        users[0].roles, users[1].roles = roles[:2], roles[1:2]
    things = [
        m["Thing"](id=n, title=f"t{n}", user_id=owner) for n, owner in ((1, 1), (2, 1), (3, 2))
    ]
    grants = [m["Grant"](user_id=1, role_id=2, level=1), m["Grant"](user_id=2, role_id=1)]
    return [[read, write, *roles, red, blue, *users], [*things, *grants]]
