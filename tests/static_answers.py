"""Flask's answers to requests for static files, anybody's answers, and what may differ."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import flask
from static_corpus import Headers, Place, Request
from werkzeug.http import parse_range_header
from werkzeug.test import create_environ, run_wsgi_app

from wsgi_usercache import Lane, UserCacheMiddleware
from wsgi_usercache.lanes import LANE


@dataclass(frozen=True)
class Answer:
    status: str
    headers: Headers
    body: bytes
    lane: Lane | None = None

    @property
    def code(self) -> int:
        return int(self.status[:3])

    def has(self, header: str) -> str | None:
        return dict(self.headers).get(header)


def plain(app: flask.Flask) -> Any:
    return app.wsgi_app


def behind(app: flask.Flask, **options: Any) -> Any:
    """Return the app with the middleware in front of it."""
    app.wsgi_app = UserCacheMiddleware(app.wsgi_app, app, backend="process", **options)  # type: ignore[method-assign]
    return app.wsgi_app


class Sites:
    """The apps that serve the folders below *root*, each made by *wrap* when it is asked first.

    ETags in a request are those of *etags*, which if not given are the sites' own.
    """

    def __init__(
        self,
        root: Path,
        wrap: Callable[[flask.Flask], Any] = plain,
        max_age: int | None = None,
        *,
        etags: Callable[[Request], str] | None = None,
    ) -> None:
        self._root, self._wrap, self._max_age = root, wrap, max_age
        self._environ = create_environ("/")  # once: it takes longer than many an answer
        self._apps: dict[str, Any] = {}
        self._etags: dict[tuple[Place, str], str] = {}
        self._etag = etags or self.etag

    def ask(self, request: Request) -> Answer:
        """Return the answer, and the lane that stands in the environ the app was given."""
        environ = {
            **self._environ,
            "REQUEST_METHOD": request.method,
            "PATH_INFO": request.path,
            "SCRIPT_NAME": request.mount,
        }
        for name, value in request.headers:
            if "{" in value:
                etag = self._etag(request)
                value = value.replace("{etag}", etag).replace("{bare}", etag.strip('"'))
            environ[f"HTTP_{name.upper().replace('-', '_')}"] = value
        given: list[dict[str, Any]] = []

        def noting(environ: dict[str, Any], start_response: Any) -> Any:
            given.append(environ)
            return self._app(request.place.app)(environ, start_response)

        body, status, headers = run_wsgi_app(noting, environ, buffered=True)
        return Answer(status, tuple(headers), b"".join(body), given[0].get(LANE))

    def etag(self, request: Request) -> str:
        """Return the ETag of what has the path of that request."""
        key = request.place, request.path
        if key not in self._etags:
            whole = self.ask(replace(request, method="GET", headers=()))
            self._etags[key] = whole.has("ETag") or '"none"'
        return self._etags[key]

    def _app(self, name: str) -> Any:
        if name not in self._apps:
            url_path = "" if name == "at the root" else "/static"
            self._apps[name] = self._wrap(_app(self._root, url_path, self._max_age))
        return self._apps[name]


def _app(root: Path, static_url_path: str, max_age: int | None) -> flask.Flask:
    app = flask.Flask("site", static_folder=root / "app", static_url_path=static_url_path)
    app.config["SEND_FILE_MAX_AGE_DEFAULT"] = max_age
    app.add_url_rule(f"{static_url_path}/viewed.css", view_func=lambda: "seen", endpoint="viewed")
    app.post(f"{static_url_path}/posted.css", endpoint="posted")(lambda: "posted")
    reports = flask.Blueprint(
        "reports",
        "site",
        url_prefix="/reports",
        static_folder=root / "reports",
        static_url_path="files",
    )
    inner = flask.Blueprint(
        "inner",
        "site",
        url_prefix="/inner",
        static_folder=root / "inner",
        static_url_path="files",
    )
    outer = flask.Blueprint("outer", "site", url_prefix="/outer")
    outer.register_blueprint(inner)
    app.register_blueprint(outer)
    app.register_blueprint(reports)
    return app


@dataclass(frozen=True)
class Intended:
    """A difference we mean: on such a request we answer as Flask does without its range."""

    name: str
    source: str
    applies: Callable[[Request], bool]


def _is_several(value: str | None) -> bool:
    ranges = parse_range_header(value)
    return ranges is not None and len(ranges.ranges) > 1


INTENDED = [
    Intended(
        "a Range header on HEAD is ignored",
        "RFC 9110 §14.2: range handling is only defined for GET",
        lambda request: request.method == "HEAD" and request.has("Range") is not None,
    ),
    Intended(
        "several ranges in one header get the whole file",
        "RFC 9110 §14.2: a server MAY ignore the Range header field",
        lambda request: request.method == "GET" and _is_several(request.has("Range")),
    ),
]


def intended(request: Request) -> Intended | None:
    """Return the difference that is meant for this request to a file we serve."""
    return next((row for row in INTENDED if row.applies(request)), None)


def without_range(request: Request) -> Request:
    return request.without("Range", "If-Range")


def comparable(answer: Answer) -> object:
    """Return all of an answer that does not depend on when it is given."""
    headers = [(name, "…" if name in ("Date", "Expires") else v) for name, v in answer.headers]
    return answer.status, headers, answer.body


def seconds_kept(answer: Answer) -> float:
    """Return how long after its Date an answer expires; 0 if it does not say."""
    date, expires = answer.has("Date"), answer.has("Expires")
    if date is None or expires is None:
        return 0.0
    return (parsedate_to_datetime(expires) - parsedate_to_datetime(date)).total_seconds()


def same(one: Answer, other: Answer) -> bool:
    """Whether no client could tell these answers apart, but by the time of day."""
    near = abs(seconds_kept(one) - seconds_kept(other)) <= 1
    return near and comparable(one) == comparable(other)
