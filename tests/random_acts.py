"""What requests look at, each act by its name; `random_writes.py` has those that change something.

An act answers what it saw, and means the same whatever the models: for what they lack there is an
error like any other, and errors are compared too.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import sqlalchemy as sa
from flask import g
from flask_login import current_user
from random_features import Plan
from sqlalchemy.orm import InstanceState

Act = Callable[..., Any]
ACTS: dict[str, Act] = {}

VALUES: dict[str, tuple[Any, ...]] = {
    "name": ("ann", "anne", "bob", None, "zoe"),
    "active": (True, False),
    "plan": (Plan.FREE, Plan.PRO),
    "score": (Decimal("1.50"), Decimal("2.25"), None),
    "born": (datetime(2000, 1, 1), datetime(2001, 2, 3), None),
    "settings": ({"a": [1]}, {"a": [2], "c": None}, None),
    "prefs": ({"b": 1}, {"z": 2}, None),
    "tags": (["t"], ["u", "v"], None),
    "blob": ({"deep": [1]}, None),
    "bio": ("b", "a longer one"),
    "x": (1, 7, None),
    "level": (1, 2),
    "notes": ({"n": 1}, None),
    "until": (datetime(2030, 1, 1), None),
    "team_id": (1, 2, None),
    "boss_id": (1, 3, None),
    "user_id": (1, 2, None),
    "rank": (0, 5),
    "title": ("t1", "new"),
    "kind": ("user", "admin", "guest"),
    "id": (1, 2, 4),
    "version": (1, 9),
}

# Never the value that is there already: for columns of which only one side knows what they have.
_ANOTHER: dict[str, Callable[[int], Any]] = {
    "born": lambda number: datetime(2010, 1, 1) + timedelta(number),
    "version": lambda number: 100 + number,
    "bio": str,
    "prefs": lambda number: {"made": number},
    "score": Decimal,
    "settings": lambda number: {"made": number},
    "tags": lambda number: [number],
    "rank": lambda number: 100 + number,
}


@dataclass
class At:
    """Where acts are done: one request, or what happens between two.

    What the acts touch is *held*, for a session holds it weakly.
    """

    site: Any
    held: list[Any] = field(default_factory=list)
    savepoints: list[Any] = field(default_factory=list)
    has_met: bool = False  # the user

    def __post_init__(self) -> None:
        self.models = self.site.models
        self.session = self.models.db.session

    def row(self, target: str) -> Any:
        """The row that *target* names, `me` or `Class:id`, or None."""
        if target == "me":
            self.meet()
            user = current_user._get_current_object() if current_user else None
            row = user if is_row(user) else None
        else:
            name, _, key = target.partition(":")
            keys = tuple(map(int, key.split(",")))
            row = self.session.get(self.models[name], keys if len(keys) > 1 else keys[0])
        self.held.append(row)
        return row

    def meet(self) -> None:
        """The user is about to be asked for. To look one up in the database is to flush."""
        if not self.has_met and self.session.autoflush:
            self.session.flush()
        if not self.has_met and not self.session.is_active:
            self.session.connection()  # raises: the loader could not ask the database either
        self.has_met = True

    def value(self, column: str, number: int) -> Any:
        """One of the values *column* may have."""
        if column in self.models.left_out or f"Role.{column}" in self.models.left_out:
            self.site.values += 1
            return _ANOTHER[column](self.site.values)
        values = VALUES[column]
        return values[number % len(values)]

    def roll_back(self) -> None:
        """Roll back a transaction, for which there must be one."""
        if not self.session.in_transaction():
            self.session.connection()
        self.session.rollback()


def act(function: Act) -> Act:
    """An act, by its name."""
    ACTS[function.__name__] = function
    return function


def is_row(value: object) -> bool:
    """Whether *value* is a mapped object."""
    return isinstance(sa.inspect(value, raiseerr=False), InstanceState)


def shown(value: Any) -> Any:
    """What is compared of a value: no row's place in memory, no order that sets have not."""
    if is_row(value):
        key = sa.inspect(value).identity or ("new", vars(value).get("id"))
        return f"{type(value).__name__}{key}"
    if isinstance(value, enum.Enum):
        return str(value)
    name = type(value).__name__
    if isinstance(value, dict):
        return f"{name}{ {key: shown(each) for key, each in value.items()} }"
    if isinstance(value, (set, frozenset)):
        return f"{name}{sorted(map(shown, value))}"
    if hasattr(value, "__iter__") and not isinstance(value, (str, bytes)):
        return f"{name}{list(map(shown, value))}"
    return repr(value)


def walked(value: Any, steps: list[str]) -> Any:
    """What lies at the end of *steps*, by way of each member of what they lead along."""
    if not steps:
        return shown(value)
    if isinstance(value, dict):
        return {key: walked(each, steps) for key, each in value.items()}
    if isinstance(value, (list, set)):
        ordered = sorted(value, key=shown) if isinstance(value, set) else value
        return [walked(each, steps) for each in ordered]
    if value is None:
        return None
    found = getattr(value, steps[0])
    return walked(found() if callable(found) and steps == ["get_id"] else found, steps[1:])


@act
def read(at: At, target: str, path: str) -> Any:
    row = at.row(target)
    return row if row is None else walked(row, path.split("."))


def left_out(at: At, row: Any) -> set[str]:
    """The columns of *row* that are not kept: named bare for users, `Class.name` for others."""
    prefix = f"{type(row).__name__}."
    return {name.removeprefix(prefix) for name in at.models.left_out}


@act
def graph(at: At, target: str) -> Any:
    """All that is loaded of a row and of those it leads to, without loading more."""
    waiting, found = [at.row(target)], {}
    while waiting:
        row = waiting.pop()
        if row is None or shown(row) in found:
            continue
        mapper, known = sa.inspect(row).mapper, vars(row)
        names = sorted(set(known) & set(mapper.attrs.keys()) - left_out(at, row))
        found[shown(row)] = [(name, shown(known[name])) for name in names]
        for name in known.keys() & set(mapper.relationships.keys()):
            value = known[name]
            members = list(value.values()) if isinstance(value, dict) else value
            waiting.extend(members if mapper.relationships[name].uselist else [value])
    return sorted(found.items())


@act
def count(at: At, target: str, relation: str) -> Any:
    row = at.row(target)
    return row if row is None else len(getattr(row, relation))


@act
def needs(_at: At) -> Any:
    identity = getattr(g, "identity", None)
    return identity if identity is None else sorted(map(str, identity.provides))


@act
def same(at: At, key: int) -> Any:
    return at.session.get(at.models["User"], key) is at.row("me")


@act
def state(at: At, target: str) -> Any:
    row = at.row(target)
    if row is None:
        return None
    found = sa.inspect(row)
    return [found.persistent, found.detached, found.deleted, found.modified, row in at.session]


@act
def find(at: At, name: str, column: str, number: int, how: str) -> Any:
    mapped = at.models[name]
    values = VALUES[column]
    query = sa.select(mapped).where(getattr(mapped, column) == values[number % len(values)])
    query = query.order_by(*sa.inspect(mapped).primary_key)
    if how == "populate":
        query = query.execution_options(populate_existing=True)
    elif how == "lock":
        query = query.with_for_update(of=mapped)
    found = at.session.scalars(query).unique().all()
    at.held.extend(found)
    me = at.row("me")
    return shown(found), [each is me for each in found]


@act
def total(at: At, name: str) -> Any:
    return at.session.scalar(sa.select(sa.func.count()).select_from(at.models[name]))


@act
def visit(at: At, client: int, path: str) -> Any:
    """Somebody else's request, in the middle of this one."""
    return at.site.visit(client, [("read", "me", path), ("needs",)])
