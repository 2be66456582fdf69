"""How does plain data become a row of the request's own again?"""

from __future__ import annotations

import logging
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

from .frozen import FrozenUser, Link, Loading, Node, shape_of
from .held import filling

log = logging.getLogger("wsgi_usercache")

MANY = 100  # lazy loads of one relationship, before the log says how to do without

_thawed: WeakKeyDictionary[InstanceState[Any], tuple[LazyLoads, str]] = WeakKeyDictionary()


class LazyLoads:
    """What users from the cache had to load after all, as `User.roles`, and how often."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self._said: set[str] = set()

    def count(self, relation: Any, source: object, path: str) -> None:
        """One more, of *relation*, by a row that *path* leads to."""
        name = f"{type(source).__name__}.{relation.key}"
        self.counts[name] += 1
        if self.counts[name] >= MANY and name not in self._said:
            self._said.add(name)
            log.warning(
                "users from the cache have loaded %s %d times: %r in USERCACHE_LOAD has it kept"
                " with them", name, MANY, f"{path}.{relation.key}".lstrip("."),
            )  # fmt: skip


def lazily_loading(state: ORMExecuteState) -> None:
    """Count what a thawed row loads, for whoever thawed it."""
    if not state.is_select or not state.is_relationship_load:
        return
    source = state.lazy_loaded_from
    if source is not None and source in _thawed and state.loader_strategy_path is not None:
        lazy_loads, path = _thawed[source]
        lazy_loads.count(state.loader_strategy_path.path[-1], source.obj(), path)


def thaw(frozen: FrozenUser, session: Session | None, lazy_loads: LazyLoads) -> Any:
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
    filling(session)
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


def _graph(frozen: FrozenUser, session: Session | None, lazy_loads: LazyLoads) -> list[Any]:
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
        for row, node in made:
            state = inspect(row)
            _thawed[state] = lazy_loads, node.path
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
    if node.loading is not None:
        _load_as(row, node, node.loading)
    return row


def _load_as(row: Any, node: Node, loading: Loading) -> None:
    state, kept = inspect(row), node.attributes()
    state.load_options, state.load_path = loading.options, loading.path
    state.callables = {key: load for key, load in loading.callables.items() if key not in kept}
    state.expired_attributes.difference_update(state.callables)
