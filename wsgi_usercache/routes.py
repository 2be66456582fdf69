"""Which URLs of this application are stock static files, and may they be served before Flask?

Werkzeug's own matcher says which rule answers a path. A static route is served only if nothing
between the server and Flask's stock view could observe or forbid it; on any doubt Flask answers.
"""

from __future__ import annotations

import inspect
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from threading import Lock
from typing import TYPE_CHECKING, Any

import flask
from cachetools import LRUCache
from werkzeug.exceptions import MethodNotAllowed

from .guards import SIGNALS
from .lanes import Explanation, Lane, Located, path_of
from .set_up import Route, SetUp, is_static, set_up_of

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

log = logging.getLogger("wsgi_usercache")

_HOST = ("HTTP_HOST", "SERVER_NAME")
_MEMORY = 4096  # paths whose rule is remembered
_LONGEST = 1024  # characters; of longer ones it is not


@dataclass(frozen=True, slots=True)
class _Match:
    """The static rule that answers a path, and what it makes of it."""

    endpoint: str
    rule: str
    values: Mapping[str, Any]


_UNKNOWN = _Match("", "", {})
_NO_ROUTE = Route(None, None, False, "its rule is new")


class StaticRoutes:
    """The static lanes of *app*, by its URL map.

    The set-up is looked at again every *check_interval* seconds of *clock*. Listeners may come at
    any time and are seen at once; so are, until :meth:`settle`, hooks, error handlers, views and
    blueprints. *changed* is called when a listener has come. *wrapped_wsgi_app* says that
    something stands between the middleware and Flask.
    """

    def __init__(
        self,
        app: flask.Flask,
        mode: str,
        *,
        changed: Callable[[], None] = lambda: None,
        wrapped_wsgi_app: bool = False,
        check_interval: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._app = app
        self._mode = mode
        self._changed = changed
        self._wrapped_wsgi_app = wrapped_wsgi_app
        self._check_interval = check_interval
        self._clock = clock
        self._set_up: SetUp | None = None
        self._matches: LRUCache[tuple[object, ...], _Match | None] = LRUCache(_MEMORY)
        self._good_until = 0.0
        self._lock = Lock()
        self._said: set[str] = set()
        self._settled = False
        for signal in SIGNALS:
            signal.receiver_connected.connect(self._listener_came)

    def settle(self) -> None:
        """Flask has handled a request: it takes no more hooks, routes and blueprints."""
        if not self._settled:
            self._settled = True
            self._good_until = 0.0  # some may have come since the last look

    def lane_for(self, path: str, environ: WSGIEnvironment) -> Lane | None:
        """Return ``serve`` or ``bypass`` for a static path, None for any other."""
        if self._mode == "off":
            return None
        set_up = self._look()
        match = self._match(set_up, path, environ)
        return None if match is None else self._lane(set_up, match)

    def explain(self, path: str, environ: WSGIEnvironment) -> Explanation | None:
        """Return the lane of a static path and why, None for any other."""
        lane = self.lane_for(path, environ)
        set_up = self._look()
        match = None if lane is None else self._match(set_up, path, environ)
        if lane is None or match is None:
            return None
        folder, hindrance = _hindered(set_up, match)
        name = f"{match.endpoint!r} ({match.rule})"
        if folder is None:
            reason = f"static route {name}, left to Flask because {hindrance}"
        elif lane is Lane.BYPASS and self._mode == "bypass":
            reason = (
                f"stock static route {name}, left to Flask because USERCACHE_STATIC is 'bypass'"
            )
        elif hindrance is not None:
            way = "left to Flask because" if lane is Lane.BYPASS else "served although"
            reason = f"stock static route {name}, {way} {hindrance}"
        else:
            reason = f"stock static route {name}"
        return Explanation(lane, reason)

    def file_for(self, environ: WSGIEnvironment) -> Located | None:
        """Return where the file of a static path should be, None if only its view can tell."""
        set_up = self._look()
        match = self._match(set_up, path_of(environ), environ)
        folder = None if match is None else _hindered(set_up, match)[0]
        if match is None or folder is None:
            return None
        return Located(
            folder,
            match.values["filename"],
            set_up.max_age,
            set_up.routes[match.endpoint].own_errors,
            varies_by=_HOST if set_up.by_host else (),
            good_until=self._good_until,
            stands=None if self._settled else partial(set_up.stands, match.endpoint),
        )

    def _lane(self, set_up: SetUp, match: _Match) -> Lane:
        if self._mode == "bypass":
            return Lane.BYPASS
        folder, hindrance = _hindered(set_up, match)
        if hindrance is None:
            return Lane.SERVE
        served = self._mode == "serve" and folder is not None
        if hindrance not in self._said:
            self._said.add(hindrance)
            if served:
                log.warning("Static files are served although %s.", hindrance)
            elif self._mode == "serve":
                log.warning("USERCACHE_STATIC='serve' cannot serve: %s.", hindrance)
            else:
                log.info(
                    "Static files are left to Flask because %s. USERCACHE_STATIC='serve' serves "
                    "them all the same, 'bypass' says that this is meant.",
                    hindrance,
                )
        return Lane.SERVE if served else Lane.BYPASS

    def _look(self) -> SetUp:
        """Return the set-up; it is another object only if something has changed."""
        known = self._set_up
        if (
            known is not None
            and self._clock() < self._good_until
            and (self._settled or all(map(known.stands, known.routes)))
        ):
            return known
        self._good_until = self._clock() + self._check_interval
        found = set_up_of(self._app, wrapped_wsgi_app=self._wrapped_wsgi_app)
        if known is not None and found.is_as(known):
            return known
        if known is None or not found.has_rules_of(known):
            self._matches = LRUCache(_MEMORY)
        self._set_up = found
        return found

    def _listener_came(self, _signal: object, **_about: object) -> None:
        self._good_until = 0.0
        self._changed()

    def _match(self, set_up: SetUp, path: str, environ: WSGIEnvironment) -> _Match | None:
        if not path.startswith(tuple(set_up.prefixes)):
            return None
        if "HTTP_UPGRADE" in environ:  # other rules may answer a WebSocket
            return self._find(environ)
        host = tuple(map(environ.get, _HOST)) if set_up.by_host else ()
        key = (path, environ["REQUEST_METHOD"], *host)
        matches = self._matches
        with self._lock:
            match = matches.get(key, _UNKNOWN)
        if match is _UNKNOWN:
            match = self._find(environ)
            if len(path) <= _LONGEST:
                with self._lock:
                    matches[key] = match
        return match

    def _find(self, environ: WSGIEnvironment) -> _Match | None:
        """Ask the app's own matcher which rule answers; None if it is no static one."""
        app = self._app
        try:
            adapter = app.create_url_adapter(app.request_class(environ))
            if adapter is None:
                return None
            try:
                rule, values = adapter.match(return_rule=True)
            except MethodNotAllowed:
                rule, values = adapter.match(method="GET", return_rule=True)
        except Exception:
            # No such path, a redirect, an untrusted host; or a converter of the app's own, which
            # may raise anything without a request context.
            return None
        if not is_static(rule.endpoint) or "filename" not in values:
            return None
        return _Match(rule.endpoint, rule.rule, values)


def is_wrapped(app: flask.Flask, wsgi_app: object) -> bool:
    """Tell whether *wsgi_app* is anything else than the app's own ``wsgi_app`` method."""
    own = inspect.ismethod(wsgi_app) and wsgi_app.__func__ is flask.Flask.wsgi_app
    return not own or getattr(wsgi_app, "__self__", None) is not app


def _hindered(set_up: SetUp, match: _Match) -> tuple[str | None, str | None]:
    """Return the folder of a match, None if only its view knows, and what hinders serving it."""
    route = set_up.routes.get(match.endpoint, _NO_ROUTE)
    if len(match.values) > 1:  # the stock view takes no other argument
        return None, route.hindrance or f"its rule has the values {sorted(match.values)}"
    return route.folder, route.hindrance
