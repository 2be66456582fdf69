"""The middleware: every request on its way, its lane in the environ, nothing taken on trust."""

from __future__ import annotations

from collections.abc import Iterable
from math import inf
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
from werkzeug.middleware.lint import LintMiddleware
from werkzeug.test import create_environ, run_wsgi_app
from werkzeug.wsgi import FileWrapper

from wsgi_usercache.at_hand import AtHand
from wsgi_usercache.lanes import (
    LANE,
    USER_ID,
    Explanation,
    Lane,
    LaneRules,
    Located,
    compile_patterns,
)
from wsgi_usercache.middleware import Middleware
from wsgi_usercache.static import StaticFiles
from wsgi_usercache.statistics import Tally

HOSTS = frozenset({"localhost"})


class Static:
    """Everything under /static/ is a file of one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def lane_for(self, path: str, environ: dict[str, Any]) -> Lane | None:
        return Lane.SERVE if path.startswith("/static/") else None

    def explain(self, path: str, environ: dict[str, Any]) -> Explanation | None:
        return None

    def locate(self, environ: dict[str, Any]) -> Located:
        name = environ["PATH_INFO"].removeprefix("/static/")
        return Located(str(self.folder), name, None, False, (), HOSTS, inf, None)


class Counted(Tally):
    """A tally that also notes its lane in *events*."""

    def __init__(self, lane: Lane, events: list[Any]) -> None:
        self.add = lambda: events.append(lane)  # type: ignore[assignment]


class Site:
    """A WSGI application behind the middleware, and a note of all that happens."""

    def __init__(self, folder: Path) -> None:
        static = Static(folder)
        self.attached = True
        self.error: Exception | None = None
        self.events: list[Any] = []
        self.seen: dict[str, Any] = {}
        self.rules = LaneRules(compile_patterns(["/admin"]), compile_patterns(["/ping"]), static)
        self.at_hand = AtHand()
        self.static = StaticFiles(static.locate, dropped=self.at_hand.clear)
        self.tallies = {lane: Counted(lane, self.events) for lane in Lane}
        self.middleware = Middleware(
            self.app, lambda _: self if self.attached else None, clock=monotonic
        )

    def app(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        self.events.append("app")
        self.seen = {key: value for key, value in environ.items() if "usercache" in key}
        if self.error is not None:
            raise self.error
        start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "3")])
        return [b"app"]

    def ask(self, path: str, method: str = "GET", **environ: Any) -> tuple[bytes, Any]:
        """Return the body, and the lane the environ had when the answer was started."""
        lanes = []

        def noting(inner: dict[str, Any], start_response: Any) -> Any:
            def start(*args: Any) -> Any:
                lanes.append(inner.get(LANE))
                return start_response(*args)

            return LintMiddleware(self.middleware)(inner, start)

        full = create_environ(path, method=method) | environ
        body, _, _ = run_wsgi_app(noting, full, buffered=True)
        return b"".join(body), lanes[0]


@pytest.fixture
def site(tmp_path: Path) -> Site:
    (tmp_path / "a.css").write_bytes(b"file")
    return Site(tmp_path)


def test_a_served_file_never_reaches_the_application(site: Site) -> None:
    assert site.ask("/static/a.css") == (b"file", Lane.SERVE)
    assert site.events == [Lane.SERVE]


@pytest.mark.parametrize(
    ("path", "method"), [("/static/none.css", "GET"), ("/static/a.css", "POST"), ("/ping", "GET")]
)
def test_what_is_not_served_runs_as_bypass_and_says_so(site: Site, path: str, method: str) -> None:
    assert site.ask(path, method) == (b"app", Lane.BYPASS)
    assert site.seen == {LANE: Lane.BYPASS}
    assert site.events == [Lane.BYPASS, "app"]


@pytest.mark.parametrize(("path", "lane"), [("/", Lane.CACHED), ("/admin", Lane.FRESH)])
def test_the_application_finds_the_lane_in_the_environ(site: Site, path: str, lane: Lane) -> None:
    assert site.ask(path) == (b"app", lane)
    assert site.seen == {LANE: lane}


@pytest.mark.parametrize("attached", [True, False])
def test_what_came_under_our_names_is_not_believed(site: Site, attached: bool) -> None:
    site.attached = attached
    site.ask("/", **{LANE: "serve", USER_ID: "1"})
    assert site.seen == ({LANE: Lane.CACHED} if attached else {})


def test_switched_off_it_passes_everything_through(site: Site) -> None:
    site.attached = False
    assert site.ask("/static/a.css") == (b"app", None)
    assert site.events == ["app"]


def test_an_error_of_the_application_passes(site: Site) -> None:
    site.error = RuntimeError("the application's own")
    with pytest.raises(RuntimeError, match="own"):
        site.ask("/")
    assert site.events == [Lane.CACHED, "app"]


@pytest.mark.parametrize("headers", [{}, {"If-Match": "*"}])
@pytest.mark.filterwarnings("error::pytest.PytestUnraisableExceptionWarning")
def test_a_streamed_file_is_closed_when_starting_the_answer_fails(
    site: Site, tmp_path: Path, headers: dict[str, str]
) -> None:
    (tmp_path / "big.bin").write_bytes(bytes(300_000))
    opened: list[Any] = []
    environ = create_environ("/static/big.bin", headers=headers)
    environ["wsgi.file_wrapper"] = lambda file, _size: opened.append(file) or FileWrapper(file)

    def broken(*_: object) -> Any:
        raise ConnectionError

    with pytest.raises(ConnectionError):
        site.middleware(environ, broken)
    assert [file.closed for file in opened] == [True]
