"""Files that were asked for a moment ago: no look at the disk, nothing beyond the budget."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import flask
import pytest
from werkzeug.test import create_environ, run_wsgi_app

from wsgi_usercache import UserCache
from wsgi_usercache.app_cache import Clocks
from wsgi_usercache.at_hand import ReadyFile

LOOKS = ("stat", "lstat", "open", "scandir", "listdir", "readlink")


class Clock:
    def __init__(self) -> None:
        self.now = 1e9

    def __call__(self) -> float:
        return self.now


class Site:
    """An application with static files, and how often it looks at the disk."""

    def __init__(self, folder: Path, **options: Any) -> None:
        self.folder = folder
        self.clock = clock = Clock()
        self.app = flask.Flask("site", static_folder=str(folder), static_url_path="/static")
        self.app.add_url_rule("/", view_func=lambda: "page")

        class Cache(UserCache):
            clocks = Clocks(steady=clock, wall=clock)

        self.cache = Cache(self.app, backend="process", **options)

    def cache_rules(self) -> Any:
        """The rules of this process, to play a race by hand."""
        return self.app.extensions["user_cache"].process.rules

    def ask(self, path: str = "/static/a.css", **environ: Any) -> tuple[int, bytes]:
        body, status, _ = run_wsgi_app(
            self.app.wsgi_app, create_environ(path) | environ, buffered=True
        )
        return int(status[:3]), b"".join(body)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    write(tmp_path / "a.css", b"a")
    return Site(tmp_path)


def write(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    os.utime(path, (1e8, 1e8))


@contextmanager
def looks_at(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Counter[str]]:
    """Count the system calls by which *folder* and what is in it are looked at."""
    seen: Counter[str] = Counter()

    def counted(name: str) -> Any:
        plain = getattr(os, name)

        def call(path: Any = ".", *args: Any, **options: Any) -> Any:
            seen[name] += str(path).startswith(str(folder))
            return plain(path, *args, **options)

        return call

    with monkeypatch.context() as patch:
        for name in LOOKS:
            patch.setattr(os, name, counted(name))
        yield seen


@pytest.mark.parametrize("precompressed", [False, True])
@pytest.mark.parametrize("trusted", [None, ["localhost"]])
@pytest.mark.parametrize("settled", [False, True])
def test_the_disk_is_looked_at_once_an_interval(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    precompressed: bool,
    trusted: list[str] | None,
    settled: bool,
) -> None:
    write(tmp_path / "a.css", b"a")
    write(tmp_path / "a.css.br", b"br")
    site = Site(tmp_path, precompressed=precompressed, check_interval=5.0)
    site.app.config["TRUSTED_HOSTS"] = trusted
    if settled:
        site.ask("/")
    accepted = {"HTTP_ACCEPT_ENCODING": "br"}
    expected = (200, b"br" if precompressed else b"a")
    site.ask(**accepted)
    with looks_at(tmp_path, monkeypatch) as seen:
        for _ in range(20):
            site.clock.now += 0.24
            assert site.ask(**accepted) == expected
        # What is missing, siblings too, is asked for again each second.
        assert seen["stat"] <= (8 if precompressed else 0)
        assert not seen["open"]
        site.clock.now += 1
        assert site.ask(**accepted) == expected
    assert seen["stat"] >= 1
    assert not seen["open"]


def test_a_file_that_was_just_asked_for_is_answered_without_flask_or_matching(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.ask("/")
    site.ask()
    monkeypatch.setattr(site.app, "create_url_adapter", pytest.fail)
    for _ in range(3):
        assert site.ask() == (200, b"a")
    assert site.cache.stats().served == 4


def test_each_request_looks_if_the_interval_is_zero(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = Site(tmp_path, check_interval=0.0)
    for content in (b"one", b"three", b"two"):
        write(tmp_path / "a.css", content)
        assert site.ask() == (200, content)
        with looks_at(tmp_path, monkeypatch) as seen:
            assert site.ask() == (200, content)
        assert +seen == {"stat": 1}
    (tmp_path / "a.css").unlink()
    assert site.ask()[0] == 404


def test_only_the_same_request_is_answered_the_same(site: Site) -> None:
    site.app.add_url_rule("/static/a.css", endpoint="socket", websocket=True)
    site.ask("/")
    upgrade = {"HTTP_UPGRADE": "websocket", "HTTP_CONNECTION": "Upgrade"}
    for _ in range(2):
        assert site.ask() == (200, b"a")
        assert site.ask(REQUEST_METHOD="HEAD") == (200, b"")
        assert site.ask(REQUEST_METHOD="POST")[0] == 405
        assert site.ask(**upgrade)[0] != 200


@pytest.mark.parametrize("conditions", [{}, {"HTTP_IF_NONE_MATCH": "…"}])
def test_a_server_may_do_with_the_headers_what_it_likes(
    site: Site, conditions: dict[str, str]
) -> None:
    seen: list[Any] = []

    def start(status: str, headers: list[tuple[str, str]]) -> Any:
        seen.append((status, list(headers)))
        headers.clear()

    b"".join(site.app.wsgi_app(create_environ("/static/a.css"), start))
    etag = dict(seen.pop()[1])["ETag"]
    for _ in range(3):
        environ = create_environ("/static/a.css") | dict.fromkeys(conditions, etag)
        b"".join(site.app.wsgi_app(environ, start))
    assert seen == [seen[0]] * 3
    assert seen[0][1]


def test_what_is_missing_is_remembered_for_a_second_at_most(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = Site(tmp_path, check_interval=60.0)
    site.app.errorhandler(404)(lambda _: ("none", 404))
    asked = []
    monkeypatch.setattr(
        os, "stat", lambda path, *_, _stat=os.stat: asked.append(path) or _stat(path)
    )
    for _ in range(3):
        assert site.ask("/static/b.css") == (404, b"none")
    assert asked.count(str(tmp_path / "b.css")) == 1 + 3  # Flask looks each time
    write(tmp_path / "b.css", b"b")
    site.clock.now += 1
    assert site.ask("/static/b.css") == (200, b"b")
    assert site.cache.stats().served == 1


@pytest.mark.parametrize("files", [1, 3000])
def test_the_first_request_does_not_scan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: int
) -> None:
    write(tmp_path / "a.css", b"a")
    for number in range(files):
        os.link(tmp_path / "a.css", tmp_path / f"{number}.css")
    with looks_at(tmp_path, monkeypatch) as seen:
        site = Site(tmp_path)
        assert not seen.total()
        assert site.ask() == (200, b"a")
    assert seen["stat"] == seen["open"] == 1
    assert not seen["scandir"] + seen["listdir"]
    assert seen["lstat"] < 40  # the parts of two paths, for symbolic links


def ready(body: bytes) -> ReadyFile:
    return ReadyFile(body, '"etag"', [], [], good_until=1.0, hosts={None}, stands=None)
