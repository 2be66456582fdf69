"""What exactly is kept of a user? A change of it is to be seen, and meant."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask
from flask_login import UserMixin
from sqlalchemy.ext.associationproxy import association_proxy
from sqlalchemy.ext.hybrid import hybrid_property
from sqlalchemy.ext.mutable import MutableDict
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    column_property,
    composite,
    deferred,
    mapped_column,
    relationship,
    scoped_session,
    sessionmaker,
)

from wsgi_usercache.adapters.sqlalchemy import Rows, listen
from wsgi_usercache.adapters.sqlalchemy.frozen import FrozenUser
from wsgi_usercache.generations.process import ProcessGenerations

GOLDEN = Path(__file__).parent / "golden" / "frozen_user.txt"

CHANGED = f"""the frozen form is another one now. If that is meant,
write {GOLDEN.name} anew (USERCACHE_WRITE_GOLDEN=1 make tests ARGS={Path(__file__).name}),
and bump what depends on it: the memory a user takes (benchmarks), and CHANGES.md if something is
kept that was not, or no longer. No process ever reads what another one has frozen."""


class Base(DeclarativeBase):
    pass


pairs = sa.Table(
    "pairs", Base.metadata,
    sa.Column("person_id", sa.ForeignKey("person.id"), primary_key=True),
    sa.Column("group_id", sa.ForeignKey("group.id"), primary_key=True),
)  # fmt: skip


@dataclass
class Point:
    x: int
    y: int


class Group(Base):
    __tablename__ = "group"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    parent_id: Mapped[int | None] = mapped_column(sa.ForeignKey("group.id"))
    parent = relationship("Group", remote_side=id)


class Person(UserMixin, Base):
    __tablename__ = "person"
    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str]
    name: Mapped[str]
    born: Mapped[date | None]
    owed: Mapped[Decimal] = mapped_column(sa.Numeric(9, 2))
    settings: Mapped[Any] = mapped_column(MutableDict.as_mutable(sa.JSON))  # type: ignore[arg-type]
    tags: Mapped[Any] = mapped_column(sa.JSON)
    secret: Mapped[str | None]
    seen: Mapped[int | None]
    notes: Mapped[str | None] = deferred(mapped_column(sa.Text))
    where: Mapped[Any] = composite(
        Point, mapped_column("x", sa.Integer), mapped_column("y", sa.Integer)
    )
    groups = relationship(Group, secondary=pairs, order_by=Group.id)
    group_names = association_proxy("groups", "name")
    shout: Mapped[str] = column_property(sa.func.upper(sa.literal_column("person.name")))
    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "person"}

    @hybrid_property
    def initial(self) -> str:
        return self.name[0]


class Chief(Person):
    __tablename__ = "chief"
    id: Mapped[int] = mapped_column(sa.ForeignKey("person.id"), primary_key=True)
    rank: Mapped[int]
    __mapper_args__ = {"polymorphic_identity": "chief"}


@pytest.fixture
def session() -> Iterator[scoped_session[Any]]:
    engine = sa.create_engine("sqlite://")
    Base.metadata.create_all(engine)
    listen()
    session = scoped_session(sessionmaker(engine))
    top = Group(id=1, name="all")
    session.add(
        Chief(
            id=7, name="ann", born=date(2000, 2, 29), owed=Decimal("1.50"), settings={"a": [1]},
            tags=["b"], secret="s", seen=3, notes="long", where=Point(1, 2), rank=9,
            groups=[top, Group(id=2, name="some", parent=top)],
        )
    )  # fmt: skip
    session.commit()
    session.remove()
    yield session
    session.remove()
    engine.dispose()


def test_the_frozen_form_is_what_it_was(session: scoped_session[Any]) -> None:
    rows = Rows(
        Flask("golden"), ProcessGenerations(), session=session, user_class=Person,
        load=["groups.parent"], exclude=["secret"], volatile=["seen"],
    )  # fmt: skip
    with rows.run() as run:
        user = session.get(Person, 7)
        user.made_by = ("the loader", 1)
        rows.load_named(user)
        assert (user.initial, list(user.group_names)) == ("a", ["all", "some"])
        text = shown(rows.freeze(user, run, None))
    if os.environ.get("USERCACHE_WRITE_GOLDEN"):
        GOLDEN.write_text(text)
    assert text == GOLDEN.read_text(), CHANGED


def shown(frozen: FrozenUser) -> str:
    """All of it, one field a line, with the types that `repr` does not tell."""
    lines = [f"attached: {frozen.is_attached}"]
    for number, node in enumerate(frozen.nodes):
        lines += ["", f"{number}: {node.mapped.__name__} at {node.path!r}"]
        lines += [f"  key = {node.key}", f"  columns = {', '.join(sorted(node.columns))}"]
        lines += [f"  loading = {node.loading}"] if node.loading else []
        for name in ("values", "copied", "links"):
            for key, value in sorted(getattr(node, name).items()):
                lines.append(f"  {name}.{key}: {type(value).__name__} = {value!r}")
    return "\n".join(lines).replace(f"{__name__}.", "") + "\n"
