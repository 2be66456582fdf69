"""Which calls make a change visible? Around each: marks up, the call, new numbers, marks down.

The engine's `commit` event comes before COMMIT and nothing comes after it; only the dialect sees
how COMMIT ended, or a statement that commits as it ends.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any
from weakref import WeakSet

from sqlalchemy.engine import Connection

from wsgi_usercache.generations import Fence

from . import changes
from .changes import Changes
from .statements import EVERYTHING

_NEXT = "wsgi_usercache.next"  # what the next statement commits, in its connection's info

_fenced: WeakSet[Any] = WeakSet()


def changed(fences: Iterable[Fence]) -> None:
    """The change was made."""
    for fence in fences:
        fence.changed()


@dataclass(frozen=True, slots=True)
class _Next:
    """What the statement of *context* commits, and who ends the fence if it succeeds."""

    context: Any
    noted: Changes
    then: Callable[[list[Fence]], None]


def connected(connection: Connection) -> None:
    """Put the fence around every COMMIT of this connection's dialect, if it is a new one."""
    around_commits(connection.dialect)


def around_commits(dialect: Any) -> None:
    """Put the fence around every COMMIT of *dialect*."""
    if dialect not in _fenced:
        _fenced.add(dialect)  # two fences, should two threads come here, are as good as one
        dialect.do_commit = _fenced_commit(dialect, dialect.do_commit)
        dialect.do_commit_twophase = _fenced_commit(
            dialect, _of_anybody(dialect.do_commit_twophase)
        )
        for name in ("do_execute", "do_executemany", "do_execute_no_params"):
            setattr(dialect, name, _fenced_statement(dialect, getattr(dialect, name)))


def around_next(
    connection: Connection,
    context: Any,
    noted: Changes,
    then: Callable[[list[Fence]], None] = changed,
) -> None:
    """The statement of *context*, about to be sent, commits what is *noted*; *then* ends the
    fence."""
    connection.info[_NEXT] = _Next(context, noted, then)


def _fenced_commit(dialect: Any, commit: Callable[..., None]) -> Callable[..., None]:
    def do_commit(connection: Any, *args: Any, **options: Any) -> None:
        noted = changes.taken(getattr(connection, "info", None))
        if noted is None:
            commit(connection, *args, **options)
            return
        fences = _raised(noted)
        try:
            commit(connection, *args, **options)
        except BaseException as error:
            _failed(fences, has_answered=_has_answered(dialect, error, connection, None))
            if _is_open(connection):
                changes.keep(connection.info, noted)  # it may be committed yet
            raise
        changed(fences)

    return do_commit


def _is_open(connection: Any) -> bool:
    """Whether COMMIT was refused and the transaction goes on, as SQLite has it."""
    driver = getattr(connection, "driver_connection", None)
    try:
        return getattr(driver, "in_transaction", False) is True
    except Exception:  # the driver's own, for a connection that is closed
        return False


def _of_anybody(commit: Callable[..., None]) -> Callable[..., None]:
    """A *commit* that, if it recovers what some process has prepared, is told to everybody."""

    def do_commit(
        connection: Any, xid: object, is_prepared: bool = True, recover: bool = False
    ) -> None:
        commit(connection, xid, is_prepared=is_prepared, recover=recover)
        if recover:
            changes.tell(Changes(changes.both([EVERYTHING])))

    return do_commit


def _fenced_statement(dialect: Any, execute: Callable[..., Any]) -> Callable[..., Any]:
    def do_execute(cursor: Any, statement: str, *args: Any, **options: Any) -> Any:
        context = options.get("context", args[-1] if args else None)
        connection: Any = getattr(context, "root_connection", None)
        following: _Next | None = None if connection is None else connection.info.pop(_NEXT, None)
        if following is not None and following.context is not context:
            changes.tell(following.noted)  # its own was never sent: a listener raised
            following = None
        if following is None:
            return execute(cursor, statement, *args, **options)
        fences = _raised(following.noted)
        try:
            answer = execute(cursor, statement, *args, **options)
        except BaseException as error:
            held = connection.connection
            _failed(fences, has_answered=_has_answered(dialect, error, held, cursor))
            raise
        if dialect.name == "sqlite" and cursor.description and following.then is changed:
            _failed(fences, has_answered=False)  # it commits once its rows are read, some time
        else:
            following.then(fences)
        return answer

    return do_execute


def tell_unsent(connection: Connection) -> None:
    """Tell what a statement commits that was not sent by us: a `do_execute` hook has sent it."""
    following: _Next | None = connection.info.pop(_NEXT, None)
    if following is not None:
        changes.tell(following.noted)


def _raised(noted: Changes) -> list[Fence]:
    fences: list[Fence] = []
    try:
        for generations, slots in changes.addressees(noted):
            fences.append(generations.changing(slots))
    except BaseException:
        for fence in fences:
            fence.unchanged()  # nothing had been sent
        raise
    return fences


def _failed(fences: list[Fence], *, has_answered: bool) -> None:
    """The call raised. If the database said so itself, what it did is done; else it may still be
    working on it."""
    for fence in fences:
        fence.changed() if has_answered else fence.lost()


def _has_answered(dialect: Any, error: BaseException, connection: Any, cursor: Any) -> bool:
    if not isinstance(error, dialect.loaded_dbapi.Error):
        return False
    driver = getattr(connection, "dbapi_connection", connection)
    return not dialect.is_disconnect(error, driver, cursor)
