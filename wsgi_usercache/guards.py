"""Does anything guard a request for a static file: observe it, change its answer or forbid it?

Only what is known to be harmless is passed over, recognised by its code and never imported.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Sized
from types import FunctionType, MethodType
from typing import Any

import flask
from flask import signals
from werkzeug.exceptions import RequestedRangeNotSatisfiable

#: What a request meets on its way to the stock view and back. OPTIONS is never served.
_WAY = (
    "wsgi_app",
    "request_context",
    "app_context",
    "create_url_adapter",
    "full_dispatch_request",
    "preprocess_request",
    "dispatch_request",
    "ensure_sync",
    "finalize_request",
    "make_response",
    "process_response",
    "do_teardown_request",
    "do_teardown_appcontext",
)
_TABLES = (
    ("url_value_preprocessor", "url_value_preprocessors"),
    ("before_request", "before_request_funcs"),
    ("after_request", "after_request_funcs"),
    ("teardown_request", "teardown_request_funcs"),
)
#: What an error meets: of a file, only a range that can not be had is one.
_WAY_OF_ERRORS = (
    "handle_user_exception",
    "handle_http_exception",
    "trap_http_exception",
)


_STOCK = ("flask.app", "flask.sansio.app", "flask.sansio.scaffold", "flask.blueprints")


def _always(app: flask.Flask, func: object) -> bool:
    return True


def _lets_reads_pass(app: flask.Flask, func: Any) -> bool:
    """Whether Flask-WTF's check is its own and none for GET and HEAD."""
    protection = inspect.getclosurevars(func).nonlocals.get("self")
    kind, check = type(protection), getattr(protection, "protect", None)
    checked = set(app.config.get("WTF_CSRF_METHODS", ("GET",)))
    return (
        (kind.__module__, kind.__qualname__) == ("flask_wtf.csrf", "CSRFProtect")
        and origin_of_code(check) == ("flask_wtf.csrf", "CSRFProtect.protect")
        and checked.isdisjoint(("GET", "HEAD"))
    )


_HARMLESS: dict[tuple[str, str], Callable[[flask.Flask, Any], bool]] = {
    # Moves what log-in and log-out left in the session into a cookie; a file leaves nothing there.
    ("flask_login.login_manager", "LoginManager._update_remember_cookie"): _always,
    # Finds out who asks, which a file does not ask.
    ("flask_principal", "Principal._on_before_request"): _always,
    # Lets pass whatever does not change anything.
    ("flask_wtf.csrf", "CSRFProtect.init_app.<locals>.csrf_protect"): _lets_reads_pass,
    # Give back a database session, which a file does not open.
    ("flask_sqlalchemy.extension", "SQLAlchemy._teardown_session"): _always,
    ("flask_sqlalchemy_lite._extension", "_close_sessions"): _always,
    ("flask_sqlalchemy_lite._extension", "_close_async_sessions"): _always,
    # Deletes outdated sessions, now and then; pages have it done often enough.
    ("flask_session.base", "ServerSideSessionInterface._cleanup_n_requests"): _always,
}
#: What is sent for each request.
# Not among them: got_request_exception. A file that can be served raises nothing, one that can
# not is left to Flask.
SIGNALS = (
    signals.request_started,
    signals.request_finished,
    signals.request_tearing_down,
    signals.appcontext_pushed,
    signals.appcontext_popped,
    signals.appcontext_tearing_down,
)


def guard_of(app: flask.Flask) -> str | None:
    """Return what might observe or forbid a request for any file, None if nothing."""
    if app.config["USE_X_SENDFILE"]:
        return "USE_X_SENDFILE is set"
    if app.request_class is not flask.Request:
        return "request_class is not Flask's own"
    if app.response_class is not flask.Response:
        return "response_class is not Flask's own"
    if app.app_ctx_globals_class.__module__ != "flask.ctx":
        return "app_ctx_globals_class is not Flask's own"
    return overridden(app, _WAY) or listener_of(app)


def overridden(owner: object, names: Iterable[str]) -> str | None:
    """Return the first of *names* that is not as Flask has it, wherever it was changed."""
    kind = type(owner)
    if kind.__getattribute__ is not object.__getattribute__:
        return f"{kind.__name__}.__getattribute__ is not Flask's own"
    for name in names:
        # The instance's wsgi_app is where middlewares are put, this one among them.
        attribute = inspect.getattr_static(kind if name == "wsgi_app" else owner, name, None)
        code = origin_of_code(attribute.fget if type(attribute) is property else attribute)
        is_bound_here = type(attribute) is not MethodType or attribute.__self__ is owner
        if (
            code is None
            or not is_bound_here
            or code[0] not in _STOCK
            or code[1].partition(".")[2] != name
        ):
            return f"{kind.__name__}.{name} is not Flask's own"
    return None


def changes_errors(app: flask.Flask) -> bool:
    """Whether the app goes a way of its own with errors."""
    return app.config["TRAP_HTTP_EXCEPTIONS"] or overridden(app, _WAY_OF_ERRORS) is not None


def answers_errors(app: flask.Flask, endpoint: str) -> bool:
    """Whether there is a handler for a range that can not be had."""
    specs = (app.error_handler_spec.get(name, {}) for name in _scopes(endpoint))
    kinds = (kind for spec in specs for code in (None, 416) for kind in spec.get(code, ()))
    return any(issubclass(RequestedRangeNotSatisfiable, kind) for kind in kinds)


def places(app: flask.Flask, endpoints: Iterable[str]) -> tuple[Sized, ...]:
    """Return where hooks, error handlers and views are put: their sizes tell of more."""
    tables: list[dict[Any, Any]] = [getattr(app, name) for _, name in _TABLES]
    tables.append(app.error_handler_spec)
    scopes = sorted({scope for each in endpoints for scope in _scopes(each)}, key=str)
    of_scopes = [table[scope] for table in tables for scope in scopes if scope in table]
    kinds = [
        app.error_handler_spec[scope][code]
        for scope in scopes
        for code in (None, 416)
        if code in app.error_handler_spec.get(scope, ())
    ]
    return (*tables, *of_scopes, *kinds, app.teardown_appcontext_funcs, app.view_functions)


def _scopes(endpoint: str) -> list[str | None]:
    """Return the names under which the hooks of an endpoint are kept: app and blueprints."""
    scopes: list[str | None] = [None]
    blueprint = endpoint.rpartition(".")[0]
    while blueprint:
        scopes.append(blueprint)
        blueprint = blueprint.rpartition(".")[0]
    return scopes


def hook_of(app: flask.Flask, endpoint: str) -> str | None:
    """Return the first hook around a request for *endpoint* that is not known to be harmless."""
    tables: list[tuple[str, Any]] = [(kind, getattr(app, name)) for kind, name in _TABLES]
    tables.append(("teardown_appcontext", {None: app.teardown_appcontext_funcs}))
    for kind, table in tables:
        for func in (func for scope in _scopes(endpoint) for func in table.get(scope, ())):
            if not (_is_ours(func) or _is_harmless(app, func)):
                return f"{kind} has {name_of(func)}"
    return None


def _is_harmless(app: flask.Flask, func: object) -> bool:
    origin = origin_of_code(func)
    return origin in _HARMLESS and _HARMLESS[origin](app, func)


def listener_of(app: flask.Flask) -> str | None:
    """Return who listens to the signals of each request; listeners may come at any time."""
    for signal in SIGNALS:
        if signal.receivers:
            for receiver in signal.receivers_for(app):
                if not _is_ours(receiver):
                    return f"the signal {signal.name} goes to {name_of(receiver)}"
    return None


def origin_of_code(func: object) -> tuple[str, str] | None:
    """Return module and qualified name of the code that will run, None if that is not known.

    Only a function or a method itself is looked into: a wrapper has the names of what it wraps
    (``functools.wraps``) or passes for it in every way but its type (``wrapt``).
    """
    function = func.__func__ if type(func) is MethodType else func
    if type(function) is not FunctionType:
        return None
    return function.__globals__.get("__name__", ""), function.__code__.co_qualname


def _is_ours(func: object) -> bool:
    code = origin_of_code(func)
    module = type(func).__module__ if code is None else code[0]
    return module.startswith("wsgi_usercache.")


def name_of(func: object) -> str:
    """Return a function's full name, for people."""
    name = getattr(func, "__qualname__", None) or type(func).__qualname__
    return f"{getattr(func, '__module__', None)}.{name}"
