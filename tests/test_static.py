"""Static files: answered as Flask answers, or left to Flask."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterable
from email.utils import formatdate
from math import inf
from pathlib import Path
from typing import Any

import flask
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from werkzeug.middleware.lint import LintMiddleware
from werkzeug.test import create_environ, run_wsgi_app

from wsgi_usercache.at_hand import AtHand
from wsgi_usercache.lanes import Located
from wsgi_usercache.static import StaticFiles

HOSTS = frozenset({"localhost"})
BIG = bytes(range(256)) * 1200  # 300 KiB, more than is kept in memory
FILES = {
    "a.css": b"body { color: red }\n",
    "empty.txt": b"",
    "big.bin": BIG,
    "deep/er/app.js": b"export default 1\n",
    "naïve ☃.txt": b"snow",
    "archive.tar.gz": b"\x1f\x8b not really",
    "page.html": b"<!doctype html>",
    "noextension": b"\x00\x01",
}


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Tracked(list[Any]):
    """A server's own file wrapper that notes what it wrapped."""

    def __call__(self, file: Any, size: int = 8192) -> Iterable[bytes]:
        self.append(file)
        return FileIterator(file, size)


class FileIterator:
    def __init__(self, file: Any, size: int) -> None:
        self.file, self.size, self.closed = file, size, 0

    def __iter__(self) -> FileIterator:
        return self

    def __next__(self) -> bytes:
        if data := self.file.read(self.size):
            return data
        raise StopIteration

    def close(self) -> None:
        self.closed += 1
        self.file.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site") / "static"
    for name, content in FILES.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


def flask_app(folder: Path, max_age: int | None = None) -> flask.Flask:
    app = flask.Flask("oracle", static_folder=str(folder), static_url_path="/static")
    app.config["SEND_FILE_MAX_AGE_DEFAULT"] = max_age
    return app


def files(
    folder: Path, max_age: int | None = None, own_errors: bool = False, **options: Any
) -> Front:
    def locate(environ: dict[str, Any]) -> Located:
        path = environ["PATH_INFO"].encode("latin-1").decode()
        return located(str(folder), path.removeprefix("/static/"), max_age, own_errors)

    # A file written this very moment is not kept; these tests look from a minute later.
    options.setdefault("wall", lambda: time.time() + 60)
    return Front(locate, **options)


def located(directory: str, filename: str, max_age: int | None, own_errors: bool) -> Located:
    """A file whose place depends on nothing but the path."""
    return Located(directory, filename, max_age, own_errors, (), HOSTS, inf, None)


class Front:
    """The files as the middleware asks for them: first what is at hand."""

    def __init__(self, locate: Any, **options: Any) -> None:
        self.at_hand = AtHand()
        self.clock = options.setdefault("clock", time.monotonic)
        self.files = StaticFiles(locate, dropped=self.at_hand.clear, **options)

    def respond(self, environ: dict[str, Any], start_response: Any) -> Any:
        """Return the body, started, and whether it was at hand; None if the files declined."""
        table = self.at_hand.table
        ready = table.get(environ["PATH_INFO"])
        reply = None if ready is None else ready.reply_to(environ, self.clock())
        self.was_at_hand = reply is not None
        reply = reply or self.files.reply(environ, table)
        if reply is None:
            return None
        start_response(*reply[:2])
        return reply[2]


def ask(
    app: Any, name: str, method: str = "GET", **headers: str
) -> tuple[str, list[tuple[str, str]], bytes] | None:
    """Return status, headers and body of one request; None where the files declined."""
    environ = create_environ(f"/static/{name}", method=method)
    environ.update({f"HTTP_{key.upper()}": value for key, value in headers.items()})
    declined = []

    def checked(environ: Any, start_response: Any) -> Iterable[bytes]:
        answer = app.respond(environ, start_response)
        if answer is None:
            declined.append(True)
            start_response("500 Declined", [("Content-Type", "text/plain")])
            return [b""]
        return answer

    # The lint takes the Content-Length of a HEAD answer, Flask's own too, for a wrong one.
    linted = checked if method == "HEAD" else LintMiddleware(checked)
    wsgi_app = app if isinstance(app, flask.Flask) else linted
    body, status, answered = run_wsgi_app(wsgi_app, environ, buffered=True)
    return None if declined else (status, list(answered), b"".join(body))


def comparable(answer: tuple[str, list[tuple[str, str]], bytes] | None) -> object:
    assert answer is not None
    status, headers, body = answer
    timeless = [(k, "…" if k in ("Date", "Expires") else v) for k, v in headers]
    return status, timeless, body


def validators(app: flask.Flask, name: str) -> tuple[str, str]:
    _, headers, _ = ask(app, name) or pytest.fail("declined")
    return dict(headers)["ETag"], dict(headers)["Last-Modified"]


def conditions(etag: str, modified: str) -> list[dict[str, str]]:
    earlier = formatdate(1, usegmt=True)
    later = formatdate(time.time() + 9999, usegmt=True)
    return [
        {},
        *({"if_none_match": v} for v in (etag, f'"no", {etag}', f"W/{etag}", "*", '"no"')),
        *({"if_match": v} for v in (etag, '"no"', "*")),
        *({"if_modified_since": v} for v in (modified, earlier, later, "nonsense")),
        *({"if_unmodified_since": v} for v in (modified, earlier)),
        {"if_none_match": '"no"', "if_modified_since": later},
        *({"range": v} for v in ("bytes=0-0", "bytes=1-", "bytes=-2", "bytes=0-99999999")),
        {"range": "bytes=0-0", "if_range": etag},
        {"range": "bytes=0-0", "if_range": '"no"'},
        {"range": "bytes=0-0", "if_range": modified},
        {"range": "bytes=0-0", "if_none_match": etag},
    ]


@pytest.mark.parametrize("max_age", [None, 0, 3600])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("name", FILES)
def test_an_answer_is_what_flask_answers(
    folder: Path, name: str, method: str, max_age: int | None
) -> None:
    app = flask_app(folder, max_age)
    served = files(folder, max_age)
    for headers in conditions(*validators(app, name)):
        asked = {k: v for k, v in headers.items() if method == "GET" or "range" not in k}
        expected = ask(app, name, method, **asked)  # a range is that of a GET, RFC 9110 §14.2
        for _ in range(2):  # prepared, then at hand
            assert comparable(ask(served, name, method, **headers)) == comparable(expected)


def test_the_times_of_an_answer_are_those_of_the_request(folder: Path) -> None:
    wall, clock = Clock(), Clock()
    served = files(folder, max_age=60, wall=wall, clock=clock, check_interval=9.0)
    start = 1_000_000_000.0
    for passed in (0.0, 0.75, 1.0, 1.5, 77.9):
        wall.now, clock.now = start + passed, 1000 + passed
        for headers in ({}, {}, {"if_match": "*"}):
            _, answered, _ = ask(served, "a.css", **headers) or pytest.fail("declined")
            assert dict(answered)["Date"] == formatdate(int(start + passed), usegmt=True)
            assert dict(answered)["Expires"] == formatdate(int(start + passed + 60), usegmt=True)


NOT_TO_BE_HAD = ["bytes=99999999-", "bytes=5-2", "bytes=", "lines=0-1"]


@pytest.mark.parametrize("name", ["a.css", "big.bin"])
@pytest.mark.parametrize("value", NOT_TO_BE_HAD)
def test_a_range_that_cannot_be_had_is_refused_as_flask_refuses_it(
    folder: Path, name: str, value: str
) -> None:
    expected = ask(flask_app(folder), name, range=value)
    answer = ask(files(folder), name, range=value)
    assert answer is not None
    assert answer[0].startswith("416")
    assert comparable(answer) == comparable(expected)


@pytest.mark.parametrize("value", NOT_TO_BE_HAD)
def test_it_is_left_to_flask_if_the_app_has_an_answer_of_its_own(folder: Path, value: str) -> None:
    assert ask(files(folder, own_errors=True), "a.css", range=value) is None
    opened = Tracked()
    environ = create_environ("/static/big.bin", headers={"Range": value})
    environ["wsgi.file_wrapper"] = opened
    served = files(folder, own_errors=True)
    assert served.respond(environ, pytest.fail) is None
    assert [file.closed for file in opened] == [True]


def test_of_several_ranges_none_is_looked_at(folder: Path) -> None:
    app, served = flask_app(folder), files(folder)
    etag, _ = validators(app, "a.css")
    whole = comparable(ask(app, "a.css"))
    for headers in ({}, {"if_range": etag}, {"if_range": '"no"'}):
        assert comparable(ask(served, "a.css", range="bytes=0-1,3-4", **headers)) == whole


@given(
    name=st.sampled_from(["a.css", "big.bin"]),
    first=st.none() | st.integers(0, 400_000),
    last=st.none() | st.integers(0, 400_000),
)
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_range_is_a_slice(folder: Path, name: str, first: int | None, last: int | None) -> None:
    value = f"bytes={'' if first is None else first}-{'' if last is None else last}"
    whole = FILES[name]
    expected = ask(flask_app(folder), name, range=value)
    assert expected is not None
    answer = ask(files(folder), name, range=value)
    assert comparable(answer) == comparable(expected)
    assert answer is not None
    if expected[0].startswith("416"):
        return
    if first is None:
        assert answer[2] == (whole[-last:] if last else whole)
    else:
        assert answer[2] == whole[first : None if last is None else last + 1]


@pytest.mark.parametrize(
    "name",
    [
        "missing.css",
        "",
        "deep",
        "../secret",
        "deep/../../secret",
        "/etc/passwd",
        "a\0.css",
        "../static/a.css",
    ],
)
def test_what_is_no_file_inside_the_folder_is_declined(folder: Path, name: str) -> None:
    (folder.parent / "secret").write_bytes(b"secret")
    found = located(str(folder), name, None, False)
    assert Front(lambda _: found).respond(create_environ("/"), pytest.fail) is None


def test_what_is_not_located_is_declined() -> None:
    assert Front(lambda _: None).respond(create_environ("/"), pytest.fail) is None


def test_a_fifo_is_declined_without_waiting_for_a_writer(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert ask(files(tmp_path), "pipe") is None


def test_a_symlink_out_of_the_folder_is_declined_and_one_inside_is_followed(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "static"
    folder.mkdir()
    (tmp_path / "secret").write_bytes(b"secret")
    (folder / "a.css").write_bytes(b"a")
    (folder / "out").symlink_to(tmp_path / "secret")
    (folder / "in.css").symlink_to("a.css")
    (tmp_path / "static-old").mkdir()
    (tmp_path / "static-old" / "b").write_bytes(b"old")
    (folder / "old").symlink_to(tmp_path / "static-old")
    served = files(folder)
    assert ask(served, "out") is None
    assert ask(served, "old/b") is None
    assert comparable(ask(served, "in.css")) == comparable(ask(flask_app(folder), "in.css"))


def test_a_symlink_out_of_the_folder_is_followed_if_asked_for(
    folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "out.css").symlink_to(folder / "a.css")
    served = files(tmp_path, follow_symlinks=True)
    assert comparable(ask(served, "out.css")) == comparable(ask(flask_app(tmp_path), "out.css"))
    assert ask(served, "../a.css") is None


def test_a_symlinked_folder_serves_its_files(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(folder)
    link = tmp_path / "link"
    assert comparable(ask(files(link), "a.css")) == comparable(ask(flask_app(link), "a.css"))


def body(answer: tuple[str, list[tuple[str, str]], bytes] | None) -> bytes | None:
    return None if answer is None else answer[2]


def test_a_changed_file_is_seen_after_the_interval_with_its_own_headers(tmp_path: Path) -> None:
    clock = Clock()
    served = files(tmp_path, clock=clock, check_interval=1.0)
    app = flask_app(tmp_path)
    (tmp_path / "a.css").write_bytes(b"old")
    old = ask(served, "a.css")
    (tmp_path / "a.css").write_bytes(b"brand new")
    clock.now += 0.9
    assert comparable(ask(served, "a.css")) == comparable(old)
    clock.now += 0.2
    assert comparable(ask(served, "a.css")) == comparable(ask(app, "a.css"))
    assert body(ask(served, "a.css")) == b"brand new"


def test_a_file_of_the_same_size_and_mtime_is_seen_too(tmp_path: Path) -> None:
    clock = Clock()
    served = files(tmp_path, clock=clock)
    path = tmp_path / "a.css"
    path.write_bytes(b"old")
    os.utime(path, (1e9, 1e9))
    assert body(ask(served, "a.css")) == b"old"
    (tmp_path / "b.css").write_bytes(b"new")
    os.replace(tmp_path / "b.css", path)
    os.utime(path, (1e9, 1e9))
    clock.now += 2
    assert body(ask(served, "a.css")) == b"new"


def test_a_removed_file_is_declined_after_the_interval(tmp_path: Path) -> None:
    clock = Clock()
    served = files(tmp_path, clock=clock)
    (tmp_path / "a.css").write_bytes(b"a")
    assert body(ask(served, "a.css")) == b"a"
    (tmp_path / "a.css").unlink()
    clock.now += 2
    assert ask(served, "a.css") is None


def test_a_file_changed_this_very_moment_is_not_kept(tmp_path: Path) -> None:
    path = tmp_path / "a.css"
    served = files(tmp_path, clock=Clock(), wall=lambda: path.stat().st_ctime + 0.01)
    path.write_bytes(b"old")
    assert body(ask(served, "a.css")) == b"old"
    path.write_bytes(b"new")
    assert body(ask(served, "a.css")) == b"new"


def test_a_large_file_is_streamed_and_never_stale(tmp_path: Path) -> None:
    served = files(tmp_path, clock=Clock())
    app = flask_app(tmp_path)
    (tmp_path / "a.bin").write_bytes(BIG)
    assert comparable(ask(served, "a.bin")) == comparable(ask(app, "a.bin"))
    (tmp_path / "a.bin").write_bytes(b"y" + BIG)
    assert comparable(ask(served, "a.bin")) == comparable(ask(app, "a.bin"))


def test_one_file_may_have_two_maximum_ages(folder: Path) -> None:
    ages = iter([60, None, 60, None])
    served = Front(
        lambda _: located(str(folder), "a.css", next(ages), False),
        wall=lambda: time.time() + 60,
        check_interval=0.0,  # or the first would be at hand
    )
    controls = [dict((ask(served, "a.css") or pytest.fail("declined"))[1]) for _ in range(4)]
    assert [headers["Cache-Control"] for headers in controls] == [
        "public, max-age=60",
        "no-cache",
    ] * 2


@pytest.mark.parametrize("max_bytes", [0, 1, 2048, 5000])
def test_a_tiny_budget_only_keeps_less(tmp_path: Path, max_bytes: int) -> None:
    for name in "abc":
        (tmp_path / name).write_bytes(name.encode() * 900)
    served = files(tmp_path, max_bytes=max_bytes)
    for name in "abcabc":
        assert body(ask(served, name)) == name.encode() * 900


def test_a_streamed_file_goes_through_the_servers_wrapper_and_is_closed_once(
    folder: Path,
) -> None:
    opened = Tracked()
    environ = create_environ("/static/big.bin")
    environ["wsgi.file_wrapper"] = opened
    answer = files(folder).respond(environ, lambda *_: lambda _: None)
    assert isinstance(answer, FileIterator)
    assert b"".join(answer) == BIG
    assert not opened[0].closed
    answer.close()
    assert answer.closed == 1
    assert opened[0].closed


def test_the_etag_has_the_form_flask_gives_it(folder: Path) -> None:
    _, headers, _ = ask(files(folder), "a.css") or pytest.fail("declined")
    assert re.fullmatch(r'"\d+\.\d+-20-\d+"', dict(headers)["ETag"])
