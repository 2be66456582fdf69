"""Sites whose users are rows, of applications that come by their session in different ways."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import sqlalchemy as sa
from flask import Flask, current_app, g
from flask.globals import app_ctx
from flask_login import LoginManager, UserMixin
from flask_sqlalchemy_lite import SQLAlchemy
from rows_models import Modules
from rows_site import RowsSite, name, sites_in
from sqlalchemy.engine import Engine
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    mapped_column,
    relationship,
    scoped_session,
    sessionmaker,
)

Kind = tuple[Any, dict[str, Any]]  # an application's modules; options of the cache they call for
MakeKind = Callable[..., RowsSite]


class PlainModules:
    """What an application's modules make once, with models of plain SQLAlchemy."""

    principals = None

    def __init__(self, make_db: Callable[[sa.MetaData], Any]) -> None:
        class Base(DeclarativeBase):
            pass

        self.db = make_db(Base.metadata)
        self.login_manager = LoginManager()
        self.login_manager.user_loader(self._load)
        self.load: Callable[[str], Any] = lambda user_id: self.db.session.get(self.User, user_id)
        _declare(self, Base)

    def _load(self, user_id: str) -> Any:
        current_app.extensions["site"].calls["loads"] += 1
        return self.load(user_id)


class _Database:
    """An engine and a factory of sessions that modules make without an extension."""

    def __init__(self, metadata: sa.MetaData) -> None:
        self._metadata = metadata
        self.sessionmaker = sessionmaker()
        self.engine: Any = None

    def init_app(self, app: Flask) -> None:
        if self.engine is None:  # one for all apps
            self.engine = sa.create_engine(app.config["SQLALCHEMY_DATABASE_URI"])
            self.sessionmaker.configure(bind=self.engine)
        app.teardown_appcontext(self.end)

    def create_all(self) -> None:
        self._metadata.create_all(self.engine)

    def end(self, error: BaseException | None) -> None:
        """The request is over."""
        raise NotImplementedError


class Scoped(_Database):
    """`scoped_session`, as SQLAlchemy's documentation has it."""

    def __init__(self, metadata: sa.MetaData) -> None:
        super().__init__(metadata)
        self.session = scoped_session(self.sessionmaker)

    def end(self, error: BaseException | None) -> None:
        self.session.remove()


class Called(_Database):
    """A function of one's own that knows the session of each app context."""

    def __init__(self, metadata: sa.MetaData) -> None:
        super().__init__(metadata)
        self._sessions: WeakKeyDictionary[Any, Session] = WeakKeyDictionary()

    def my_session(self) -> Session:
        context = app_ctx._get_current_object()  # type: ignore[attr-defined]  # a proxy's own API
        if context not in self._sessions:
            self._sessions[context] = self.sessionmaker()
        return self._sessions[context]

    @property
    def session(self) -> Session:
        return self.my_session()

    def end(self, error: BaseException | None) -> None:
        self.session.close()


class KeptInG(Called):
    """The same, as Flask's documentation keeps a connection."""

    def my_session(self) -> Session:
        if "db_session" not in g:
            g.db_session = self.sessionmaker()
        session: Session = g.db_session
        return session


class Lite(SQLAlchemy):
    """Flask-SQLAlchemy-Lite, which leaves models and tables to SQLAlchemy."""

    def __init__(self, metadata: sa.MetaData) -> None:
        super().__init__()
        self._metadata = metadata

    def init_app(self, app: Any) -> None:
        app.config["SQLALCHEMY_ENGINES"] = {"default": app.config["SQLALCHEMY_DATABASE_URI"]}
        super().init_app(app)

    def create_all(self) -> None:
        self._metadata.create_all(self.engine)


def _scoped() -> Kind:
    modules = PlainModules(Scoped)
    return modules, {"session": modules.db.session}


def _called(make_db: Callable[[sa.MetaData], Any] = Called) -> Kind:
    modules = PlainModules(make_db)
    return modules, {"session": lambda: modules.db.my_session()}


KINDS: dict[str, Callable[[], Kind]] = {
    "Flask-SQLAlchemy": lambda: (Modules(handlers=False), {}),
    "Flask-SQLAlchemy-Lite": lambda: (PlainModules(Lite), {}),
    "scoped_session": _scoped,
    "callable": _called,
}


def kept_in_g() -> Kind:
    return _called(KeptInG)


def configure(site: RowsSite, **options: Any) -> None:
    """Have the sessions of *site* made with *options* from now on."""
    with site.app.app_context():
        db = site.modules.db
        is_scoped = isinstance(db.session, scoped_session)
        (db.session if is_scoped else db.sessionmaker).configure(**options)


@contextmanager
def kinds_in(folder: Path) -> Iterator[MakeKind]:
    """Makes sites of a kind, each with a database of its own in *folder* unless one is named."""
    with sites_in(folder) as make_site:

        def make(kind: Kind, **more: Any) -> RowsSite:
            modules, options = kind
            site = make_site(modules, **options, **more)
            site.app.add_url_rule("/name", view_func=lambda: str(name()))
            # The tables of plain models are known once one was loaded; that one is not kept.
            site.run(site.client())
            with site.app.app_context():
                site.cache.clear()
            return site

        sa.event.listen(Engine, "connect", _hurried)
        try:
            yield make
        finally:
            sa.event.remove(Engine, "connect", _hurried)


def _hurried(connection: Any, _record: Any) -> None:
    connection.execute("PRAGMA synchronous=OFF")  # nobody pulls the plug


def expunged(site: RowsSite, user_id: str) -> Any:
    """A user that a session of its own has let go of."""
    with Session(site.engine, expire_on_commit=False) as session:
        found = session.get(site.modules.User, user_id)
        session.expunge_all()
    return found


def closed(site: RowsSite, user_id: str) -> Any:
    """A user whose session is closed."""
    with Session(site.engine) as session:
        return session.get(site.modules.User, user_id)


def rename_by_core(site: RowsSite, to: str) -> None:
    """Change user 1 without the ORM."""
    members = site.modules.User.__table__
    with site.engine.begin() as connection:
        connection.execute(sa.update(members).where(members.c.id == 1).values(name=to))


def begun(site: RowsSite) -> Session:
    """The session of the request, in a transaction."""
    session = site.modules.db.session
    session = session() if isinstance(session, scoped_session) else session
    if not session.in_transaction():
        session.begin()
    return session


def _declare(modules: PlainModules, base: Any) -> None:
    def pairs(name: str, one: str, other: str) -> sa.Table:
        columns = (
            sa.Column(f"{t}_id", sa.ForeignKey(f"{t}.id"), primary_key=True) for t in (one, other)
        )
        return sa.Table(name, base.metadata, *columns)

    class Ability(base):
        __tablename__ = "ability"
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str]

    class Role(base):
        __tablename__ = "role"
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str]
        abilities = relationship(Ability, secondary=pairs("can", "role", "ability"))

    class Thing(base):
        __tablename__ = "thing"
        id: Mapped[int] = mapped_column(primary_key=True)
        member_id: Mapped[int | None] = mapped_column(sa.ForeignKey("member.id"))

    class Member(UserMixin, base):
        __tablename__ = "member"
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str]
        password_hash: Mapped[str | None]
        things = relationship(Thing)
        roles = relationship(Role, secondary=pairs("roles", "member", "role"))

    modules.__dict__.update(User=Member, Role=Role, Ability=Ability, Thing=Thing)
