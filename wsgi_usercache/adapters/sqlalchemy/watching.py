"""Which statement changes which names? Everything that writes is seen at the cursor.

There each statement passes, whoever sends it. What the ORM flushes is told there apart from the
rest and narrowed to the users concerned by its rows; all else moves the names of its tables.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy.engine import Connection
from sqlalchemy.orm import Session

from . import changes, connections, fences, flushes
from .changes import Changes
from .statements import Verdict, only_selects, verdict_of


def executing(
    connection: Connection, _cursor: Any, statement: str, _values: Any, context: Any, _many: bool
) -> None:
    """Note what *statement* is going to change."""
    if only_selects(statement):
        return
    changes.look_up_tables()
    verdict = verdict_of(statement, context)
    if verdict.writes:
        _writing(connection, verdict, context)
    elif verdict.commits:
        _committing(connection, context)


def _writing(connection: Connection, verdict: Verdict, context: Any) -> None:
    fences.around_commits(connection.dialect)
    at_once = connections.commits_at_once(connection)
    flush = flushes.active()
    if flush is not None:
        flush.wrote(connection, verdict, context, at_once=at_once)
        return
    changes.record(connection, changes.both(verdict.tables | verdict.reached))
    if at_once:
        fences.around_next(connection, context, changes.taken(connection.info) or Changes())
    elif verdict.commits:
        _committing(connection, context)


def _committing(connection: Connection, context: Any) -> None:
    """A statement commits by its text. What is noted stays noted: it may go on with another."""
    noted = changes.noted(connection.info)
    if noted is not None:
        fences.around_next(connection, context, noted)


def executed(connection: Connection, cursor: Any, *_: object) -> None:
    """Tell what is committed by now, though nobody has sent a COMMIT."""
    fences.tell_unsent(connection)
    if _publish_committed(connection) and not cursor.description:
        changes.forget(connection.info)  # else it is committed once its rows are read


def rolled_back(connection: Connection, *_two_phase: object) -> None:
    """Nothing was changed after all."""
    if not connection.invalidated:  # else its info is gone with it, and asking would reconnect
        _publish_committed(connection)
        changes.forget(connection.info)


def given_back(_dbapi: Any, record: Any) -> None:
    """The transaction is over, however it ended."""
    changes.forget(record.info)


def committed(session: Session) -> None:
    """Publish what *session* committed inside a transaction that is somebody else's.

    If it was its own, COMMIT has been sent by now and nothing is left to publish. The release of
    a savepoint sends this event too, and publishes nothing.
    """
    root = connections.root_of(session)
    if root is None or session.in_nested_transaction():
        return
    for connection in connections.connections_of(root):
        if not connection.closed and not connection.invalidated:
            changes.publish(connection.info)


def _publish_committed(connection: Connection) -> bool:
    """Publish what the driver committed unasked: Python's for SQLite sends BEGIN as late as it
    can, without which the release of a savepoint is a COMMIT, and not before a WITH."""
    if changes.noted(connection.info) is None:
        return False
    driver = connections.driver_of(connection.connection)
    is_committed = getattr(driver, "in_transaction", None) is False
    if is_committed:
        changes.publish(connection.info)
    return is_committed
