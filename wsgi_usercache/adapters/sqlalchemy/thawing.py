"""How does plain data become a row of the request's own again?"""

from __future__ import annotations

from collections import Counter
from copy import deepcopy
from typing import Any
from weakref import WeakKeyDictionary

from sqlalchemy import inspect
from sqlalchemy.orm import (
    InstanceState,
    Mapper,
    ORMExecuteState,
    Session,
    SessionTransactionOrigin,
    make_transient_to_detached,
)
from sqlalchemy.orm.attributes import set_committed_value

from wsgi_usercache.storable import Unstorable

from .frozen import FrozenUser, Link, Node, shape_of

_lazy_loads: WeakKeyDictionary[InstanceState[Any], Counter[str]] = WeakKeyDictionary()


def lazily_loading(state: ORMExecuteState) -> None:
    """Count what a thawed row loads, for whoever thawed it."""
    if not state.is_select or not state.is_relationship_load:
        return
    source = state.lazy_loaded_from
    if source is not None and source in _lazy_loads and state.loader_strategy_path is not None:
        relation: Any = state.loader_strategy_path.path[-1]
        _lazy_loads[source][f"{type(source.obj()).__name__}.{relation.key}"] += 1


def thaw(frozen: FrozenUser, session: Session | None, lazy_loads: Counter[str]) -> Any:
    """A user like the one that was frozen, nobody else's, attached to *session* if that one was.

    Rows the session already holds are used as they are; what the others load one day is counted
    in *lazy_loads*. Sends no SQL, takes no connection and leaves no transaction open. Raises
    `Unstorable` if the session can not have it.
    """
    if not frozen.is_attached:
        return _graph(frozen, None, lazy_loads)[0]
    if session is None:
        raise Unstorable("foreign session")
    if not session.autobegin:
        raise Unstorable("autobegin off")
    held = session.identity_map.get(frozen.nodes[0].key)
    if held is not None:
        return _living(held, session)
    was_open = session.in_transaction()
    rows = _graph(frozen, session, lazy_loads)
    with session.no_autoflush:
        session.add_all(rows)
    root = session.get_transaction()
    if not was_open and root is not None and root.origin is SessionTransactionOrigin.AUTOBEGIN:
        root.close()  # adding began it; now `with session.begin():` works as before
    return rows[0]


def _living(row: Any, session: Session) -> Any:
    if row in session.deleted:
        raise Unstorable("new or deleted")
    return row


def _graph(frozen: FrozenUser, session: Session | None, lazy_loads: Counter[str]) -> list[Any]:
    rows: list[Any] = []
    made: list[tuple[Any, Node]] = []
    for node in frozen.nodes:
        held = session.identity_map.get(node.key) if session is not None else None
        if held is not None and session is not None:
            rows.append(_living(held, session))
        else:
            rows.append(_row(node))
            made.append((rows[-1], node))
    try:
        for are_many in (False, True):  # the key of a collection may be a member's own link
            for row, node in made:
                for key, link in node.links.items():
                    if isinstance(link, tuple) is are_many:
                        set_committed_value(row, key, _linked(link, rows))
        for row, _ in made:
            state = inspect(row)
            _lazy_loads[state] = lazy_loads
            state.manager.dispatch.load(state, None)  # composites, Mutable types, reconstructors
    except Exception as error:  # whatever the application's load listeners raise
        raise Unstorable("load event") from error
    return rows


def _linked(link: Link, rows: list[Any]) -> Any:
    if isinstance(link, tuple):
        return [rows[index] for index in link]
    return None if link is None else rows[link]


def _row(node: Node) -> Any:
    mapper: Mapper[Any] = inspect(node.mapped)
    if shape_of(mapper).columns != node.columns:
        raise Unstorable("another version")
    row = mapper.class_manager.new_instance()
    row.__dict__.update(node.values)
    for key, value in node.copied.items():
        row.__dict__[key] = deepcopy(value)
    make_transient_to_detached(row)
    return row
