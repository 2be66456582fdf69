"""One app's cache: which rooms stand behind it in this process, and are they in place?"""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from time import monotonic, time
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from flask import Flask

from .at_hand import AtHand
from .attaching import Attachment
from .cookies import SessionCookies
from .generations import EVERYBODY, slot_of
from .generations.reach import generations_of
from .identities import IdentityCache
from .lanes import Explanation, Lane, LaneRules
from .middleware import Middleware
from .options import Options
from .per_request import RequestStates
from .routes import StaticRoutes, is_wrapped
from .static import StaticFiles
from .statistics import Stats, Tally
from .users import Users, user_name

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication, WSGIEnvironment

log = logging.getLogger("wsgi_usercache")

NAME = "user_cache"  # in app.extensions

TICKETS_PER_USER = 4


@dataclass(frozen=True, slots=True)
class Clocks:
    """Where the time comes from; tests bring their own."""

    steady: Callable[[], float] = monotonic  # for what was loaded
    wall: Callable[[], float] = time  # for what was signed


class _Process:
    """The rooms of one app in one process: made at its first use, anew after a fork."""

    def __init__(self, cache: AppCache) -> None:
        self.lock = threading.Lock()
        self.tallies = {lane: Tally() for lane in Lane}
        self.attached = False
        options, rows = cache.options, cache.rows
        self.cookies = SessionCookies(TICKETS_PER_USER * options.maxsize, clock=cache.clocks.wall)
        self.identities = IdentityCache(
            cache.generations,
            ttl=options.ttl,
            maxsize=options.maxsize,
            known=frozenset if rows is None else rows.known,
            clock=cache.clocks.steady,
        )
        self.users = Users(
            self.identities,
            cache.states,
            rows,
            vary=options.vary,
            id_of=cache.id_of,
            told=cache.told,
        )
        self.at_hand = AtHand()
        routes = StaticRoutes(
            cache.app,
            options.static,
            changed=self.at_hand.clear,
            wrapped_wsgi_app=is_wrapped(cache.app, cache.wsgi_app),
            clock=cache.clocks.steady,
        )
        self.rules = LaneRules(options.fresh_paths, options.excluded_paths, routes)
        self.static = StaticFiles(
            routes.file_for,
            dropped=self.at_hand.clear,
            clock=cache.clocks.steady,
            wall=cache.clocks.wall,
            max_bytes=options.static_bytes,
            check_interval=options.check_interval,
            precompressed=options.precompressed,
            follow_symlinks=options.follow_symlinks,
        )


class AppCache:
    """What `app.extensions["user_cache"]` holds."""

    def __init__(
        self, app: Flask, options: Options, wsgi_app: WSGIApplication, clocks: Clocks
    ) -> None:
        self.app = app
        self.options = options
        self.wsgi_app = wsgi_app
        self.clocks = clocks
        self.off = None if options.enabled else "USERCACHE_ENABLED is False"
        self.states = RequestStates()
        self.told: set[str] = set()
        self.generations = generations_of(
            options.backend,
            namespace=options.namespace,
            state_file=options.state_file,
            state_mode=options.state_mode,
            settle=options.settle,
        )
        # Chosen, or for want of what the state file needs: its changes reach no other process.
        self._is_alone = not self.generations.reaches_processes
        self.rows: Any = None
        self._processes: dict[int, _Process] = {}
        self.middleware = Middleware(wsgi_app, self.enter, clock=clocks.steady)
        self._attachment = Attachment(
            app,
            self.states,
            users=users_of,
            cookies=lambda: self.process.cookies,
            resign_interval=options.resign_interval,
        )
        self._watch()
        if self.off is None:
            self._attachment.listen()

    @property
    def process(self) -> _Process:
        """The rooms of this process. A fork, with Python's hooks or without, has its own."""
        pid = os.getpid()
        process = self._processes.get(pid)
        if process is None:
            self._watch()  # SQLAlchemy may have been imported since
            # Of threads that come first together, one makes the rooms of all.
            process = self._processes.setdefault(pid, _Process(self))
        return process

    def enter(self, environ: WSGIEnvironment) -> _Process | None:
        """Put what is ours in front of Flask's session interface, user callback and hooks, at
        the first request and again where they were replaced; return the rooms of this process,
        None if the cache is off."""
        if self.off is not None:
            return None
        if self._is_alone and environ.get("wsgi.multiprocess"):
            self._is_alone = False
            log.warning(
                "several processes serve this app, and changes made in one are seen by the others"
                " only after USERCACHE_TTL: USERCACHE_BACKEND='host' tells them at once"
            )
        process = self.process
        if (
            process.attached
            and (self.rows is None or self.rows.wrong is None)
            and self._attachment.is_in_place
        ):
            return process
        with process.lock:
            return process if self._attach(process) else None

    def invalidate(self, *users_or_ids: object) -> None:
        """Have everything these users are known by loaded again by requests that start now.

        An id is taken as `str(id)`, an object is asked for the id it logs in with. Inside an open
        transaction of the app's session the change is made now and again when it ends.
        """
        if not users_or_ids:
            raise ValueError("invalidate() needs a user or an id; clear() takes everybody")
        slots = tuple(slot_of(user_name(self._id_of(user))) for user in users_or_ids)
        self.generations.bump(slots)
        if self.rows is not None:
            self.rows.bump_again_at_end(slots)

    @contextmanager
    def changing(self, *users_or_ids: object) -> Iterator[None]:
        """Fence a change that can not be seen: nobody is answered from memory for these users
        (none: for everybody) while the block runs, nor ever again from what was loaded before
        its end."""
        names = [user_name(self._id_of(user)) for user in users_or_ids]
        fence = self.generations.changing(tuple(map(slot_of, names)) or (EVERYBODY,))
        try:
            yield
        finally:
            fence.changed()

    def clear(self) -> None:
        """Have everybody loaded again, and forget what this process holds."""
        self.generations.bump((EVERYBODY,))
        process = self._processes.get(os.getpid())
        if process is not None:
            process.identities.clear()
            process.cookies.clear()

    def stats(self) -> Stats:
        """The figures of this process."""
        process = self.process
        counts, tallies = process.identities.counts, process.tallies
        lazy_loads = {} if self.rows is None else dict(self.rows.lazy_loads)
        return Stats(
            hits=counts["hits"],
            misses=counts["misses"],
            loads=counts["loads"],
            stale=counts["stale"],
            waits=counts["waits"],
            served=tallies[Lane.SERVE].total,
            bypassed=tallies[Lane.BYPASS].total,
            invalidations=self.generations.changes,
            size=len(process.identities),
            unstored=MappingProxyType(dict(process.identities.unstored)),
            lazy_loads=MappingProxyType(lazy_loads),
            backend=MappingProxyType({"changes": self.generations.changes}),
        )

    def explain(self, path: str, method: str = "GET", host: str | None = None) -> Explanation:
        """The lane a request for *path* (decoded, without query) would take, and the rule."""
        if self.off is not None:
            return Explanation(Lane.FRESH, f"the cache is off: {self.off}")
        host = host or self.app.config["SERVER_NAME"] or "localhost"
        return self.process.rules.explain(
            {
                "REQUEST_METHOD": method.upper(),
                "SCRIPT_NAME": "",
                "PATH_INFO": path.encode().decode("latin-1"),  # PEP 3333
                "QUERY_STRING": "",
                "SERVER_NAME": host.partition(":")[0],
                "SERVER_PORT": host.partition(":")[2] or "80",
                "HTTP_HOST": host,
                "wsgi.url_scheme": "http",
            }
        )

    def id_of(self, user: Any) -> Any:
        """What *user* logs in with."""
        return self._attachment.user_id(user)

    def _id_of(self, user: Any) -> str:
        if user is None:
            raise ValueError("None is no user")
        if not hasattr(user, "get_id") and not hasattr(user, "is_authenticated"):
            return str(user)
        user_id = self.id_of(user)
        if user_id is None:
            raise ValueError("an anonymous user can not have changed")
        return str(user_id)

    def _watch(self) -> None:
        """See what SQLAlchemy writes, where it is in use. Nothing is opened."""
        if self.off or self.rows is not None or "sqlalchemy.orm" not in sys.modules:
            return
        from .adapters import sqlalchemy  # it is optional, and slow to import

        options = self.options
        self.rows = sqlalchemy.Rows(
            self.app,
            self.generations,
            session=options.session,
            user_class=options.user_class,
            load=options.load,
            volatile=options.volatile,
            exclude=options.exclude,
        )
        sqlalchemy.listen()
        sqlalchemy.install(self.generations, self.rows)

    def _attach(self, process: _Process) -> bool:
        """Say whether the cache is on; another thread may have found out that it can not be."""
        wrong = None
        if self.rows is not None:  # only the mapped classes can tell
            wrong = self.rows.wrong if process.attached else self.rows.check()
        if wrong is not None and self.off is None:
            self.off = wrong
            log.error("the user cache is off until restart: %s", wrong)
        if self.off is not None:
            return False
        if self._attachment.put() and process.attached:
            process.identities.clear()  # what another callback answered
        process.attached = True
        return True


def users_of(app: Flask) -> Users | None:
    """The look-ups of the app that is current, None if it has no cache or it is off."""
    cache = app.extensions.get(NAME)
    return cache.process.users if isinstance(cache, AppCache) and cache.off is None else None
