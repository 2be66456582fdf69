"""What did one recorded run read, and which transactions did it open?

A run belongs to the context it was begun in. Runs nest; what is executed belongs to the innermost.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from sqlalchemy import inspect
from sqlalchemy.engine import Connection
from sqlalchemy.orm import ORMExecuteState, Session, SessionTransaction, SessionTransactionOrigin

from wsgi_usercache.storable import NEW_TABLE

from . import changes, connections
from .held import HeldRows
from .narrow import is_narrow, knows_others, tables_around
from .statements import known_tables, verdict_of

_IS_NARROW = "wsgi_usercache_is_narrow"  # execution option by which a statement carries its kind

_innermost: ContextVar[Run | None] = ContextVar("wsgi_usercache.run", default=None)


class Run:
    """One recorded run of the loader or of identity handlers."""

    def __init__(self, known: frozenset[str], outer: Run | None, held: HeldRows) -> None:
        self._known = known
        self._held = held
        self._outer = outer
        self._refusal: str | None = None
        self._tables: set[str] = set()
        self._is_wide = False
        self._begun: set[Connection] = set()
        self._roots: list[tuple[Session, SessionTransaction]] = []
        self._asked: set[Connection] = set()
        self._spoiled: set[Connection] = set()  # on which more went on than reading
        self._loaded: dict[int, Any] = {}  # held, lest an id be given to another object
        self._before: dict[Session, dict[Any, frozenset[str]]] = {}

    @property
    def refusal(self) -> str | None:
        """Why what was read can not be remembered, or None."""
        if self._refusal is None and not self._known.issuperset(self._names(self._tables)):
            return NEW_TABLE
        if self._refusal is None and not self._held.are_current():
            return "identity map"
        return self._refusal

    def names(self, user: object) -> frozenset[str]:
        """The names of what was read: narrow ones, unless rows of other users were looked at."""
        state = inspect(user, raiseerr=False)
        key = getattr(state, "key", None)
        met = (*self._loaded.values(), *self._held.rows)
        if any(knows_others(instance, key) for instance in met):
            self._is_wide = True
        tables = self._tables | self._held.tables()
        if key is not None:
            tables.update(tables_around(user))
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
        if verdict.begins:
            return
        options = context.execution_options
        if not verdict.selects:
            self._refuse("writes")
        elif verdict.textual or not verdict.tables:
            self._refuse("textual SQL")
        elif options.get("schema_translate_map"):
            self._refuse("schema_translate_map")
        elif connection not in self._asked:
            self._asked.add(connection)
            self._ask(connection)
        self._tables |= verdict.tables
        if verdict.nested or not options.get(_IS_NARROW):
            self._is_wide = True

    def _ask(self, connection: Connection) -> None:
        """Find out whether what *connection* shows is neither older than the numbers nor more
        than is committed."""
        if changes.noted(connection.info) is not None:
            self._refuse("written in the transaction")
        elif connections.reads_uncommitted(connection):
            self._refuse("reads uncommitted")
        elif connection not in self._begun and not connections.sees_what_is_committed(connection):
            self._refuse("in a transaction")


@contextmanager
def recorded(known: frozenset[str], held: HeldRows) -> Iterator[Run]:
    """A run, as long as the block lasts; *known* are the names whose numbers were read."""
    run = Run(known, _innermost.get(), held)
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
        state.update_execution_options(**{_IS_NARROW: is_narrow(state)})


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
    if not verdict.begins and (not verdict.selects or verdict.textual or not verdict.tables):
        _each(lambda run: run._spoiled.add(connection))


def _each(act: Callable[[Run], object]) -> None:
    run = _innermost.get()
    while run is not None:
        act(run)
        run = run._outer
