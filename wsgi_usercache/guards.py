"""Does anything guard a request for a static file: observe it, change its answer or forbid it?

Only what is known to be harmless is passed over, recognised by name and never imported.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from typing import Any

import flask
from flask import signals

#: What a request meets on its way to the stock view and back. What only errors and OPTIONS meet is
#: not here, because those are never served.
_WAY = (
    "__call__",
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
_HARMLESS = {
    # Moves what log-in and log-out left in the session into a cookie; a file leaves nothing there.
    ("flask_login.login_manager", "LoginManager._update_remember_cookie"),
    # Finds out who asks, which a file does not ask.
    ("flask_principal", "Principal._on_before_request"),
    # Gives back a database session, which a file does not open.
    ("flask_sqlalchemy.extension", "SQLAlchemy._teardown_session"),
}
# Not among them: got_request_exception. A file that can be served raises nothing, one that can
# not is left to Flask.
_SIGNALS = (
    signals.request_started,
    signals.request_finished,
    signals.request_tearing_down,
    signals.appcontext_pushed,
    signals.appcontext_popped,
    signals.appcontext_tearing_down,
)


def guard_of(app: flask.Flask, endpoint: str) -> str | None:
    """Return what might observe or forbid a request for this endpoint, None if nothing."""
    if app.config["USE_X_SENDFILE"]:
        return "USE_X_SENDFILE is set"
    if app.config["TRUSTED_HOSTS"] is not None:
        return "TRUSTED_HOSTS is set"
    if app.request_class is not flask.Request:
        return "request_class is not Flask's own"
    if app.response_class is not flask.Response:
        return "response_class is not Flask's own"
    return overridden(app, flask.Flask, _WAY) or _hook(app, endpoint) or listener_of(app)


def overridden(owner: object, stock: type, names: Iterable[str]) -> str | None:
    """Return the first of *names* that *owner* does not have from *stock* itself."""
    kind = type(owner)
    for name in names:
        # The instance's wsgi_app is where middlewares are put, this one among them.
        if (name != "wsgi_app" and name in vars(owner)) or (
            getattr(kind, name, None) is not getattr(stock, name, None)
        ):
            return f"{kind.__name__}.{name} is not Flask's own"
    return None


def _hook(app: flask.Flask, endpoint: str) -> str | None:
    """Return the first hook around a request for *endpoint* that is not known to be harmless."""
    names: list[str | None] = [None]
    blueprint = endpoint.rpartition(".")[0]
    while blueprint:
        names.append(blueprint)
        blueprint = blueprint.rpartition(".")[0]
    tables: tuple[tuple[str, Any], ...] = (
        ("url_value_preprocessor", app.url_value_preprocessors),
        ("before_request", app.before_request_funcs),
        ("after_request", app.after_request_funcs),
        ("teardown_request", app.teardown_request_funcs),
        ("teardown_appcontext", {None: app.teardown_appcontext_funcs}),
    )
    for kind, table in tables:
        for func in (func for name in names for func in table.get(name, ())):
            if not (_is_ours(func) or (inspect.ismethod(func) and origin(func) in _HARMLESS)):
                return f"{kind} has {name_of(func)}"
    return None


def listener_of(app: flask.Flask) -> str | None:
    """Return who listens to the signals of each request; listeners may come at any time."""
    for signal in _SIGNALS:
        if signal.receivers:
            for receiver in signal.receivers_for(app):
                if not _is_ours(receiver):
                    return f"the signal {signal.name} goes to {name_of(receiver)}"
    return None


def origin(func: object) -> tuple[str | None, str | None]:
    """Return the module and the qualified name of a function, method or callable object."""
    return getattr(func, "__module__", None), getattr(func, "__qualname__", None)


def _is_ours(func: object) -> bool:
    return str(origin(func)[0]).startswith("wsgi_usercache.")


def name_of(func: object) -> str:
    """Return a function's full name, for people."""
    module, name = origin(func)
    return f"{module}.{name or type(func).__qualname__}"
