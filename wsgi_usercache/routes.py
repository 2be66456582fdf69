"""Which URLs of this application are stock static files, and may they be served before Flask?

Werkzeug's own matcher says which rule answers a path. A static route is served only if nothing
between the server and Flask's stock view could observe or forbid it; on any doubt Flask answers.
"""

from __future__ import annotations

import inspect
import logging
import os
from dataclasses import dataclass, replace
from datetime import timedelta
from threading import Lock
from typing import TYPE_CHECKING, Any

import flask
from cachetools import LRUCache
from werkzeug.exceptions import MethodNotAllowed

from .guards import guard_of, listener_of, name_of, origin, overridden
from .lanes import Explanation, Lane, Located, path_of

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

log = logging.getLogger("wsgi_usercache")

_STOCK_VIEW = ("flask.app", "Flask.__init__.<locals>.<lambda>")
_STOCK_WAY = ("send_static_file", "get_send_file_max_age")
_MEMORY = 4096  # paths whose rule is remembered


@dataclass(frozen=True, slots=True)
class _Verdict:
    """What is known of a static path: the route, and what forbids or hinders serving it."""

    route: str
    endpoint: str
    view: object
    located: Located | None  # None: only the view knows what it answers
    hindrance: str | None


_UNKNOWN = _Verdict("", "", None, None, None)


class StaticRoutes:
    """The static lanes of *app*, by its URL map.

    Until :meth:`settle` everything is found out anew at each use, because blueprints and hooks may
    still come. *wrapped_wsgi_app* says that something stands between the middleware and Flask.
    """

    def __init__(self, app: flask.Flask, mode: str, *, wrapped_wsgi_app: bool = False) -> None:
        self._app = app
        self._mode = mode
        self.wrapped_wsgi_app = wrapped_wsgi_app
        self._settled = False
        self._prefixes: tuple[str, ...] = ()
        self._lock = Lock()
        self._verdicts: LRUCache[tuple[object, ...], _Verdict | None] = LRUCache(_MEMORY)
        self._said: set[str] = set()

    def settle(self) -> None:
        """Keep what is found from now on: Flask has handled a request, its routes are final."""
        self._prefixes = _prefixes(self._app)
        self._settled = True

    def lane_for(self, path: str, environ: WSGIEnvironment) -> Lane | None:
        """Return ``serve`` or ``bypass`` for a static path, None for any other."""
        verdict = self._verdict(path, environ)
        return None if verdict is None else self._lane(verdict)

    def explain(self, path: str, environ: WSGIEnvironment) -> Explanation | None:
        """Return the lane of a static path and why, None for any other."""
        verdict = self._verdict(path, environ)
        if verdict is None:
            return None
        lane = self._lane(verdict)
        reason = f"stock static route {verdict.route}"
        if verdict.located is None:
            reason = f"static route {verdict.route}, left to Flask because {verdict.hindrance}"
        elif lane is Lane.BYPASS and self._mode == "bypass":
            reason += ", left to Flask because USERCACHE_STATIC is 'bypass'"
        elif verdict.hindrance is not None:
            way = "left to Flask because" if lane is Lane.BYPASS else "served although"
            reason += f", {way} {verdict.hindrance}"
        return Explanation(lane, reason)

    def file_for(self, environ: WSGIEnvironment) -> Located | None:
        """Return where the file of a static path should be, None if only its view can tell."""
        verdict = self._verdict(path_of(environ), environ)
        return None if verdict is None else verdict.located

    def _lane(self, verdict: _Verdict) -> Lane:
        if self._mode == "bypass":
            return Lane.BYPASS
        hindrance = verdict.hindrance
        if hindrance is None:
            return Lane.SERVE
        served = self._mode == "serve" and verdict.located is not None
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

    def _verdict(self, path: str, environ: WSGIEnvironment) -> _Verdict | None:
        if self._mode == "off":
            return None
        if not self._settled:
            return self._find(environ) if path.startswith(_prefixes(self._app)) else None
        if not path.startswith(self._prefixes):
            return None
        verdict = self._remembered(path, environ)
        if verdict is not None and verdict.hindrance is None:
            # Signals may be connected at any time, so these are asked at every request.
            listener = listener_of(self._app)
            return verdict if listener is None else replace(verdict, hindrance=listener)
        return verdict

    def _remembered(self, path: str, environ: WSGIEnvironment) -> _Verdict | None:
        if "HTTP_UPGRADE" in environ:  # other rules may answer a WebSocket
            return self._find(environ)
        key = self._key(path, environ)
        with self._lock:
            verdict = self._verdicts.get(key, _UNKNOWN)
        if verdict is _UNKNOWN or not self._stands(verdict):
            verdict = self._find(environ)
            with self._lock:
                self._verdicts[key] = verdict
        return verdict

    def _stands(self, verdict: _Verdict | None) -> bool:
        return verdict is None or self._app.view_functions.get(verdict.endpoint) is verdict.view

    def _key(self, path: str, environ: WSGIEnvironment) -> tuple[object, ...]:
        """Return all that the matcher and Flask's stock view look at in a request."""
        app = self._app
        by_host = (
            app.url_map.host_matching
            or app.subdomain_matching
            or app.config["TRUSTED_HOSTS"] is not None
        )
        return (
            path,
            environ["REQUEST_METHOD"],
            app.config["SEND_FILE_MAX_AGE_DEFAULT"],
            (environ.get("HTTP_HOST"), environ.get("SERVER_NAME")) if by_host else None,
        )

    def _find(self, environ: WSGIEnvironment) -> _Verdict | None:
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
        endpoint = rule.endpoint
        if not _is_static(endpoint) or "filename" not in values:
            return None
        view = app.view_functions.get(endpoint)
        route = f"{endpoint!r} ({rule.rule})"
        folder, hindrance = _folder(app, view)
        if folder is None or len(values) > 1:  # the stock view takes no other argument
            hindrance = hindrance or f"its rule has the values {sorted(values)}"
            return _Verdict(route, endpoint, view, None, hindrance)
        located = Located(folder, values["filename"], _max_age(app))
        hindrance = self._hindrance(endpoint)
        return _Verdict(route, endpoint, view, located, hindrance)

    def _hindrance(self, endpoint: str) -> str | None:
        """Return what might observe or forbid a request for this endpoint, None if nothing."""
        if self.wrapped_wsgi_app:
            return "another WSGI middleware stands between the cache and Flask"
        return guard_of(self._app, endpoint)


def is_wrapped(app: flask.Flask, wsgi_app: object) -> bool:
    """Tell whether *wsgi_app* is anything else than the app's own ``wsgi_app`` method."""
    own = inspect.ismethod(wsgi_app) and wsgi_app.__func__ is flask.Flask.wsgi_app
    return not own or getattr(wsgi_app, "__self__", None) is not app


def _is_static(endpoint: str) -> bool:
    return endpoint == "static" or endpoint.endswith(".static")


def _prefixes(app: flask.Flask) -> tuple[str, ...]:
    """Return what the paths of static routes begin with: most requests need no more than that."""
    rules = [rule for rule in app.url_map.iter_rules() if _is_static(rule.endpoint)]
    return tuple({rule.rule.partition("<")[0] for rule in rules if "filename" in rule.arguments})


def _folder(app: flask.Flask, view: object) -> tuple[str | None, str | None]:
    """Return the folder a stock view sends files from, else None and what is not stock."""
    owner: Any = None
    stock: type[flask.Flask | flask.Blueprint] = flask.Flask
    if inspect.ismethod(view):
        stock = flask.Flask if view.__self__ is app else flask.Blueprint
        owner = view.__self__ if view.__func__ is stock.send_static_file else None
    elif origin(view) == _STOCK_VIEW:
        owner = app
    if owner is None:
        return None, f"its view {name_of(view)} is not Flask's own"
    # For a blueprint without a maximum age Flask asks the app.
    changed = overridden(owner, stock, _STOCK_WAY) or overridden(app, flask.Flask, _STOCK_WAY[1:])
    if changed is not None:
        return None, changed
    folder = owner.static_folder
    if folder is None or not os.path.isabs(folder):
        return None, f"its static_folder is {folder!r}"
    return folder, None


def _max_age(app: flask.Flask) -> int | None:
    """Return what Flask's own ``get_send_file_max_age`` does, without its app context."""
    value: int | timedelta | None = app.config["SEND_FILE_MAX_AGE_DEFAULT"]
    return int(value.total_seconds()) if isinstance(value, timedelta) else value
