"""Which connections does this context hold, and which transactions have begun on them?"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import Any
from weakref import WeakKeyDictionary, WeakSet

from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session, SessionTransaction

_HOLDER = "wsgi_usercache.holders"
_CURSORS = "wsgi_usercache.cursors"

# Of each connection checked out in this context, by the proxy that stands for it: its info.
# A plain dict that both ends share, for a connection may be given back by another thread.
_Held = dict[int, dict[Any, Any]]
_held: ContextVar[_Held | None] = ContextVar("wsgi_usercache.held", default=None)

# Each is looked up by a transaction that one thread has, so that no lock is needed.
_connections: WeakKeyDictionary[SessionTransaction, list[Connection]] = WeakKeyDictionary()
_at_end: WeakKeyDictionary[SessionTransaction, list[Callable[[], None]]] = WeakKeyDictionary()


def infos() -> list[dict[Any, Any]]:
    """The info of each connection this context holds now."""
    held = _held.get()
    return list(held.values()) if held else []


def checked_out(_dbapi: Any, record: Any, proxy: Any) -> None:
    """Note that this context took a connection."""
    held = _held.get()
    if held is None:
        held = {}
        _held.set(held)
    held[id(proxy)] = record.info
    # A connection that turned out dead is replaced and announced again: one key, one count.
    record.record_info.setdefault(_HOLDER, {})[id(proxy)] = held


def given_back(_dbapi: Any, record: Any) -> None:
    """Note, in the context that took it, that a connection is held no longer."""
    # One connection shared by several at once, as in a StaticPool, is announced but once.
    for key, held in record.record_info.pop(_HOLDER, {}).items():
        held.pop(key, None)


def commits_at_once(connection: Connection) -> bool:
    """Whether a statement sent now is committed as it ends: AUTOCOMMIT, and no BEGIN was sent."""
    chosen = connection.get_execution_options().get("isolation_level")
    driver = driver_of(connection.connection)
    is_autocommit = chosen is not None or _is_autocommit(connection, driver)
    return is_autocommit and not _has_begun(driver)


def driver_of(held: Any) -> Any:
    """The driver's own connection; one taken out of its pool for good is known only as DBAPI's."""
    return held.driver_connection or held.dbapi_connection


def _is_autocommit(connection: Connection, driver: Any) -> bool:
    if getattr(driver, "autocommit", None) is True:  # Python's for SQLite may be told so itself
        return True
    held: Any = connection.connection
    try:
        return connection.dialect.detect_autocommit_setting(held.dbapi_connection)
    except (NotImplementedError, AttributeError):  # the dialect can not tell
        return False


def reads_uncommitted(connection: Connection) -> bool:
    """Whether it was asked to show what others have not committed, and may roll back."""
    options, default = connection.get_execution_options(), connection.default_isolation_level
    return bool(options.get("isolation_level", default) == "READ UNCOMMITTED")


def sees_what_is_committed(connection: Connection) -> bool:
    """Whether each statement sent now sees what is committed when it is sent, and nothing else,
    though the transaction is older. Asks the database, unless that is SQLite."""
    if connection.dialect.name == "sqlite":
        # Without BEGIN a statement stands alone, unless another one is not read to its end: in
        # WAL mode that keeps its snapshot for all.
        cursors = connection.info.get(_CURSORS, ())
        return not _has_begun(driver_of(connection.connection)) and not len(cursors)
    try:
        return connection.get_isolation_level() in ("READ COMMITTED", "AUTOCOMMIT")
    except (DBAPIError, NotImplementedError):  # may not be asked, can not tell, or has failed
        return False


def reading(
    connection: Connection, cursor: Any, _statement: str, _values: Any, _ctx: Any, _many: bool
) -> None:
    """Note, for SQLite, a cursor that lives as long as somebody may read on."""
    if connection.dialect.name == "sqlite":
        connection.info.setdefault(_CURSORS, WeakSet()).add(cursor)


def _has_begun(driver: Any) -> bool:
    """Whether BEGIN was sent, as drivers for SQLite and PostgreSQL tell."""
    status = getattr(getattr(driver, "info", None), "transaction_status", 0)
    return bool(status or getattr(driver, "in_transaction", False))


def root_of(session: Session) -> SessionTransaction | None:
    """The outermost transaction of *session*, if one is open."""
    return session.get_transaction()


def connections_of(root: SessionTransaction) -> list[Connection]:
    """The connections *root* has taken so far; none, and nothing has begun."""
    return list(_connections.get(root, ()))


def joined(session: Session, _transaction: Any, connection: Connection) -> None:
    """Note that the outermost transaction of *session* began on *connection*."""
    root = root_of(session)
    if root is not None:
        taken = _connections.setdefault(root, [])
        if connection not in taken:
            taken.append(connection)


def at_end(root: SessionTransaction, act: Callable[[], None]) -> None:
    """Call *act* once *root* has ended, however it ends."""
    _at_end.setdefault(root, []).append(act)


def ended(_session: Session, transaction: SessionTransaction) -> None:
    """Do what was to be done at the end of *transaction*."""
    if transaction.parent is None:
        for act in _at_end.pop(transaction, ()):
            act()
