"""Whose rows does a flush write?"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from functools import lru_cache
from typing import Any
from weakref import WeakKeyDictionary

from sqlalchemy import inspect
from sqlalchemy.engine import Connection
from sqlalchemy.orm import (
    Mapper,
    Session,
    SessionTransaction,
    SessionTransactionOrigin,
    object_session,
)

from wsgi_usercache.generations import Fence

from . import fences
from .changes import Changes, any_row, both, forget, publish, record, unattributed
from .login_ids import login_names
from .mapped import is_user, is_user_class
from .statements import Verdict, bare, tables_of


class Flush:
    """One flush of one session, while it is on."""

    def __init__(self, outer: Flush | None, context: Any) -> None:
        self.outer = outer
        self._context = context
        self._before: dict[Any, tuple[set[str], set[str]]] = {}  # their UPDATE: changed, expired
        self._associations: dict[str, set[str]] = {}  # secondary table → names its rows move
        self._accounted: set[str] = set()  # tables whose rows said what they move
        self._written: dict[Connection, set[str]] = {}
        self._post_updated: set[str] = set()
        self._committed: set[Connection] = set()  # on which each statement commits as it ends
        self._fences: list[Fence] = []

    def survey(self, session: Session) -> None:
        """Find out who is on either side of the association rows about to be written."""
        deleted = set(map(id, session.deleted))
        for instance in (*session.new, *session.dirty, *session.deleted):
            state = inspect(instance)
            for relation in state.mapper.relationships:
                if relation.post_update:
                    self._post_updated.update(tables_of(state.mapper), tables_of(relation.mapper))
                if relation.secondary is None or relation.viewonly:
                    continue
                history = state.attrs[relation.key].history
                if id(instance) in deleted or history.has_changes():
                    table = bare(relation.secondary)
                    names = self._associations.setdefault(table, {any_row(table)})
                    members = (*history.added, *history.deleted)
                    names |= _associated(instance, relation, members, id(instance) in deleted)

    def wrote(
        self, connection: Connection, verdict: Verdict, context: Any, *, at_once: bool
    ) -> None:
        """Note a statement of this flush, and what it moves if no row is going to say so."""
        for table in verdict.reached:
            self._moves(connection, table)
        # The ORM's own row statements bring their mapper's cache of compiled statements along.
        if context is not None and "compiled_cache" in context.execution_options:
            self._written.setdefault(connection, set()).update(verdict.tables)
        else:
            for table in verdict.tables:
                self._moves(connection, table)
        if at_once:
            # Whose rows they are is told after the statement: until then everybody's are fenced.
            self._committed.add(connection)
            everybody = Changes(both(verdict.tables | verdict.reached))
            fences.around_next(connection, context, everybody, self._fences.extend)

    def _moves(self, connection: Connection, table: str) -> None:
        record(connection, self._associations.get(table) or both([table]))

    def updating(self, state: Any) -> None:
        """The row is about to be updated. What is set to an expression shows it now, not later."""
        self._before[state] = _changed_columns(state), set(state.expired_attributes)

    def updated_columns(self, state: Any) -> set[str]:
        """The columns that its UPDATE, if any was sent, set to expressions: of those that a
        listener still set, it is only known that they expired."""
        expired: set[str] = set(state.expired_attributes)
        changed, before = self._before.get(state, (set[str](), expired))
        return changed | (expired - before)

    def is_in(self, transaction: SessionTransaction) -> bool:
        """Whether the flush that was prepared is what *transaction* was begun for. If not it never
        came, and this is a bulk operation, whose rows say nothing."""
        return getattr(self._context, "transaction", None) is transaction

    def account(self, tables: set[str]) -> None:
        """Rows of these *tables* said what they move."""
        self._accounted |= tables

    def settle(self) -> None:
        """Let tables whose rows said nothing count as written by nobody knows whom."""
        for connection, tables in self._written.items():
            silent = (tables - self._accounted) | (tables & self._post_updated)
            if silent:
                record(connection, both(silent))
        for connection in self._committed:
            publish(connection.info)
            forget(connection.info)
        self._end_fences(lambda fence: fence.unchanged())

    def fail(self) -> None:
        """Not all was sent. What is committed already counts as written by nobody knows whom."""
        self._end_fences(lambda fence: fence.changed())

    def _end_fences(self, end: Callable[[Fence], None]) -> None:
        for fence in self._fences:
            end(fence)
        self._fences.clear()


_prepared: WeakKeyDictionary[Session, Flush] = WeakKeyDictionary()
_begun: WeakKeyDictionary[SessionTransaction, Flush] = WeakKeyDictionary()
_active: ContextVar[Flush | None] = ContextVar("wsgi_usercache.flush", default=None)


def active() -> Flush | None:
    """The innermost flush under way in this context."""
    return _active.get()


def prepared(session: Session, context: Any, _instances: Any) -> None:
    """A flush is coming, unless there turns out to be nothing to do."""
    _prepared[session] = Flush(_active.get(), context)


def begun(session: Session, transaction: SessionTransaction) -> None:
    """The flush is on, if it was prepared; other listeners have had their say by now."""
    if transaction.origin is SessionTransactionOrigin.SUBTRANSACTION:
        flush = _prepared.pop(session, None)
        if flush is not None:
            flush.survey(session)
            _begun[transaction] = flush
            _active.set(flush)


def finished(_session: Session, _context: Any) -> None:
    """The flush has sent all its statements; those of later listeners are not part of it."""
    flush = _active.get()
    if flush is not None:
        flush.settle()
        _active.set(flush.outer)


def ended(_session: Session, transaction: SessionTransaction) -> None:
    """The flush is over, by failure if `finished` did not come first."""
    flush = _begun.pop(transaction, None)
    if flush is not None and _active.get() is flush:
        if not flush.is_in(transaction):
            flush.settle()
        flush.fail()
        _active.set(flush.outer)


def inserted(mapper: Mapper[Any], connection: Connection, target: Any) -> None:
    """A row was inserted."""
    _moved(mapper, connection, target, login_names(target, old=False))


def updating(_mapper: Mapper[Any], _connection: Connection, target: Any) -> None:
    """A row is about to be updated."""
    flush = _active.get()
    if flush is not None:
        flush.updating(inspect(target))


def updated(mapper: Mapper[Any], connection: Connection, target: Any) -> None:
    """A row was updated, or only looked at for it."""
    state = inspect(target)
    if state.key is None:
        _replaced(mapper, connection, target)
        return
    flush = _active.get()
    columns = _changed_columns(state)
    if flush is not None:
        columns |= flush.updated_columns(state)
    if columns:
        columns |= _set_by_any_update(mapper)
        login = login_names(target, old=False) | login_names(target, old=True)
        _moved(mapper, connection, target, login, frozenset(columns))


def _replaced(mapper: Mapper[Any], connection: Connection, target: Any) -> None:
    """A new row took the key of one deleted in the same flush: an UPDATE instead of the two."""
    login = login_names(target, old=False)
    session = object_session(target)
    held = session and session.identity_map.get(mapper.identity_key_from_instance(target))
    login |= login_names(held, old=True) if held is not None else frozenset({None})
    _moved(mapper, connection, target, login)


def deleted(mapper: Mapper[Any], connection: Connection, target: Any) -> None:
    """A row was deleted, and with it the association rows that were its own."""
    _moved(mapper, connection, target, login_names(target, old=True))
    for relation in mapper.relationships:
        if relation.secondary is not None and not relation.viewonly:
            table = bare(relation.secondary)
            record(connection, {any_row(table)} if is_user(target) else both([table]))


def _moved(
    mapper: Mapper[Any],
    connection: Connection,
    target: Any,
    login: frozenset[str | None],
    columns: frozenset[str] = frozenset(),
) -> None:
    tables = set(tables_of(mapper))
    flush = _active.get()
    if flush is not None:
        flush.account(tables)
    names = {name for name in login if name is not None}
    names |= {any_row(table) for table in tables}
    if None in login or not is_user(target):
        names |= {unattributed(table) for table in tables}
    record(connection, names, mapped=type(target), columns=columns)


def _changed_columns(state: Any) -> set[str]:
    return {a.key for a in state.mapper.column_attrs if state.attrs[a.key].history.has_changes()}


@lru_cache(maxsize=1_024)
def _set_by_any_update(mapper: Mapper[Any]) -> frozenset[str]:
    """The attributes every UPDATE changes by itself: `onupdate`, the version counter."""
    columns: list[Any] = [
        column
        for column in mapper.columns
        # The expression of a `column_property` knows nothing of updates.
        if getattr(column, "onupdate", None) is not None
        or getattr(column, "server_onupdate", None) is not None
    ]
    if mapper.version_id_col is not None:
        columns.append(mapper.version_id_col)
    return frozenset(mapper.get_property_by_column(column).key for column in columns)


def _associated(
    instance: Any, relation: Any, members: tuple[Any, ...], is_deleted: bool
) -> set[str]:
    """The names that association rows of *instance* move, beside those of any row."""
    unknown = {unattributed(bare(relation.secondary))}
    mappers = relation.mapper.registry.mappers
    if any(mapper.local_table is relation.secondary for mapper in mappers):
        return unknown  # also read as rows of a class of their own
    if is_user(instance):
        login = login_names(instance, old=True)
    elif is_deleted or not is_user_class(relation.mapper.class_):
        return unknown
    else:
        login = frozenset().union(*(login_names(member, old=True) for member in members))
    known = {name for name in login if name is not None}
    return known | unknown if None in login else known
