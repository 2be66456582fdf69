"""Can what was read have changed without the rows it found, or only with them?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sqlalchemy import Select, Table, TextClause, inspect
from sqlalchemy.orm import (
    Mapper,
    ORMExecuteState,
    RelationshipDirection,
    RelationshipProperty,
)
from sqlalchemy.sql import visitors
from sqlalchemy.sql.selectable import AliasedReturnsRows, SelectBase

from .mapped import is_user, is_user_class, members
from .statements import bare, tables_of


def is_narrow(state: ORMExecuteState) -> bool:
    """Whether what is read can only change with the rows it finds, or by an unattributed write."""
    if state.is_column_load:
        return True
    if state.is_relationship_load and state.loader_strategy_path is not None:
        relation = state.loader_strategy_path.path[-1]
        return isinstance(relation, RelationshipProperty) and not (
            is_user_class(relation.mapper.class_) or _leads_through_users(relation)
        )
    return state.is_orm_statement and state.is_select and _is_plain(state.statement)


def _leads_through_users(relation: Any) -> bool:
    """Whether rows of other users decide which rows *relation* leads to."""
    if relation.secondary is None:
        return False
    users = {
        table
        for mapper in relation.mapper.registry.mappers
        if is_user_class(mapper.class_)
        for table in tables_of(mapper)
    }
    within = visitors.iterate(relation.secondary)
    return any(isinstance(each, Table) and bare(each) in users for each in within)


def _is_plain(statement: Any) -> bool:
    """Whether *statement* selects one class from its own tables and nothing else."""
    described = statement.column_descriptions if isinstance(statement, Select) else []
    if len(described) != 1:
        return False
    mapper = inspect(described[0]["expr"], raiseerr=False)
    if not isinstance(mapper, Mapper):
        return False
    family = {table for each in mapper.self_and_descendants for table in tables_of(each)}
    for part in visitors.iterate(statement):
        if (
            isinstance(part, (SelectBase, AliasedReturnsRows, TextClause))
            and part is not statement
        ):
            return False
        if isinstance(part, Table) and bare(part) not in family:
            return False
    return True


def knows_others(instance: Any, user_key: Any) -> bool:
    """Whether *instance* is another user, or lists users who may come and go."""
    state = inspect(instance)
    if is_user(instance) and state.key != user_key:
        return True
    return any(
        is_user_class(relation.mapper.class_)
        and relation.direction is not RelationshipDirection.MANYTOONE
        for relation in state.mapper.relationships
        if relation.key in state.dict
    )


def tables_around(row: Any) -> Iterator[str]:
    """The tables of all that hangs loaded on *row*, whoever loaded it."""
    seen: dict[int, Any] = {}
    waiting = [row]
    while waiting:
        instance = waiting.pop()
        if id(instance) in seen:
            continue
        seen[id(instance)] = instance
        state = inspect(instance)
        yield from tables_of(state.mapper)
        for relation in state.mapper.relationships:
            if relation.key in state.dict:
                if relation.secondary is not None:
                    yield bare(relation.secondary)
                yield from tables_of(relation.mapper)
                waiting.extend(members(relation, state.dict[relation.key]))
