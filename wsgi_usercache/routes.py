"""Which URLs of this application are stock static files, and may they be served before Flask?

Werkzeug's own matcher says which rule answers a path. A static route is served only if nothing
between the server and Flask's stock view could observe or forbid it; on any doubt Flask answers.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from math import inf
from threading import Lock
from typing import TYPE_CHECKING, Any, TypeGuard

import flask
from cachetools import LRUCache
from flask import request_started
from werkzeug.exceptions import MethodNotAllowed, NotFound
from werkzeug.routing import RequestRedirect

from .guards import SIGNALS, origin_of_code
from .lanes import Explanation, Lane, Located, path_of
from .set_up import NOTHING, Route, SetUp, is_static, set_up_of

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

log = logging.getLogger("wsgi_usercache")

_HOST = ("HTTP_HOST", "SERVER_NAME", "SERVER_PORT", "wsgi.url_scheme")
_MEMORY = 4096  # paths whose rule is remembered, and hosts
_LONGEST = 1024  # characters of a path and its host; of longer ones it is not
_LOOK = 1.0  # seconds between two looks at the set-up


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

    The set-up is looked at again each second of *clock*. Listeners may come at any time and are
    seen at once. So are hooks, error handlers and views while an app is set up: until Flask has
    handled a request, or a second has passed since the first. *changed* is called when nothing
    that was found may be used any more. *wrapped_wsgi_app* says that something stands between the
    middleware and Flask.
    """

    def __init__(
        self,
        app: flask.Flask,
        mode: str,
        *,
        changed: Callable[[], None] = lambda: None,
        wrapped_wsgi_app: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._app = app
        self._mode = mode
        self._changed = changed
        self._wrapped_wsgi_app = wrapped_wsgi_app
        self._clock = clock
        self._set_up: SetUp | None = None
        self._matches: LRUCache[tuple[object, ...], _Match | None] = LRUCache(_MEMORY)
        self._hosts: set[str | None] = set()  # of Host headers, those the app can make sense of
        self._lock = Lock()
        self._looking = Lock()
        self._event = object()  # another after each
        self._good: tuple[object, float] = (None, -inf)
        self._said: set[str] = set()
        self._set_up_until = inf
        request_started.connect(self._settle, app)
        for signal in SIGNALS:
            signal.receiver_connected.connect(self._listener_came)

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
        """Return where the file of a path on the ``serve`` lane should be."""
        is_final = self._is_final()  # before the look: what comes in between is then asked for
        set_up = self._look()
        match = self._match(set_up, path_of(environ), environ)
        folder = None if match is None else _hindered(set_up, match)[0]
        if match is None or folder is None or self._lane(set_up, match) is not Lane.SERVE:
            return None
        return Located(
            folder,
            match.values["filename"],
            set_up.max_age,
            set_up.routes[match.endpoint].own_errors,
            varies_by=_HOST if set_up.hosts is not None else (),
            hosts=self._hosts,
            good_until=self._good[1] if set_up.is_lasting else -inf,
            stands=None if is_final else partial(set_up.stands, match.endpoint),
        )

    def _lane(self, set_up: SetUp, match: _Match) -> Lane:
        if self._mode == "bypass":
            return Lane.BYPASS
        folder, hindrance = _hindered(set_up, match)
        if hindrance is None:
            return Lane.SERVE
        served = self._mode == "serve" and folder is not None
        if served:
            self._say(logging.WARNING, f"Static files are served although {hindrance}.")
        elif self._mode == "serve":
            self._say(logging.WARNING, f"USERCACHE_STATIC='serve' cannot serve: {hindrance}.")
        else:
            self._say(
                logging.INFO,
                f"Static files are left to Flask because {hindrance}. USERCACHE_STATIC='serve' "
                "serves them all the same, 'bypass' says that this is meant.",
            )
        return Lane.SERVE if served else Lane.BYPASS

    def _say(self, level: int, message: str, *, exc_info: bool = False) -> None:
        """Log it, once."""
        if message not in self._said:
            self._said.add(message)
            log.log(level, "%s", message, exc_info=exc_info)

    def _look(self) -> SetUp:
        """Return the set-up; it is another object only if something has changed."""
        known = self._set_up
        if self._is_good(known):
            return known
        with self._looking:
            known = self._set_up
            if self._is_good(known):
                return known
            event, now = self._event, self._clock()
            if known is None:
                self._set_up_until = min(self._set_up_until, now + _LOOK)
            found = self._found()
            if known is None or not found.is_as(known):
                if known is None or not found.has_rules_of(known):
                    self._matches = LRUCache(_MEMORY)
                    self._hosts = set()
                self._set_up = known = found
                self._changed()
            self._good = (event, now + _LOOK)
            return known

    def _is_good(self, known: SetUp | None) -> TypeGuard[SetUp]:
        event, good_until = self._good  # of one look, and good as long as nobody came since
        return (
            known is not None
            and event is self._event
            and self._clock() < good_until
            and (self._is_final() or all(map(known.stands, known.routes)))
        )

    def _is_final(self) -> bool:
        return self._clock() >= self._set_up_until

    def _found(self) -> SetUp:
        try:
            return set_up_of(self._app, wrapped_wsgi_app=self._wrapped_wsgi_app)
        except Exception:  # something of the app's own, which must not break its pages
            self._say(logging.ERROR, "Static files are left to Flask", exc_info=True)
            return NOTHING

    def _listener_came(self, _signal: object, **_about: object) -> None:
        self._event = object()
        self._changed()

    def _settle(self, _app: flask.Flask, **_about: object) -> None:
        """Flask handles its first request: it takes no more hooks, routes and blueprints."""
        request_started.disconnect(self._settle)
        self._listener_came(None)  # one look more, for what has come since the last
        self._set_up_until = -inf

    def _match(self, set_up: SetUp, path: str, environ: WSGIEnvironment) -> _Match | None:
        if not path.startswith(tuple(set_up.prefixes)) or not environ.get("PATH_INFO"):
            return None
        if "HTTP_UPGRADE" in environ or not set_up.is_lasting:  # WebSockets have other rules
            return self._find(environ)[0]
        named = tuple(map(environ.get, _HOST)) if set_up.hosts is not None else ()
        key = (path, environ["REQUEST_METHOD"], *named)
        matches, hosts, host = self._matches, self._hosts, environ.get("HTTP_HOST")
        with self._lock:
            match = matches.get(key, _UNKNOWN) if host in hosts else _UNKNOWN
        if match is _UNKNOWN:
            match, is_lasting = self._find(environ)
            if is_lasting and len(host or "") + len(path) <= _LONGEST:
                with self._lock:
                    matches[key] = match
                    if len(hosts) >= _MEMORY:
                        hosts.clear()
                    hosts.add(host)
        return match

    def _find(self, environ: WSGIEnvironment) -> tuple[_Match | None, bool]:
        """Ask the app's own matcher which rule answers; None if it is no static one.

        Say as well whether it would be the same for the next such request.
        """
        app = self._app
        try:
            adapter = app.create_url_adapter(app.request_class(environ))
            if adapter is None:
                return None, False
            try:
                rule, values = adapter.match(return_rule=True)
            except MethodNotAllowed:
                rule, values = adapter.match(method="GET", return_rule=True)
        except (NotFound, RequestRedirect):
            return None, True
        except Exception:
            # An untrusted or malformed host; or a converter of the app's own, which may raise
            # anything without a request context.
            return None, False
        if not is_static(rule.endpoint) or "filename" not in values:
            return None, True
        return _Match(rule.endpoint, rule.rule, values), True


def is_wrapped(app: flask.Flask, wsgi_app: object) -> bool:
    """Tell whether *wsgi_app* is anything else than the app's own ``wsgi_app`` method."""
    own = origin_of_code(wsgi_app) == ("flask.app", "Flask.wsgi_app")
    return not own or getattr(wsgi_app, "__self__", None) is not app


def _hindered(set_up: SetUp, match: _Match) -> tuple[str | None, str | None]:
    """Return the folder of a match, None if only its view knows, and what hinders serving it."""
    route = set_up.routes.get(match.endpoint, _NO_ROUTE)
    if len(match.values) > 1:  # the stock view takes no other argument
        return None, route.hindrance or f"its rule has the values {sorted(match.values)}"
    return route.folder, route.hindrance
