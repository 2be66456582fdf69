"""What does a hit cost with the state file, compared with numbers in the process?

Both are asked in turn, in one process: a logged-in user with roles from SQLAlchemy, needs restored
by Flask-Principal, the page one line. Prints the medians and their ratio.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

from flask import Flask
from flask_login import current_user
from werkzeug.test import create_environ, run_wsgi_app

from examples.roles import create_app
from examples.roles.extensions import db

ROUNDS = 60
REQUESTS = 50  # a round


def hit_with(backend: str, folder: Path) -> Callable[[], None]:
    """One request that is a hit, ready to be asked again and again."""
    app = create_app(
        {
            "SQLALCHEMY_DATABASE_URI": f"sqlite:///{folder}/{backend}.sqlite",
            "USERCACHE_BACKEND": backend,
            "USERCACHE_STATE_FILE": f"{folder}/state" if backend == "host" else None,
        }
    )
    app.add_url_rule("/one-line", "one_line", lambda: current_user.name)
    cookie = _logged_in(app)

    def ask() -> None:
        environ = create_environ("/one-line", headers={"Cookie": cookie})
        body, status, _ = run_wsgi_app(app.wsgi_app, environ, buffered=True)
        if status != "200 OK" or not b"".join(body):
            raise RuntimeError(status)

    for _ in range(REQUESTS):
        ask()
    stats = app.extensions["user_cache"].stats()
    if stats.hits < REQUESTS - 5:
        raise RuntimeError(f"these are no hits: {stats}")
    return ask


def measure() -> dict[str, float]:
    """The median of a hit, in microseconds, by backend."""
    spent: dict[str, list[float]] = {"process": [], "host": []}
    with tempfile.TemporaryDirectory() as folder:
        hits = {backend: hit_with(backend, Path(folder)) for backend in spent}
        for _ in range(ROUNDS):
            for backend, ask in hits.items():
                began = perf_counter()
                for _ in range(REQUESTS):
                    ask()
                spent[backend].append((perf_counter() - began) / REQUESTS * 1e6)
    return {backend: median(figures) for backend, figures in spent.items()}


def _logged_in(app: Flask) -> str:
    client = app.test_client()
    form: dict[str, Any] = {"username": "ada", "password": "engine"}
    client.post("/login", data=form)
    client.get("/")
    cookie = client.get_cookie("session")
    with app.app_context():
        db.session.remove()
    if cookie is None:
        raise RuntimeError("the example let nobody in")
    return f"session={cookie.value}"


if __name__ == "__main__":
    medians = measure()
    for backend, microseconds in medians.items():
        print(f"{backend:8} {microseconds:7.1f} µs a hit")
    print(f"host/process {medians['host'] / medians['process']:.3f}")
