"""A site with static files, and what may stand around them: it observes, changes or forbids."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import flask
from flask import signals
from werkzeug.test import create_environ, run_wsgi_app

from wsgi_usercache import Lane, UserCache, UserCacheMiddleware
from wsgi_usercache.app_cache import Clocks
from wsgi_usercache.lanes import LANE

APP, BLUEPRINT = "/static/", "/outer/reports/files/"
#: Sent for each request.
SIGNALS = (
    signals.request_started,
    signals.request_finished,
    signals.request_tearing_down,
    signals.appcontext_pushed,
    signals.appcontext_popped,
    signals.appcontext_tearing_down,
)

Front = Callable[[flask.Flask], UserCache]


def write_files(root: Path) -> Path:
    for folder, name in [("app", "a.css"), ("app", "b.css"), ("reports", "a.css")]:
        (root / folder).mkdir(exist_ok=True)
        (root / folder / name).write_text(f"/* {name} of {folder} */")
    return root


def behind(app: flask.Flask, **options: Any) -> UserCache:
    """Put the middleware before *app*."""
    middleware = UserCacheMiddleware(app.wsgi_app, app, backend="process", **options)
    app.wsgi_app = middleware  # type: ignore[method-assign]
    return middleware.cache


class Time:
    """It stands until it is told otherwise, a minute after the files were written."""

    def __init__(self) -> None:
        self.now = 1000.0
        self._start = int(time.time()) + 60 - self.now

    def steady(self) -> float:
        return self.now

    def wall(self) -> float:
        return self._start + self.now

    def behind(self, app: flask.Flask, **options: Any) -> UserCache:
        """Put a cache before *app* that has this time."""

        class Cache(UserCache):
            clocks = Clocks(steady=self.steady, wall=self.wall)

        return Cache(app, backend="process", **options)


@dataclass(frozen=True)
class Answer:
    status: str
    headers: list[tuple[str, str]]
    body: bytes
    lane: Lane | None

    @property
    def all(self) -> object:
        """All that a client sees of it but the time of day."""
        headers = [(name, "…" if name in ("Date", "Expires") else v) for name, v in self.headers]
        return self.status, headers, self.body


class Site:
    """An app with the files of its own and of a nested blueprint, both changed by *change*.

    *seen* is what was observed of its requests. *front* is put before it at the end.
    """

    cache: UserCache

    def __init__(
        self, root: Path, change: Change | None = None, *, front: Front | None = None
    ) -> None:
        self.root = root
        self.seen: list[tuple[object, ...]] = []
        self.kept: list[object] = []  # what nothing else holds
        self.app = flask.Flask("site", static_folder=root / "app", static_url_path="/static")
        self.app.add_url_rule("/", "page", lambda: "a page")
        self.outer = flask.Blueprint("outer", "site", url_prefix="/outer")
        self.reports = flask.Blueprint(
            "reports",
            "site",
            url_prefix="/reports",
            static_folder=root / "reports",
            static_url_path="files",
        )
        if change is not None:
            change(self)
        self.register()
        if front is not None:
            self.cache = front(self.app)

    def register(self) -> flask.Flask:
        """Return the app as it is with its blueprints."""
        if "outer" not in self.app.blueprints:
            self.outer.register_blueprint(self.reports)
            self.app.register_blueprint(self.outer)
        return self.app

    def saw(self, *what: object) -> None:
        """Note *what* was seen, and in which request."""
        asked = flask.request if flask.has_request_context() else None
        self.seen.append((*what, asked and (asked.method, asked.path, asked.endpoint)))

    def ask(self, path: str, method: str = "GET", **headers: str) -> Answer:
        return self.answer(create_environ(path, method=method, headers=headers))

    def answer(self, environ: dict[str, Any]) -> Answer:
        given: list[dict[str, Any]] = []

        def noting(environ: dict[str, Any], start_response: Any) -> Any:
            given.append(environ)
            return self.app(environ, start_response)

        body, status, headers = run_wsgi_app(noting, environ, buffered=True)
        return Answer(status, list(headers), b"".join(body), given[0].get(LANE))


Change = Callable[[Site], object]


class Alone:
    """What Flask alone answers and what is observed then; it has no memory, so once is enough."""

    def __init__(self, root: Path, change: Change | None) -> None:
        self._site = Site(root, change)
        self._known: dict[object, tuple[Answer, list[Any]]] = {}

    def ask(self, path: str, method: str = "GET", **headers: str) -> tuple[Answer, list[Any]]:
        asked = path, method, *headers.items()
        if asked not in self._known:
            self._site.seen.clear()
            answer = self._site.ask(path, method, **headers)
            self._known[asked] = answer, [*self._site.seen]
        return self._known[asked]


def become(thing: Any, **members: Any) -> None:
    """Have *thing* be of a subclass with these members."""
    thing.__class__ = type(f"Own{type(thing).__name__}", (type(thing),), members)


def marked(answer: Any) -> Any:
    if isinstance(answer, flask.Response):
        answer.headers["X-Guard"] = "was here"
    return answer


def overriding(name: str, of: str = "app") -> Change:
    """Have the calls of a method noted and its answers marked, by a subclass."""

    def change(site: Site) -> None:
        thing = getattr(site, of)
        stock = getattr(type(thing), name)

        def method(self: Any, *args: Any, **options: Any) -> Any:
            site.saw(name)
            return marked(stock(self, *args, **options))

        become(thing, **{name: method})

    return change


def on_instance(name: str, of: str = "app") -> Change:
    def change(site: Site) -> None:
        thing = getattr(site, of)
        stock = getattr(thing, name)

        def function(*args: Any, **options: Any) -> Any:
            site.saw(name)
            return marked(stock(*args, **options))

        setattr(thing, name, function)

    return change


def hooked(register: str, hook: Callable[..., Any], of: str = "app") -> Change:
    """Have *hook* called with the site, registered by the method of that name."""

    def change(site: Site) -> None:
        def noted(*args: Any) -> Any:
            return hook(site, *args)

        getattr(getattr(site, of), register)(noted)

    return change


def plain(_view: Any) -> Callable[[Any], Any]:
    return lambda decorated: decorated


def behind_login(endpoint: str, wraps: Callable[[Any], Any] = plain) -> Change:
    """Put a view behind what answers 401; *wraps* may dress that as the view itself."""

    def change(site: Site) -> None:
        views = site.register().view_functions
        view = views[endpoint]

        def decorated(**values: Any) -> Any:
            site.saw("view", repr(values))
            if "X-User" not in flask.request.headers:
                flask.abort(401)
            return view(**values)

        views[endpoint] = wraps(view)(decorated)

    return change


def listening(signal: Any, to: Callable[[Site], Any] = lambda site: site.app) -> Change:
    def change(site: Site) -> None:
        def receiver(sender: Any, **about: object) -> None:
            site.saw(signal.name, sender.name, sorted(about))

        site.kept.append(receiver)  # signals hold it weakly
        signal.connect(receiver, to(site))

    return change


def below(wrap: Callable[[Site, Any], Any]) -> Change:
    """Have a WSGI middleware between the cache and Flask."""

    def change(site: Site) -> None:
        site.app.wsgi_app = wrap(site, site.app.wsgi_app)  # type: ignore[method-assign]

    return change
