"""Users that are database rows: what is known of a load, its rows kept and given back."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from flask import Flask
from sqlalchemy import inspect
from sqlalchemy.exc import InvalidRequestError
from sqlalchemy.orm import InstanceState, Mapper, Session, object_session, scoped_session
from sqlalchemy.orm.exc import DetachedInstanceError, ObjectDeletedError, StaleDataError

from wsgi_usercache.generations import Generations
from wsgi_usercache.storable import Unstorable

from . import cascades, changes, connections, frozen, thawing
from .held import HeldRows
from .loading import Run, recorded
from .login_ids import login_names
from .mapped import (
    AttributeNames,
    is_user,
    is_user_class,
    members,
    name_user_class,
    relations_along,
    wrong_attribute,
    wrong_path,
)
from .statements import bare, known_tables, tables_of


class Rows:
    """The database's side of one app's users.

    Threads share it. Nothing is looked up before it is needed: models, sessions and Flask-
    SQLAlchemy itself may come after it.
    """

    def __init__(
        self,
        app: Flask,
        generations: Generations,
        *,
        session: scoped_session[Any] | Callable[[], Session] | None = None,
        user_class: type | None = None,
        load: Iterable[str] = (),
        volatile: Iterable[str] = (),
        exclude: Iterable[str] = (),
    ) -> None:
        self._extensions = app.extensions
        self._generations = generations
        self._session_option = session
        self._user_classes: tuple[type, ...] = () if user_class is None else (user_class,)
        self._load = tuple(load)
        self._lazy_loads = thawing.LazyLoads()
        self.volatile = AttributeNames(volatile)
        self._exclude = AttributeNames(exclude)
        self._is_checked = False
        self.wrong: str | None = None  # what `check` found, once a user class was known
        self._tables_seen = 0
        self._known: tuple[frozenset[str], frozenset[str]] = (frozenset(), frozenset())
        if user_class is not None:
            name_user_class(user_class)

    @property
    def lazy_loads(self) -> Mapping[str, int]:
        """How often users from the cache have loaded each relationship."""
        return self._lazy_loads.counts

    def check(self) -> str | None:
        """What is wrong with the options, as only the mapped classes can tell; None if nothing,
        or as long as no user class is known."""
        self.wrong = self._wrong_option()
        return self.wrong

    def _wrong_option(self) -> str | None:
        users: list[Mapper[Any]] = [inspect(mapped) for mapped in self._users()]
        if not users:
            return None
        others = [each for user in users for each in user.registry.mappers]
        for path in self._load:
            if wrong_path(path, users):
                return f"USERCACHE_LOAD has {path!r}, which is no relationship of the user"
        for setting, names in (("VOLATILE", self.volatile), ("EXCLUDE", self._exclude)):
            for name in names:
                if wrong_attribute(name, users, others):
                    return f"USERCACHE_{setting} has {name!r}, which is no column of the user"
        return None

    def known(self) -> frozenset[str]:
        """The names a load may come to rest on; the same object until there are more of them."""
        metadatas = self._metadatas()
        tables_seen = sum(len(metadata.tables) for metadata in metadatas)
        if tables_seen != self._tables_seen:
            for metadata in metadatas:
                known_tables.learn(map(bare, metadata.tables.values()))
                cascades.learn(metadata)
            self._tables_seen = tables_seen
        tables, names = self._known
        if tables is not known_tables.names:
            tables = known_tables.names
            names = frozenset(changes.both(tables))
            self._known = (tables, names)
        return names

    def run(self) -> AbstractContextManager[Run]:
        """A recorded run, as long as the block lasts."""
        return recorded(self.known(), HeldRows(self._session(create=False), self._generations))

    def owns(self, user: object) -> bool:
        """Whether *user* is a row."""
        return isinstance(inspect(user, raiseerr=False), InstanceState)

    def goes_by(self, user: object, name: str) -> bool:
        """Whether changes of *user*, if it is a user's row, move *name*."""
        return not (self.owns(user) and is_user(user)) or login_names(user, old=False) == {name}

    def load_named(self, user: Any) -> None:
        """Load what the `load` option names and *user* can still load."""
        session = object_session(user)
        with nullcontext() if session is None else session.no_autoflush:
            for relations in self._relations(user):
                rows = [user]
                for relation in relations:
                    rows = [member for row in rows for member in _loaded(row, relation)]

    def freeze(
        self, user: Any, run: Run, known_frozen: frozen.FrozenUser | None
    ) -> frozen.FrozenUser:
        """The *user* as plain data. Raises `Unstorable` if that can not be had, or not safely."""
        if type(user) not in self._user_classes:
            self._user_classes += (type(user),)
        if not self._is_checked:
            self._is_checked = True
            self.check()
        if self.wrong is not None:
            raise Unstorable("wrong setting")
        return frozen.freeze(
            user,
            run,
            known=known_frozen,
            session=self._session(create=False),
            load=frozenset(
                ".".join(relations[: end + 1])
                for relations in self._relations(user)
                for end in range(len(relations))
            ),
            left_out=(self.volatile, self._exclude),
        )

    def thaw(self, data: frozen.FrozenUser) -> Any:
        """A user of this request's own. Raises `Unstorable` if this request can not have it."""
        session = self._session(create=True) if data.is_attached else None
        return thawing.thaw(data, session, self._lazy_loads)

    def are_outdated(self, error: BaseException) -> bool:
        """Whether *error* says that a row is not what a session took it for, or is gone."""
        return isinstance(error, (StaleDataError, ObjectDeletedError))

    def holds_connection(self) -> bool:
        """Whether this context has taken a connection and not given it back."""
        return bool(connections.infos())

    def pending(self) -> frozenset[int]:
        """The slots of what this context has written and not committed, and of what its session
        would write before the next query."""
        names = set(changes.pending(self))
        session = self._session(create=False)
        if session is not None and session.autoflush:
            waiting = (*session.new, *session.dirty, *session.deleted)
            tables = {table for row in waiting for table in tables_of(inspect(row).mapper)}
            names |= changes.both(tables | cascades.reached_at_most(tables))
        return frozenset(changes.slots_of(names)) if names else frozenset()

    def knows(self, mapped: type) -> bool:
        """Whether this app may hold rows of *mapped*: it has tables by their names."""
        mapper: Mapper[Any] = inspect(mapped)
        tables = set(tables_of(mapper))
        held = (bare(table) for each in self._metadatas() for table in each.tables.values())
        return not tables.isdisjoint(held)

    def counts(self, mapped: type, columns: frozenset[str]) -> bool:
        """Whether a change of nothing but *columns* is one to this app."""
        return not all(self.volatile.has(mapped, column) for column in columns)

    def bump_again_at_end(self, slots: Iterable[int]) -> bool:
        """New numbers in *slots* once the open transaction has ended; False if none is open."""
        session = self._session(create=False)
        root = None if session is None else connections.root_of(session)
        if root is None:
            return False
        kept = tuple(slots)
        connections.at_end(root, lambda: changes.bump(kept))
        return True

    def _relations(self, user: Any) -> list[tuple[str, ...]]:
        """The relationships that each path of the `load` option leads along from *user*."""
        paths = (relations_along(path, inspect(user).mapper) for path in self._load)
        return [relations for relations in paths if relations is not None]

    def _users(self) -> tuple[type, ...]:
        if not self._user_classes:
            self._user_classes = tuple(
                mapper.class_ for mapper in self._mappers() if is_user_class(mapper.class_)
            )
        return self._user_classes

    def _mappers(self) -> list[Mapper[Any]]:
        registry = getattr(self._model(), "registry", None)
        return [] if registry is None else list(registry.mappers)

    def _model(self) -> Any:
        return getattr(self._extensions.get("sqlalchemy"), "Model", None)

    def _metadatas(self) -> list[Any]:
        binds = getattr(self._extensions.get("sqlalchemy"), "metadatas", {})
        users: list[Any] = [inspect(mapped) for mapped in self._users()]
        return [*binds.values(), *(user.registry.metadata for user in users)]

    def _session(self, *, create: bool) -> Session | None:
        """The session to thaw into: that of the option, else Flask-SQLAlchemy's or -Lite's."""
        try:
            source: Any = self._session_option
            if source is None:
                source = getattr(self._extensions.get("sqlalchemy"), "session", None)
            if isinstance(source, scoped_session):
                source = source() if create or source.registry.has() else None
            elif not isinstance(source, Session) and callable(source):
                source = source()
        except RuntimeError:  # its scope is an app context, and there is none
            return None
        return source if isinstance(source, Session) else None


def _loaded(row: Any, name: str) -> list[Any]:
    relation = inspect(row).mapper.relationships.get(name)
    if relation is None:
        return []  # a subclass has it
    try:
        return members(relation, getattr(row, name))
    except (DetachedInstanceError, InvalidRequestError):  # the latter of lazy="raise"
        return []
