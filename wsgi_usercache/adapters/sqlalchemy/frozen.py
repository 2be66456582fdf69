"""How is a row kept? As plain data, from which a row of the request's own is made again.

What is kept is what is loaded. Nothing of it is shared between requests but immutable values.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from functools import lru_cache
from sys import intern
from typing import Any

from sqlalchemy import inspect
from sqlalchemy.ext.associationproxy import AssociationProxyExtensionType
from sqlalchemy.orm import Mapper, Session, object_session

from wsgi_usercache.storable import Unstorable, is_plain

from .loading import Run
from .mapped import AttributeNames, members

LARGEST = 100  # members of a collection kept without being named in `load`

Link = int | tuple[int, ...] | None  # one node, many, or nobody


@dataclass(frozen=True, slots=True)
class Shape:
    """What one mapped class looks like, as far as its rows are kept."""

    columns: tuple[str, ...]
    primary_key: tuple[str, ...]
    relations: tuple[Any, ...]
    remade: frozenset[str]  # what SQLAlchemy puts on a row by itself: composites, proxies


@dataclass(frozen=True, slots=True)
class Loading:
    """How the options of its query have the rest of a row loaded: `raiseload`, criteria, what was
    put off. All as SQLAlchemy keeps it on the row; nobody changes it."""

    callables: Mapping[str, Any]
    options: tuple[Any, ...]
    path: Any


@dataclass(frozen=True, slots=True)
class Node:
    """One row, and the *path* of relationships that led from the user to it. *values* are
    immutable and shared, *copied* is copied for each request, *links* are relationships. Nobody
    changes the mappings."""

    mapped: type
    path: str
    key: tuple[Any, ...]
    columns: tuple[str, ...]  # of the class when it was frozen
    values: Mapping[str, Any]
    copied: Mapping[str, Any]
    links: Mapping[str, Link]
    loading: Loading | None = None

    def attributes(self) -> frozenset[str]:
        """All that is kept of the row."""
        return frozenset((*self.values, *self.copied, *self.links))


@dataclass(frozen=True, slots=True)
class FrozenUser:
    """A user and the rows around it; the user is the first of *nodes*."""

    nodes: tuple[Node, ...]
    is_attached: bool


@lru_cache(maxsize=1_024)
def shape_of(mapper: Mapper[Any]) -> Shape:
    """The shape of a mapped class."""
    remade = {composite.key for composite in mapper.composites}
    for descriptor in mapper.all_orm_descriptors:
        if descriptor.extension_type is AssociationProxyExtensionType.ASSOCIATION_PROXY:
            proxy: Any = descriptor
            remade.add(proxy.key)
    return Shape(
        tuple(attr.key for attr in mapper.column_attrs),
        tuple(mapper.get_property_by_column(column).key for column in mapper.primary_key),
        tuple(r for r in mapper.relationships if r.lazy not in ("dynamic", "write_only")),
        frozenset(remade),
    )


def freeze(
    user: Any,
    run: Run,
    *,
    known: FrozenUser | None,
    session: Session | None,
    load: frozenset[str],
    left_out: Iterable[AttributeNames],
) -> FrozenUser:
    """The *user* as it is loaded now, without the attributes *left_out*.

    Raises `Unstorable` for rows that did not come out of the database in this *run* (and are not
    *known* from an earlier one), that were changed, or that belong to another session.
    """
    home = object_session(user)
    if home is not None and home is not session:
        raise Unstorable("foreign session")
    return _Freezing(run, known, home, load, tuple(left_out)).graph(user)


class _Freezing:
    """One walk over the rows around a user, the nearest first."""

    def __init__(
        self,
        run: Run,
        known: FrozenUser | None,
        home: Session | None,
        load: frozenset[str],
        left_out: tuple[AttributeNames, ...],
    ) -> None:
        self._run = run
        self._known = {} if known is None else {node.key: node for node in known.nodes}
        self._home = home
        self._load = load
        self._left_out = left_out
        self._indices: dict[int, int] = {}
        self._waiting: list[tuple[Any, str]] = []  # rows and the paths that led to them

    def graph(self, user: Any) -> FrozenUser:
        """The user and all that hangs loaded on it."""
        self._index(user, "")
        nodes: list[Node] = []
        while len(nodes) < len(self._waiting):
            nodes.append(self._node(*self._waiting[len(nodes)]))
        return FrozenUser(tuple(nodes), self._home is not None)

    def _index(self, row: Any, path: str) -> int:
        if id(row) not in self._indices:
            self._indices[id(row)] = len(self._waiting)
            self._waiting.append((row, path))
        return self._indices[id(row)]

    def _node(self, row: Any, path: str) -> Node:
        state = inspect(row)
        self._check(row, state)
        shape = shape_of(state.mapper)
        values: dict[str, Any] = dict(zip(shape.primary_key, state.key[1], strict=True))
        copied: dict[str, Any] = {}
        links: dict[str, Link] = {}
        loaded = self._kept(row, state)
        for relation in shape.relations:
            if relation.key in loaded:
                self._link(links, relation, loaded.pop(relation.key), path)
        for name, value in loaded.items():
            if is_plain(value):
                values[name] = value
            elif name in shape.columns:
                copied[name] = _copy(value)
            elif not _is_remade(name, type(row), shape):
                raise Unstorable("attributes")
        return Node(
            type(row), intern(path), state.key, shape.columns, values, copied, links,
            _loading(state, self._known.get(state.key)),
        )  # fmt: skip

    def _check(self, row: Any, state: Any) -> None:
        if state.key is None or state.deleted or state.was_deleted:
            raise Unstorable("new or deleted")
        home = object_session(row)
        if home is not self._home:
            raise Unstorable("foreign session")
        if state.modified or (home is not None and row in home.deleted):
            raise Unstorable("modified")
        if state.key[2] is not None:
            raise Unstorable("sharded")
        if not self._run.has_loaded(row) and state.key not in self._known:
            raise Unstorable("identity map")

    def _kept(self, row: Any, state: Any) -> dict[str, Any]:
        """What of the row's loaded attributes is to be kept."""
        loaded = {key: value for key, value in state.dict.items() if key != "_sa_instance_state"}
        if not self._run.has_loaded(row):
            # What others loaded since, nobody recorded: its tables are not among the names.
            node = self._known[state.key]
            before = self._run.loaded_before(self._home, state.key)
            later = loaded.keys() - before if before is not None else frozenset()
            new = later | node.attributes()
            loaded = {key: value for key, value in loaded.items() if key in new}
        for names in self._left_out:
            for key in [key for key in loaded if names.has(type(row), key)]:
                if self._home is None:
                    raise Unstorable("detached")  # it could not be loaded when it is asked for
                del loaded[key]
        return loaded

    def _link(self, links: dict[str, Link], relation: Any, value: Any, path: str) -> None:
        path = f"{path}.{relation.key}".lstrip(".")
        rows = members(relation, value)
        if not relation.uselist:
            links[relation.key] = self._index(rows[0], path) if rows else None
        elif len(rows) <= LARGEST or path in self._load:
            links[relation.key] = tuple(self._index(row, path) for row in rows)
        elif self._home is None:
            raise Unstorable("detached")


def _loading(state: Any, known: Node | None) -> Loading | None:
    """How to load what is not kept: what somebody has loaded since, unrecorded, as before that."""
    before = {} if known is None or known.loading is None else known.loading.callables
    callables = {**before, **state.callables}
    if not callables and not state.load_options:
        return None
    return Loading(callables, state.load_options, state.load_path)


def _copy(value: Any) -> Any:
    try:
        return deepcopy(value)
    except Exception as error:  # of a column type we know nothing about
        raise Unstorable("column values") from error


def _is_remade(name: str, mapped: type, shape: Shape) -> bool:
    """Whether an attribute is a cache that fills itself again, as `cached_property` does."""
    if name in shape.remade:
        return True
    descriptor = getattr(mapped, name, None)
    return hasattr(descriptor, "__get__") and not callable(descriptor)
