"""Which mapped classes are users, and which of their attributes do the options name?"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from weakref import WeakSet

from sqlalchemy.ext.associationproxy import AssociationProxy
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
    return all(relations_along(path, mapper) is None for mapper in mappers)


def relations_along(path: str, mapper: Mapper[Any]) -> tuple[str, ...] | None:
    """The relationships that a path as `load` spells it leads along from *mapper*; None if it
    leads nowhere. An association proxy stands for those it goes through."""
    at: Mapper[Any] | None = mapper
    found: tuple[str, ...] = ()
    for step in path.split("."):
        names, at = (None, None) if at is None else _step(step, at)
        if names is None:
            return None
        found += names
    return found


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


def _step(step: str, mapper: Mapper[Any]) -> tuple[tuple[str, ...] | None, Mapper[Any] | None]:
    """The relationships that one step goes along, and where it leads: None to a plain value."""
    for each in mapper.self_and_descendants:
        if step in each.relationships:
            return (step,), each.relationships[step].mapper
        proxy: Any = each.all_orm_descriptors.get(step)
        if isinstance(proxy, AssociationProxy):
            through = each.relationships[proxy.target_collection].mapper
            names, target = _step(proxy.value_attr, through)
            return (proxy.target_collection, *(names or ())), target
    return None, None
