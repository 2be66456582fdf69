"""Which mapped classes are users, and which of their attributes do the options name?"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from weakref import WeakSet

from sqlalchemy.orm import Mapper
from sqlalchemy.orm.collections import collection_adapter

_named_users: WeakSet[type] = WeakSet()  # classes an app's `user_class` option named


def name_user_class(mapped: type) -> None:
    """From now on *mapped* and its subclasses are users, whatever they look like."""
    _named_users.add(mapped)


def is_user_class(mapped: type) -> bool:
    """Whether rows of this class can be somebody who is logged in.

    One answer for readers and writers, whichever app they belong to: what one of them takes for a
    user the other must not take for a row of nobody's.
    """
    if hasattr(mapped, "get_id") and hasattr(mapped, "is_authenticated"):
        return True
    return any(parent in _named_users for parent in mapped.__mro__)


def is_user(instance: object) -> bool:
    """Whether *instance* is a row of a user class."""
    return is_user_class(type(instance))


def members(relation: Any, value: Any) -> list[Any]:
    """The objects that the loaded *value* of *relation* holds, in its own order."""
    if relation.uselist:
        return list(collection_adapter(value))
    return [] if value is None else [value]


class AttributeNames:
    """Attributes as `volatile` and `exclude` name them: bare for those of users, `Class.name`."""

    def __init__(self, names: Iterable[str]) -> None:
        self._names = frozenset(names)

    def __iter__(self) -> Any:
        return iter(sorted(self._names))

    def has(self, mapped: type, attribute: str) -> bool:
        """Whether the option names this *attribute* of *mapped*."""
        if not self._names:
            return False
        if attribute in self._names and is_user_class(mapped):
            return True
        return any(f"{parent.__name__}.{attribute}" in self._names for parent in mapped.__mro__)


def wrong_path(path: str, mappers: Iterable[Mapper[Any]]) -> bool:
    """Whether *path* leads along relationships from none of *mappers*."""
    return not any(_leads(path.split("."), mapper) for mapper in mappers)


def wrong_attribute(
    name: str, users: Iterable[Mapper[Any]], others: Iterable[Mapper[Any]]
) -> bool:
    """Whether *name*, as an option spells it, is a column attribute of no class it can mean."""
    class_name, _, attribute = name.rpartition(".")
    if not class_name:
        return not any(attribute in mapper.column_attrs for mapper in users)
    return not any(
        attribute in mapper.column_attrs
        for mapper in (*users, *others)
        if mapper.class_.__name__ == class_name
    )


def _leads(steps: list[str], mapper: Mapper[Any]) -> bool:
    for step in steps:
        owners = [m for m in mapper.self_and_descendants if step in m.relationships]
        if not owners:
            return False
        mapper = owners[0].relationships[step].mapper
    return True
