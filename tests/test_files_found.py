"""What once went wrong with files, each found by trying to break them."""

from __future__ import annotations

import gc
import os
import tracemalloc
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from flask import Flask, abort, request, request_started
from test_at_hand import Site, write
from werkzeug.local import LocalProxy
from werkzeug.routing import BaseConverter, Rule
from werkzeug.test import create_environ, run_wsgi_app

from wsgi_usercache import Lane, UserCacheMiddleware
from wsgi_usercache.files import OpenFile

BODY = b"body { color: red }\n" * 40


@pytest.fixture
def site(tmp_path: Path) -> Site:
    write(tmp_path / "a.css", BODY)
    return Site(tmp_path)


class Proxy:
    """Like wrapt's: in all but its type it is what it wraps."""

    def __init__(self, wrapped: Any, call: Callable[..., Any]) -> None:
        self._wrapped, self._call = wrapped, call

    def __getattr__(self, name: str) -> Any:
        return getattr(self._wrapped, name)

    @property
    def __class__(self) -> Any:
        return type(self._wrapped)

    def __call__(self, *args: Any, **options: Any) -> Any:
        return self._call(*args, **options)


@pytest.mark.parametrize("kind", ["proxy", "local proxy"])
def test_a_proxy_around_the_view_is_asked(site: Site, kind: str) -> None:
    stock = site.app.view_functions["static"]

    def refuse(**_: Any) -> None:
        abort(403)

    proxies = {
        "proxy": Proxy(stock, refuse),
        "local proxy": LocalProxy(lambda: refuse if request else stock),
    }
    site.app.view_functions["static"] = proxies[kind]
    for _ in range(2):
        assert site.ask()[0] == 403


def test_a_guard_that_comes_between_lane_and_file_is_asked(site: Site) -> None:
    """Played by hand: the lane of this request has been found, its file has not."""
    site.ask("/")
    heard, rules = [], site.cache_rules()
    plain = rules.lane_for

    def then_listen(environ: dict[str, Any]) -> Lane:
        lane: Lane = plain(environ)
        request_started.connect(listener, site.app)
        return lane

    def listener(*_: Any, **__: Any) -> None:
        heard.append(True)

    rules.lane_for = then_listen
    assert site.ask()[0] == 200
    rules.lane_for = plain
    assert site.ask()[0] == 200
    assert heard == [True, True]
    request_started.disconnect(listener, site.app)


def test_a_listener_that_comes_while_the_app_is_looked_at_is_heard(site: Site) -> None:
    """Played by hand: who listens has been found out, the look is not over yet."""
    heard: list[bool] = []

    def listener(*_: Any, **__: Any) -> None:
        heard.append(True)

    class Handlers(dict[Any, Any]):
        def get(self, *args: Any) -> Any:
            request_started.connect(listener, site.app)
            return super().get(*args)

    site.ask("/")
    site.app.error_handler_spec = Handlers(site.app.error_handler_spec)
    site.ask()
    heard.clear()
    assert site.ask() == (200, BODY)
    assert heard == [True]
    request_started.disconnect(listener, site.app)


def test_a_rule_without_an_endpoint_breaks_nothing(site: Site) -> None:
    site.app.url_map.add(Rule("/old", redirect_to="new"))
    assert site.ask("/") == (200, b"page")
    assert site.ask() == (200, BODY)
    assert site.ask("/old")[0] == 308


def test_a_hook_that_belongs_to_no_module_is_asked(site: Site) -> None:
    namespace: dict[str, Any] = {}
    exec("def hook(): return 'not for you', 403", namespace)
    del namespace["hook"].__globals__["__builtins__"]
    site.app.before_request(namespace["hook"])
    assert site.ask("/") == site.ask() == (403, b"not for you")


def test_an_app_that_can_not_be_looked_at_is_left_to_itself(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    del site.app.config["SEND_FILE_MAX_AGE_DEFAULT"]
    for _ in range(3):
        assert site.ask("/") == (200, b"page")
    assert [record.levelname for record in caplog.records].count("ERROR") == 1
    site.app.config["SEND_FILE_MAX_AGE_DEFAULT"] = None
    site.clock.now += 1
    assert site.ask() == (200, BODY)
    assert site.cache.stats().served == 1


@pytest.mark.parametrize("max_age", [10**12, "3600", float("inf"), 0.5])
def test_an_age_nothing_can_be_made_of_is_flasks_to_answer(site: Site, max_age: Any) -> None:
    site.app.config["SEND_FILE_MAX_AGE_DEFAULT"] = max_age
    static = site.app.extensions["user_cache"].process.static
    # Flask itself is not asked: it fails with the file open.
    assert static.reply(create_environ("/static/a.css"), {}) is None


def test_an_empty_path_is_left_to_flask(tmp_path: Path) -> None:
    write(tmp_path / "index.html", b"index")

    def app() -> Flask:
        app = Flask("site", static_folder=str(tmp_path), static_url_path="/static")
        app.add_url_rule("/", endpoint="static", defaults={"filename": "index.html"})
        return app

    site, plain = app(), app()
    site.wsgi_app = UserCacheMiddleware(site.wsgi_app, site, backend="process")  # type: ignore[method-assign]
    for path in ("/", "", None, "/", ""):
        environ = create_environ("/")
        del environ["PATH_INFO"]
        if path is not None:
            environ["PATH_INFO"] = path
        expected = run_wsgi_app(plain, environ, buffered=True)[1]
        served = site.extensions["user_cache"].process.tallies[Lane.SERVE].total
        assert run_wsgi_app(site, environ, buffered=True)[1] == expected
        served = site.extensions["user_cache"].process.tallies[Lane.SERVE].total - served
        assert served == (path == "/")


def test_a_range_does_not_put_the_plain_file_at_hand(tmp_path: Path) -> None:
    site = Site(tmp_path, precompressed=True)
    write(tmp_path / "a.css", BODY)
    write(tmp_path / "a.css.gz", b"gz")
    accepted = {"HTTP_ACCEPT_ENCODING": "gzip"}
    assert site.ask(HTTP_RANGE="bytes=0-1", **accepted) == (206, BODY[:2])
    assert site.ask(**accepted) == (200, b"gz")


@pytest.mark.parametrize(("younger", "body"), [(0.0, b"gz"), (-0.6, BODY), (0.6, b"gz")])
def test_a_sibling_is_outdated_by_a_fraction_of_a_second(
    tmp_path: Path, younger: float, body: bytes
) -> None:
    site = Site(tmp_path, precompressed=True)
    write(tmp_path / "a.css", BODY)
    write(tmp_path / "a.css.gz", b"gz")
    os.utime(tmp_path / "a.css", (1e8 + 0.7, 1e8 + 0.7))
    os.utime(tmp_path / "a.css.gz", (1e8, 1e8 + 0.7 + younger))
    assert site.ask(HTTP_ACCEPT_ENCODING="gzip")[1] == body


def test_a_sibling_whose_time_was_cut_to_seconds_is_none_older(tmp_path: Path) -> None:
    site = Site(tmp_path, precompressed=True)
    write(tmp_path / "a.css", BODY)
    os.utime(tmp_path / "a.css", (1e8 + 0.7, 1e8 + 0.7))
    write(tmp_path / "a.css.gz", b"gz")
    assert site.ask(HTTP_ACCEPT_ENCODING="gzip")[1] == b"gz"


def test_a_converter_of_the_apps_own_is_asked_each_time(site: Site) -> None:
    open_ = {"a.css"}

    class Open(BaseConverter):
        regex = ".*"

        def to_python(self, value: str) -> str:
            return value if value in open_ else abort(404)

    site.app.url_map.converters["open"] = Open
    site.app.add_url_rule("/open/<open:filename>", endpoint="static")
    site.ask("/")
    for _ in range(2):
        assert site.ask("/open/a.css") == (200, BODY)
    open_.clear()
    assert site.ask("/open/a.css")[0] == 404


def test_long_hosts_do_not_pile_up(site: Site) -> None:
    site.app.config["TRUSTED_HOSTS"] = ["localhost"]
    site.ask()
    tracemalloc.start()
    try:
        for number in range(200):
            assert site.ask(HTTP_HOST=f"{number}." + "x" * 10_000)[0] == 400
        gc.collect()
        assert tracemalloc.get_traced_memory()[0] < 2**18
    finally:
        tracemalloc.stop()


def test_old_versions_of_a_file_do_not_pile_up(tmp_path: Path) -> None:
    site = Site(tmp_path, static_bytes=2**20)
    site.ask("/")
    tracemalloc.start()
    try:
        for number in range(40):
            write(tmp_path / "a.css", bytes([number]) * 200_000)
            site.clock.now += 0.02
            site.ask("/static/" + "./" * number + "a.css")
            site.clock.now += 1 if number % 5 == 0 else 0.0
        gc.collect()
        assert tracemalloc.get_traced_memory()[0] < 2**20
    finally:
        tracemalloc.stop()


def test_a_file_that_grows_while_it_is_read_is_not_read_into_memory(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, plain, turns = site.folder / "a.css", os.fstat, count()

    def fstat(descriptor: int) -> os.stat_result:
        status = plain(descriptor)
        if next(turns) == 1:
            os.truncate(path, 3_000_000)
        return status

    with monkeypatch.context() as patch:
        patch.setattr(os, "fstat", fstat)
        wrapped: list[Any] = []
        environ = create_environ("/static/a.css")
        environ["wsgi.file_wrapper"] = lambda file, _size: wrapped.append(file) or [file.read()]
        body, status, headers = run_wsgi_app(site.app.wsgi_app, environ, buffered=True)
    assert (status, headers["Content-Length"]) == ("200 OK", "3000000")
    assert len(b"".join(body)) == 3_000_000
    wrapped[0].close()


@pytest.mark.parametrize("name", ["preprocess_request", "send_static_file"])
def test_a_method_of_another_app_is_not_this_ones(site: Site, tmp_path: Path, name: str) -> None:
    (tmp_path / "other").mkdir()
    write(tmp_path / "other/a.css", b"other")
    other = Flask("other", static_folder=str(tmp_path / "other"), static_url_path="/static")
    other.before_request(lambda: ("not for you", 403))
    setattr(site.app, name, getattr(other, name))
    expected = {"preprocess_request": (403, b"not for you"), "send_static_file": (200, b"other")}
    assert site.ask() == site.ask() == expected[name]


def test_bytes_read_while_somebody_writes_are_for_nobody_to_keep(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, plain, turns = site.folder / "a.css", os.fstat, count()

    def fstat(descriptor: int) -> os.stat_result:
        path.write_bytes(BODY[: next(turns) % 7 + 1])
        return plain(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fstat", fstat)
        body, status, headers = run_wsgi_app(
            site.app.wsgi_app, create_environ("/static/a.css"), buffered=True
        )
    content = b"".join(body)
    assert status == "200 OK"
    assert BODY.startswith(content)
    assert int(headers["Content-Length"]) == len(content)
    assert headers["Cache-Control"] == "no-store"
    assert not {"ETag", "Last-Modified"} & set(headers.keys())
    write(path, BODY)
    assert site.ask(HTTP_IF_NONE_MATCH="") == (200, BODY)


def test_a_file_cut_after_all_of_it_was_read_is_no_error(tmp_path: Path) -> None:
    write(tmp_path / "a", BODY)
    for promised in (len(BODY), 10):
        file = OpenFile(tmp_path / "a")
        file.promised = promised
        assert file.read() == BODY[:promised]
        os.truncate(tmp_path / "a", 0)
        file.close()
        write(tmp_path / "a", BODY)
    file = OpenFile(tmp_path / "a")
    file.promised = len(BODY)
    assert file.read(10) == BODY[:10]
    os.truncate(tmp_path / "a", 10)
    with pytest.raises(RuntimeError, match="cut while it was being sent"):
        file.read(10)
    with pytest.raises(RuntimeError, match="cut while it was being sent"):
        file.close()
    assert file.closed
