"""What requests change by way of the ORM: rows, what leads from one to another, sessions."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from random_acts import At, act
from random_features import MutablePoint, Point
from sqlalchemy.orm.attributes import flag_modified


@act
def write(at: At, target: str, column: str, number: int) -> Any:
    row = at.row(target)
    if row is None or column not in sa.inspect(row).mapper.column_attrs:
        return "none"
    setattr(row, column, at.value(column, number))
    return "written"


@act
def mutate(at: At, target: str, column: str, flag: bool) -> Any:
    """Change a value where it stands."""
    row = at.row(target)
    if row is None:
        return "none"
    value = getattr(row, column)
    if isinstance(value, MutablePoint):
        value.x = 99
    elif isinstance(value, Point):
        row.spot = Point(98, None)
    elif isinstance(value, dict):
        value["new"] = [1]
        value.get("deep", []).append(2)
    elif isinstance(value, list):
        value.append("more")
    if flag and value is not None and column != "spot":
        flag_modified(row, column)
    return "mutated"


@act
def link(at: At, target: str, relation: str, member: int, how: str) -> Any:
    """Add to, take from, replace or empty what *relation* leads to."""
    row = at.row(target)
    if row is None:
        return "none"
    if relation == "granted":
        return _change(row.granted, at.row(f"Role:{member}"), how)
    known = sa.inspect(row).mapper.relationships[relation]
    name = known.mapper.class_.__name__
    other = at.row(f"{name}:{member}" if name != "Grant" else f"Grant:{member},{member}")
    if not known.uselist:
        setattr(row, relation, other if how in ("add", "replace") else None)
        return "set"
    members = getattr(row, relation)
    if how != "replace":
        return _change(members, other, how)
    found = [] if other is None else [other]
    if isinstance(members, dict):
        setattr(row, relation, {each.title: each for each in found})
    else:
        setattr(row, relation, set(found) if isinstance(members, set) else found)
    return "replaced"


def _change(members: Any, other: Any, how: str) -> Any:
    if how == "clear":
        members.clear()
    elif other is None:
        return "none"
    elif isinstance(members, dict):
        members.set(other) if how == "add" else members.remove(other)
    elif how == "add":
        (members.add if isinstance(members, set) else members.append)(other)
    else:
        members.remove(other)
    return how


@act
def create(at: At, name: str, key: int, number: int) -> Any:
    mapped = at.models[name]
    made = f"made{number}"
    if name == "Grant":
        row = mapped(user_id=key, role_id=number % 3 + 1, level=number)
    elif name == "Thing":
        row = mapped(id=key, title=made, user_id=number % 3 or None)
    elif name in ("Role", "Ability", "Team"):
        row = mapped(id=key, name=made)
    else:
        row = mapped(id=key, name=at.value("name", number) or made, prefs={"made": number})
    at.session.add(row)
    at.held.append(row)
    return "added"


@act
def delete(at: At, target: str) -> Any:
    row = at.row(target)
    return "none" if row is None else at.session.delete(row)


@act
def reborn(at: At, key: int, flush: bool) -> Any:
    """A user is deleted, and another one gets the id, in one flush or in two."""
    user = at.row(f"User:{key}")
    if user is not None:
        at.session.delete(user)
        if flush:
            at.session.flush()
    made = at.models["User"](id=key, name=f"reborn{key}", prefs={"again": key})
    at.session.add(made)
    at.held.append(made)
    return "again"


@act
def merge(at: At, key: int, number: int) -> Any:
    name = at.value("name", number) or "merged"
    merged = at.session.merge(at.models["User"](id=key, name=name))
    at.held.append(merged)
    return merged is at.row("me")


@act
def of_session(at: At, what: str) -> Any:
    """flush, commit, rollback, expire_all, remove."""
    return at.roll_back() if what == "rollback" else getattr(at.session, what)()


@act
def of_row(at: At, target: str, what: str, names: list[str] | None) -> Any:
    """expire, refresh, expunge."""
    row = at.row(target)
    if row is None:
        return "none"
    if what == "expunge" and (at.models.left_out or at.models.features["loader"] == "slim"):
        return "what it still had to load"
    more = () if what == "expunge" else (names,)
    return getattr(at.session, what)(row, *more)


@act
def savepoint(at: At, what: str) -> Any:
    """begin, release or go back to one."""
    if what == "begin":
        at.savepoints.append(at.session.begin_nested())
        # SQLite sees from now on what there is at the first statement, which need not be the same.
        return at.session.scalar(sa.select(sa.func.count(at.models["User"].id)))
    if not at.savepoints:
        return "none"
    innermost = at.savepoints.pop()
    return innermost.commit() if what == "release" else innermost.rollback()
