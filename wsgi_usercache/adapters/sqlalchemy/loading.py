"""What did one recorded run read, and which transactions did it open?

A run belongs to the context it was begun in. Runs nest; what is executed belongs to the innermost.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from sqlalchemy import Select, Table, TextClause, inspect
from sqlalchemy.engine import Connection
from sqlalchemy.orm import (
    Mapper,
    ORMExecuteState,
    RelationshipDirection,
    RelationshipProperty,
    Session,
    SessionTransaction,
    SessionTransactionOrigin,
)
from sqlalchemy.sql import visitors
from sqlalchemy.sql.selectable import AliasedReturnsRows, SelectBase

from wsgi_usercache.storable import NEW_TABLE

from . import changes, connections
from .mapped import is_user, is_user_class, members
from .statements import bare, known_tables, tables_of, verdict_of

_IS_NARROW = "wsgi_usercache_is_narrow"  # execution option by which a statement carries its kind

_innermost: ContextVar[Run | None] = ContextVar("wsgi_usercache.run", default=None)


class Run:
    """One recorded run of the loader or of identity handlers."""

    def __init__(
        self, known: frozenset[str], outer: Run | None, session: Session | None = None
    ) -> None:
        self._known = known
        self._outer = outer
        self._refusal: str | None = None
        self._tables: set[str] = set()
        self._is_wide = False
        self._begun: set[Connection] = set()
        self._roots: list[tuple[Session, SessionTransaction]] = []
        # What the session holds already can be read without a statement.
        self._present = [] if session is None else list(session.identity_map.values())
        self._spoiled: set[Connection] = set()  # on which more went on than reading
        self._loaded: dict[int, Any] = {}  # held, lest an id be given to another object
        self._before: dict[Session, dict[Any, frozenset[str]]] = {}

    @property
    def refusal(self) -> str | None:
        """Why what was read can not be remembered, or None."""
        if self._refusal is None and not self._known.issuperset(self._names(self._tables)):
            return NEW_TABLE
        return self._refusal

    def names(self, user: object) -> frozenset[str]:
        """The names of what was read: narrow ones, unless rows of other users were looked at."""
        state = inspect(user, raiseerr=False)
        key = getattr(state, "key", None)
        met = (*self._loaded.values(), *self._present)
        if any(_knows_others(instance, key) for instance in met):
            self._is_wide = True
        tables = set(self._tables)
        for row in self._present:
            tables.update(tables_of(inspect(row).mapper))
        if key is not None:
            tables.update(_tables_around(user))
            known_tables.learn(tables)
        return frozenset(self._names(tables))

    def has_loaded(self, instance: object) -> bool:
        """Whether *instance* came out of the database in this run."""
        return id(instance) in self._loaded

    def loaded_before(self, session: Session | None, key: Any) -> frozenset[str] | None:
        """The attributes the row *key* of *session* already had when the run first asked that
        session for something; None if it did not ask or the row was not there."""
        return None if session is None else self._before.get(session, {}).get(key)

    def close(self) -> None:
        """Give back the connections that this run made its sessions take.

        Closing a transaction sends no commit or roll-back event and expires nothing. It is left
        alone if anything but reading went on in it, or somebody else has begun or will end it.
        """
        for session, root in self._roots:
            if session.get_transaction() is root and self._is_ours(session, root):
                root.close()
        self._roots.clear()

    def _is_ours(self, session: Session, root: SessionTransaction) -> bool:
        taken = set(connections.connections_of(root))
        return (
            root.origin is SessionTransactionOrigin.AUTOBEGIN
            and taken <= self._begun
            and self._spoiled.isdisjoint(taken)
            and not (session.new or session.dirty or session.deleted)
        )

    def _names(self, tables: set[str]) -> Iterator[str]:
        return map(changes.any_row if self._is_wide else changes.unattributed, tables)

    def _refuse(self, reason: str) -> None:
        if self._refusal is None:
            self._refusal = reason

    def _meet(self, session: Session) -> None:
        if session not in self._before:
            rows = session.identity_map.values()
            self._before[session] = {inspect(row).key: frozenset(vars(row)) for row in rows}
            if session.info:
                self._refuse("session.info")
            if not session.autobegin:
                self._refuse("autobegin off")

    def _note(self, connection: Connection, statement: str, context: Any) -> None:
        verdict = verdict_of(statement, context)
        options = context.execution_options
        if not verdict.selects:
            self._refuse("writes")
        elif verdict.textual or not verdict.tables:
            self._refuse("textual SQL")
        elif options.get("schema_translate_map"):
            self._refuse("schema_translate_map")
        elif connection not in self._begun:
            self._refuse("in a transaction")  # what it sees may be older than the numbers
        self._tables |= verdict.tables
        if verdict.nested or not options.get(_IS_NARROW):
            self._is_wide = True


@contextmanager
def recorded(known: frozenset[str], session: Session | None = None) -> Iterator[Run]:
    """A run, as long as the block lasts; *known* are the names whose numbers were read."""
    run = Run(known, _innermost.get(), session)
    _innermost.set(run)
    try:
        yield run
    finally:
        _innermost.set(run._outer)


def began(connection: Connection, _xid: object = None) -> None:
    """A transaction began on *connection*."""
    _each(lambda run: run._begun.add(connection))


def joined(session: Session, _transaction: Any, connection: Connection) -> None:
    """A session's transaction took *connection*; if its first, the run has opened it."""
    root = connections.root_of(session)
    if root is not None and connections.connections_of(root) == [connection]:
        _each(lambda run: run._roots.append((session, root)))


def orm_executing(state: ORMExecuteState) -> None:
    """The ORM is about to execute something; note what its objects were like before."""
    if _innermost.get() is not None:
        _each(lambda run: run._meet(state.session))
        state.update_execution_options(**{_IS_NARROW: _is_narrow(state)})


def loaded(_session: Session, instance: object) -> None:
    """A row became an object."""
    _each(lambda run: run._loaded.setdefault(id(instance), instance))


def executing(
    connection: Connection, _cursor: Any, statement: str, _values: Any, context: Any, _many: bool
) -> None:
    """The innermost run rests on what *statement* reads."""
    run = _innermost.get()
    if run is None:
        return
    run._note(connection, statement, context)
    verdict = verdict_of(statement, context)
    if not verdict.selects or verdict.textual or not verdict.tables:
        _each(lambda run: run._spoiled.add(connection))


def _each(act: Callable[[Run], object]) -> None:
    run = _innermost.get()
    while run is not None:
        act(run)
        run = run._outer


def _is_narrow(state: ORMExecuteState) -> bool:
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


def _knows_others(instance: Any, user_key: Any) -> bool:
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


def _tables_around(user: Any) -> Iterator[str]:
    """The tables of all that hangs loaded on *user*, whoever loaded it."""
    seen: dict[int, Any] = {}
    waiting = [user]
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
