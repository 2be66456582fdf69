"""Users that are SQLAlchemy rows: the face of this package."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy import event
from sqlalchemy.engine import Engine
from sqlalchemy.orm import Mapper, Session
from sqlalchemy.pool import Pool

from wsgi_usercache.generations import Generations

from . import changes, connections, fences, flushes, held, loading, thawing, watching
from .rows import Rows

__all__ = ["Rows", "install", "listen"]

# The order matters where two listen to the same: a root transaction's first connection is noted
# before a run asks whether it was the first.
_LISTENERS: tuple[tuple[Any, str, Callable[..., None]], ...] = (
    (Pool, "checkout", connections.checked_out),
    (Pool, "checkin", connections.given_back),
    (Pool, "checkin", watching.given_back),
    (Pool, "detach", connections.given_back),
    (Engine, "engine_connect", fences.connected),
    (Engine, "begin", loading.began),
    (Engine, "begin_twophase", loading.began),
    (Engine, "before_cursor_execute", loading.executing),
    (Engine, "before_cursor_execute", connections.reading),
    (Engine, "before_cursor_execute", watching.executing),
    (Engine, "after_cursor_execute", watching.executed),
    (Engine, "rollback", watching.rolled_back),
    (Engine, "rollback_twophase", watching.rolled_back),
    (Session, "after_begin", connections.joined),
    (Session, "after_begin", loading.joined),
    (Session, "after_begin", held.filling),
    (Session, "do_orm_execute", loading.orm_executing),
    (Session, "do_orm_execute", thawing.lazily_loading),
    (Session, "loaded_as_persistent", loading.loaded),
    (Session, "before_flush", flushes.prepared),
    (Session, "after_transaction_create", flushes.begun),
    (Session, "after_flush", flushes.finished),
    (Session, "after_commit", watching.committed),
    (Session, "after_transaction_end", flushes.ended),
    (Session, "after_transaction_end", connections.ended),
    (Mapper, "before_update", flushes.updating),
    (Mapper, "after_insert", flushes.inserted),
    (Mapper, "after_update", flushes.updated),
    (Mapper, "after_delete", flushes.deleted),
)


def listen() -> None:
    """From now on see what SQLAlchemy does in this process. Opens nothing; once is enough."""
    for target, name, listener in _LISTENERS:
        if not event.contains(target, name, listener):
            event.listen(target, name, listener)


def install(generations: Generations, rows: Rows) -> None:
    """Have *generations* told, as long as *rows* lives, of what is committed in this process;
    what only changed columns that are volatile to all that share them is not told."""
    changes.install(generations, rows)
