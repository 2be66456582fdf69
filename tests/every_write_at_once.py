"""Writes that nobody commits by a call: on AUTOCOMMIT, and by COMMIT as text."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import sqlalchemy as sa
from every_write_acts import EVERYBODY, POSTGRES, Act, At, narrow, own_session, wide
from every_write_endings import AUTOCOMMIT, rename
from every_write_texts import UPDATE

BOB = UPDATE.replace("anne", "rob").replace("= 1", "= 2")


def at_once(at: At) -> None:
    """What a session flushes is committed by and by, without a commit."""
    rename(own_session(at, **AUTOCOMMIT), at)


def at_once_of_a_session(at: At) -> None:
    session = own_session(at)
    session.connection(execution_options={"isolation_level": "AUTOCOMMIT"})
    rename(session, at)


def statement_at_once(statement: str) -> Callable[[At], None]:
    return lambda at: at.connection(**AUTOCOMMIT).exec_driver_sql(statement)


def connection_at_once(at: At) -> Any:
    """A connection that was told so itself."""
    return at.open(at.site.engine().connect().execution_options(isolation_level="AUTOCOMMIT"))


def texts(*statements: str, **options: Any) -> Callable[[At], None]:
    """What one connection is sent; the last one has to be enough."""

    def write(at: At) -> None:
        connection = at.connection(**options)
        for statement in statements:
            connection.exec_driver_sql(statement)

    return write


AT_ONCE: dict[str, Act] = {
    "AUTOCOMMIT": wide(statement_at_once(UPDATE), ends=True),
    "AUTOCOMMIT of a connection": wide(
        lambda at: connection_at_once(at).execute(sa.text(UPDATE)), ends=True
    ),
    "AUTOCOMMIT, flushed": narrow(at_once, ends=True),
    "AUTOCOMMIT of a session's connection, flushed": narrow(at_once_of_a_session, ends=True),
    "AUTOCOMMIT, BEGIN and COMMIT": wide(
        texts("BEGIN", UPDATE, "COMMIT", **AUTOCOMMIT), ends=True
    ),
    "AUTOCOMMIT, BEGIN and END": wide(
        texts("BEGIN", UPDATE, "end transaction", **AUTOCOMMIT), ends=True
    ),
    "AUTOCOMMIT, BEGIN and ROLLBACK": Act(
        texts("BEGIN", UPDATE, "ROLLBACK", **AUTOCOMMIT), (), EVERYBODY, ends=True
    ),
    "AUTOCOMMIT, several": wide(
        texts(f"BEGIN; {UPDATE}; COMMIT", **AUTOCOMMIT), on=(POSTGRES,), ends=True
    ),
    "COMMIT as text": wide(texts(UPDATE, "COMMIT"), ends=True),
    "COMMIT as text, and more": wide(
        texts(UPDATE, "/* at last */ COMMIT", BOB), ends=True
    ),
    "COMMIT as text, chained": wide(
        texts(UPDATE, "COMMIT AND CHAIN"), on=(POSTGRES,), ends=True
    ),
    "COMMIT as text, of several": wide(
        texts(f"{UPDATE}; COMMIT"), on=(POSTGRES,), ends=True
    ),
    "COMMIT as text, after a flush": narrow(
        lambda at: (rename(at.session, at), at.execute("COMMIT")), ends=True
    ),
    "ROLLBACK as text": Act(texts(UPDATE, "ROLLBACK"), (), EVERYBODY, ends=True),
}  # fmt: skip
