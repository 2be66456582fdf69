"""The site on which every write is made: apps with the cache and without it on one database."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextvars import Context
from dataclasses import dataclass
from itertools import count
from typing import Any

import psycopg
import sqlalchemy as sa
from every_write_models import Models, columns, everything, identify, needs
from flask import Flask
from flask.testing import FlaskClient
from flask_login import current_user
from flask_principal import identity_loaded
from sites import Clock

from wsgi_usercache import UserCache
from wsgi_usercache.app_cache import Clocks

TTL = 30.0
MEMBERS = (1, 2, 3)  # the first two are ann and bob, the third is nobody

_ROWS = """BEGIN;
DELETE FROM note; DELETE FROM thing; DELETE FROM profile; DELETE FROM can;
DELETE FROM member_roles; DELETE FROM club_members; DELETE FROM admin; DELETE FROM member;
DELETE FROM team; DELETE FROM organisation; DELETE FROM role; DELETE FROM ability;
DELETE FROM club;
INSERT INTO organisation VALUES (1, 'acme'), (2, 'other');
INSERT INTO team VALUES (1, 'red', 1), (2, 'blue', 2);
INSERT INTO ability VALUES (1, 'read'), (2, 'write');
INSERT INTO role VALUES (1, 'reader'), (2, 'writer');
INSERT INTO can VALUES (1, 1), (2, 2);
INSERT INTO club VALUES (1, 'chess'), (2, 'go');
INSERT INTO member (id, uid, kind, name, settings, edited, version, team_id)
VALUES (1, 'u1', 'member', 'ann', '{"theme": "light"}', 0, 1, 1),
       (2, 'u2', 'admin', 'bob', '{}', 0, 1, 1);
INSERT INTO admin VALUES (2, 5);
INSERT INTO profile VALUES (1, 1, 'b');
INSERT INTO member_roles VALUES (1, 1), (2, 1);
INSERT INTO club_members VALUES (1, 1), (2, 1);
INSERT INTO note VALUES (1, 1, 'n');
INSERT INTO thing VALUES (1, 't');
COMMIT;
"""


@dataclass(frozen=True)
class Read:
    """What one request answered, and what it cost: calls of the loader, and statements."""

    answer: Any
    loads: int
    statements: int

    @property
    def is_hit(self) -> bool:
        return not (self.loads or self.statements)


class Page:
    """One app of the site, whose page says what *shows* tells of its user."""

    def __init__(
        self, site: WriteSite, shows: Callable[[Any], Any], *, handlers: bool,
        cache: UserCache | None = None,
    ) -> None:  # fmt: skip
        self.loads = 0
        self._statements: list[str] = []
        self.shows = shows
        self._acts: dict[int, tuple[Callable[[], Any], list[Any]]] = {}
        self._numbers = count()
        self._clients: dict[int, FlaskClient] = {}
        self._login = site.models.login
        self.cache: Any = cache
        self.app = app = Flask("page")
        app.extensions["page"] = self
        app.config.update(
            SECRET_KEY="k", TESTING=True, SQLALCHEMY_DATABASE_URI=site.url,
            SQLALCHEMY_BINDS={"other": site.other_url},
        )  # fmt: skip
        site.models.db.init_app(app)
        site.models.login_manager.init_app(app)
        if handlers:
            site.models.principals.init_app(app)
            identity_loaded.connect(identify, app)
        app.add_url_rule("/", "page", view_func=lambda: {"seen": self.look()})
        app.add_url_rule("/act/<int:number>", view_func=self._act)
        if cache is not None:
            cache.init_app(app, ttl=TTL)
        with app.app_context():
            self.engines: list[sa.Engine] = list(site.models.db.engines.values())
        for engine in self.engines:
            site.set_up(engine)
            note = self._statements.append  # not the page: engines outlive their apps
            sa.event.listen(engine, "before_cursor_execute", lambda *event, n=note: n(event[2]))

    def look(self) -> Any:
        """What the page says in the request at hand."""
        shown = self.shows(current_user) if current_user.is_authenticated else "nobody"
        return {"user": shown, "needs": needs()}

    def read(self, member: int) -> Read:
        """What the page shows that member, in a context of its own."""
        return Context().run(self._read, member)

    def run(self, member: int, act: Callable[[], Any]) -> Any:
        """What *act* returns in a view of that member's request."""
        number, results = next(self._numbers), []  # type: ignore[var-annotated]
        self._acts[number] = act, results
        assert Context().run(self.client(member).get, f"/act/{number}").status_code == 200
        return results[0]

    def warm(self, members: tuple[int, ...] = MEMBERS) -> dict[int, Any]:
        """What the page shows each of them, who are remembered now."""
        return {member: self._remembered(member).answer for member in members}

    def forget(self, member: int) -> None:
        """What is remembered of that member, if anything, is not used again."""
        if self.cache is not None:
            self.cache.invalidate(self.login_id(member))

    def login_id(self, member: int) -> str:
        """What that member logs in with."""
        return str(member) if self._login == "id" else f"u{member}"

    def _remembered(self, member: int) -> Read:
        read = self.read(member)
        if not read.is_hit:
            read = self.read(member)
        assert read.is_hit, f"the entry is cold: {read}"
        return read

    def client(self, member: int) -> FlaskClient:
        """A browser in whose session that member has logged in, whether he exists or not."""
        client = self._clients.get(member)
        if client is None:
            client = self._clients[member] = self.app.test_client()
            login_id = self.login_id(member)
            with client.session_transaction() as session:
                session.update({"_user_id": login_id, "_fresh": False})
                session.update({"identity.id": login_id, "identity.auth_type": "form"})
        return client

    def _read(self, member: int) -> Read:
        loads, statements = self.loads, len(self._statements)
        response = self.client(member).get("/")
        assert response.status_code == 200
        answer: Any = response.get_json()
        return Read(answer["seen"], self.loads - loads, len(self._statements) - statements)

    def _act(self, number: int) -> str:
        act, results = self._acts.pop(number)
        results.append(act())
        return "done"


class WriteSite:
    """A database with ann, a member, and bob, an admin, and four apps on it.

    `full` shows everything, `small` only columns of the user and knows no identity handlers; both
    have the cache. `alone` and `small_alone` show the same without it.
    """

    def __init__(self, url: str, *, login: str = "id") -> None:
        self.url = url
        self.is_sqlite = url.startswith("sqlite")
        self.other_url = url.replace(".db", "-other.db") if self.is_sqlite else url
        self.clock = clock = Clock()
        self._engines: dict[Any, sa.Engine] = {}
        self._is_dirty = True
        self._changed: tuple[int, ...] = MEMBERS

        class ClockedCache(UserCache):
            clocks = Clocks(steady=clock.steady)

        self.models = Models(login)
        self.full = Page(self, everything, cache=ClockedCache(), handlers=True)
        self.small = Page(self, columns, cache=ClockedCache(), handlers=False)
        self.alone = Page(self, everything, handlers=True)
        self.small_alone = Page(self, columns, handlers=False)
        with self.full.app.app_context():
            self.models.db.create_all()
        self.program = self.another_program()
        if self.is_sqlite:
            _obey(self.program, None)
            self.program.execute(f"ATTACH {self.other_url.removeprefix('sqlite:///')!r} AS other")
        self._prepare_unseen_writes()

    def another_program(self) -> Any:
        """A plain connection of the driver's, that commits each statement."""
        if self.is_sqlite:
            return sqlite3.connect(sa.make_url(self.url).database, isolation_level=None)
        return psycopg.connect(self.dsn, autocommit=True, options="-c lock_timeout=5000")

    def pages(self, *, only_columns: bool = False) -> tuple[Page, Page]:
        """Two that show the same, of everything or *only_columns*: with the cache and without."""
        return (self.small, self.small_alone) if only_columns else (self.full, self.alone)

    @property
    def dsn(self) -> str:
        """The name of the PostgreSQL database, as drivers have it."""
        plain = sa.make_url(self.url).set(drivername="postgresql")
        return plain.render_as_string(hide_password=False)

    def fresh(self) -> None:
        """The rows as they were at first, if somebody may have changed them."""
        if self._is_dirty:
            run = self.program.executescript if self.is_sqlite else self.program.execute
            run(_ROWS)
            for page in (self.full, self.small):
                for member in self._changed:
                    page.forget(member)
            self._is_dirty = False

    def soil(self, *members: int) -> None:
        """The rows may differ now, of those that the pages of *members* are made of."""
        self._is_dirty, self._changed = True, members

    def engine(self, *, key: str = "plain", **options: Any) -> sa.Engine:
        """An engine on the database, made with these *options* when *key* is first asked for."""
        if key not in self._engines:
            self._engines[key] = sa.create_engine(self.url, **options)
            self.set_up(self._engines[key])
        return self._engines[key]

    def set_up(self, engine: sa.Engine) -> None:
        """Have foreign keys obeyed, and no time lost on disks."""
        if self.is_sqlite:
            sa.event.listen(engine, "connect", _obey)

    def close(self) -> None:
        self.program.close()
        pages = (self.full, self.small, self.alone, self.small_alone)
        engines = [engine for page in pages for engine in page.engines]
        for engine in (*engines, *self._engines.values()):
            engine.dispose()

    def _prepare_unseen_writes(self) -> None:
        """What changes ann in the database itself: a trigger, a function, a view."""
        if self.is_sqlite:
            self.program.execute(
                "CREATE TRIGGER renaming AFTER INSERT ON thing WHEN new.name = 'trigger'"
                " BEGIN UPDATE member SET name = 'anne' WHERE id = 1; END"
            )
            return
        self.program.execute(
            "CREATE FUNCTION rename_ann() RETURNS int LANGUAGE SQL"
            " AS $$ UPDATE member SET name = 'anne' WHERE id = 1; SELECT 1 $$;"
            "CREATE FUNCTION renaming() RETURNS trigger LANGUAGE plpgsql"
            " AS $$ BEGIN PERFORM rename_ann(); RETURN NULL; END $$;"
            "CREATE TRIGGER renaming AFTER INSERT ON thing FOR EACH ROW"
            " WHEN (new.name = 'trigger') EXECUTE FUNCTION renaming();"
            "CREATE PROCEDURE rename_somebody(i int, noted text DEFAULT '') LANGUAGE SQL"
            " AS $$ UPDATE member SET name = 'anne' WHERE id = i $$;"
            "CREATE VIEW everybody AS SELECT id, name FROM member"
        )


def _obey(connection: Any, _record: Any) -> None:
    begins_by_itself = getattr(connection, "autocommit", None) is False
    if begins_by_itself:
        connection.autocommit = True  # or settings would come too late
    for setting in ("foreign_keys=ON", "synchronous=OFF"):
        connection.execute(f"PRAGMA {setting}")
    if begins_by_itself:
        connection.autocommit = False


SiteOf = Callable[[str], WriteSite]
