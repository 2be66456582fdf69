"""How much work does this process do? Counted where it happens, read without adding to it."""

import json
from collections import Counter
from collections.abc import Iterable
from threading import Lock
from typing import TYPE_CHECKING, Any

from flask import Flask
from flask_principal import Identity, identity_loaded
from sqlalchemy import event

from .extensions import db

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

COUNTS_PATH = "/-/counts"
LOOPBACK = frozenset({"127.0.0.1", "::1"})


class Tally:
    """Named counts of one process, which all its threads add to."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._lock = Lock()

    def add(self, name: str) -> None:
        with self._lock:
            self._counts[name] += 1

    def read(self) -> Counter[str]:
        """Return a copy of all counts as they are now."""
        with self._lock:
            return self._counts.copy()


tally = Tally()


def count_statement(*_: Any) -> None:
    tally.add("statements")


def count_identity(sender: Flask, identity: Identity) -> None:
    tally.add("identity_signals")


class CountsEndpoint:
    """Answers COUNTS_PATH to this machine; notes the lane that every other request took.

    It stands around the whole application, so that reading the counts opens no session, loads no
    user and runs no hook.
    """

    def __init__(self, wsgi_app: "WSGIApplication") -> None:
        self._wsgi_app = wsgi_app

    def __call__(
        self, environ: "WSGIEnvironment", start_response: "StartResponse"
    ) -> Iterable[bytes]:
        if environ.get("PATH_INFO") == COUNTS_PATH and environ.get("REMOTE_ADDR") in LOOPBACK:
            body = json.dumps(tally.read()).encode()
            headers = [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
            start_response("200 OK", headers)
            return [body]
        try:
            return self._wsgi_app(environ, start_response)
        finally:
            tally.add(f"lane:{environ.get('wsgi_usercache.lane', 'off')}")


def init_app(app: Flask) -> None:
    """Count the SQL statements, identity signals and lanes of *app*; call it last.

    User loads are counted in the user loader itself. Nothing is added to the application's hooks:
    a hook that might look at static files would keep them out of the `serve` lane.
    """
    with app.app_context():
        event.listen(db.engine, "before_cursor_execute", count_statement)
    identity_loaded.connect(count_identity, app)
    app.wsgi_app = CountsEndpoint(app.wsgi_app)  # type: ignore[method-assign]
