"""Compressed siblings of a file: for those who accept them, and never mixed up with it."""

from __future__ import annotations

import gzip
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import flask
import pytest
from hypothesis import given
from hypothesis import strategies as st
from werkzeug.test import create_environ, run_wsgi_app

from wsgi_usercache import UserCache
from wsgi_usercache.app_cache import Clocks
from wsgi_usercache.encodings import SUFFIXES, choose

PLAIN = b"body { color: red }\n" * 40
BODIES = {"br": b"<br>", "zstd": b"<zstd>", "gzip": gzip.compress(PLAIN), None: PLAIN}
CHROME = "gzip, deflate, br, zstd"
SAFARI = "gzip, deflate, br"


class Clock:
    def __init__(self) -> None:
        self.now = 1e9

    def __call__(self) -> float:
        return self.now


Answer = tuple[int, dict[str, str], bytes]


class Site:
    """An application with a folder of files, and what it answers."""

    def __init__(self, folder: Path, **options: Any) -> None:
        self.folder = folder
        self.clock = Clock()
        app = flask.Flask("site", static_folder=str(folder), static_url_path="/static")
        self.flask = app.wsgi_app

        class Cache(UserCache):
            clocks = Clocks(steady=self.clock, wall=self.clock)

        self.cache = Cache(app, backend="process", **{"precompressed": True} | options)
        self.app = app

    def write(self, name: str, content: bytes, changed: float = 1e8) -> None:
        (self.folder / name).write_bytes(content)
        os.utime(self.folder / name, (changed, changed))

    def ask(self, name: str = "a.css", method: str = "GET", **headers: str) -> Answer:
        return self._ask(self.app.wsgi_app, name, method, headers)

    def ask_flask(self, name: str = "a.css", method: str = "GET", **headers: str) -> Answer:
        return self._ask(self.flask, name, method, headers)

    def _ask(
        self, wsgi_app: Callable[..., Iterable[bytes]], name: str, method: str, headers: Any
    ) -> Answer:
        environ = create_environ(f"/static/{name}", method=method)
        environ |= {f"HTTP_{key.upper()}": value for key, value in headers.items()}
        body, status, answered = run_wsgi_app(wsgi_app, environ, buffered=True)
        timeless = {k: v for k, v in answered if k != "Date"}
        return int(status[:3]), timeless, b"".join(body)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    site = Site(tmp_path)
    site.write("a.css", PLAIN)
    for coding, suffix in SUFFIXES.items():
        site.write(f"a.css{suffix}", BODIES[coding])
    return site


@pytest.mark.parametrize(
    ("accepted", "coding"),
    [
        (None, None),
        ("", None),
        ("identity", None),
        ("gzip", "gzip"),
        ("GZIP", "gzip"),
        ("gzip;q=0", None),
        ("gzip;q=0.0, br;q=0", None),
        ("gzip, br;q=0", "gzip"),
        (CHROME, "br"),
        (SAFARI, "br"),
        ("zstd, gzip", "zstd"),
        ("br;q=0.5, gzip;q=0.8", "gzip"),
        ("gzip;q=0.5, identity;q=0.9", None),
        ("gzip;q=0.5, identity;q=0.5", "gzip"),
        ("*", "br"),
        ("*;q=0", None),
        ("*;q=0.1, gzip;q=0.2", "gzip"),
        ("br;q=0, *", "zstd"),
        ("identity;q=0, gzip", "gzip"),
        ("identity;q=0", None),  # nothing else is accepted either; Flask sends it, too
        ("gzipped, brotli", None),
        ("gzip;q=nonsense", None),
        ("gzip, x" + "x" * 2000, None),  # nobody's browser
    ],
)
def test_a_client_gets_the_coding_it_likes_best(
    site: Site, accepted: str | None, coding: str | None
) -> None:
    headers = {} if accepted is None else {"accept_encoding": accepted}
    for _ in range(2):  # prepared, then at hand
        status, answered, body = site.ask(**headers)
        assert (status, body) == (200, BODIES[coding])
        assert answered.get("Content-Encoding") == coding
        assert answered["Vary"] == "Accept-Encoding"
        assert int(answered["Content-Length"]) == len(body)
        assert answered["Content-Type"] == "text/css; charset=utf-8"
    assert site.cache.stats().served == 2


QUALITIES = st.none() | st.sampled_from([0.0, 0.001, 0.3, 0.5, 0.999, 1.0])


@given(
    named=st.dictionaries(
        st.sampled_from(["br", "zstd", "gzip", "identity", "*", "deflate"]), QUALITIES
    ),
    there=st.sets(st.sampled_from(list(SUFFIXES))),
)
def test_no_other_coding_is_liked_better(named: dict[str, float | None], there: set[str]) -> None:
    header = ", ".join(k if q is None else f"{k};q={q}" for k, q in named.items())

    def liking(coding: str) -> float:
        quality = named.get(coding, named.get("*", 0.0))
        return 1.0 if quality is None else quality

    chosen = choose([coding for coding in SUFFIXES if coding in there], header)
    best = max(map(liking, there), default=0.0)
    if chosen is not None:
        assert chosen in there
        assert liking(chosen) == best > 0
        assert liking(chosen) >= liking("identity")
    else:
        assert best == 0 or best < liking("identity")


def test_without_the_option_siblings_are_files_like_others(site: Site, tmp_path: Path) -> None:
    plain = Site(tmp_path, precompressed=False)
    assert plain.ask(accept_encoding=CHROME) == plain.ask_flask(accept_encoding=CHROME)
    for name in ("a.css.br", "a.css.gz", "a.css.zst"):
        for each in (plain, site):
            assert each.ask(name, accept_encoding=CHROME) == each.ask_flask(name)


def test_a_file_without_siblings_is_answered_as_by_flask(site: Site) -> None:
    site.write("b.css", PLAIN)
    assert site.ask("b.css", accept_encoding=CHROME) == site.ask_flask("b.css")


def test_each_coding_has_an_etag_and_only_its_own_is_not_modified(site: Site) -> None:
    accepting = {coding: coding or "identity" for coding in BODIES}
    etags = {c: site.ask(accept_encoding=a)[1]["ETag"] for c, a in accepting.items()}
    assert len(set(etags.values())) == len(BODIES)
    for coding, accepted in accepting.items():
        for other, etag in etags.items():
            for value in (etag, f"W/{etag}", f'"other", {etag}'):
                status, answered, body = site.ask(accept_encoding=accepted, if_none_match=value)
                assert (status, body) == ((304, b"") if other == coding else (200, BODIES[coding]))
                assert answered["Vary"] == "Accept-Encoding"
                assert answered["ETag"] == etags[coding]


def test_a_range_is_of_the_file_as_it_is(site: Site) -> None:
    brotli = site.ask(accept_encoding="br")[1]["ETag"]
    plain = site.ask()[1]["ETag"]
    for headers in ({}, {"if_range": plain}):
        status, answered, body = site.ask(accept_encoding="br", range="bytes=2-5", **headers)
        assert (status, body) == (206, PLAIN[2:6])
        assert "Content-Encoding" not in answered
        assert (answered["ETag"], answered["Vary"]) == (plain, "Accept-Encoding")
        assert answered["Content-Range"] == f"bytes 2-5/{len(PLAIN)}"
    # Who has a part of another coding gets all of it, never the rest.
    status, answered, body = site.ask(accept_encoding="br", range="bytes=2-5", if_range=brotli)
    assert (status, body) == (200, PLAIN)
    assert "Content-Encoding" not in answered


def test_who_refuses_the_file_as_it_is_gets_no_range_of_it(site: Site) -> None:
    status, answered, body = site.ask(accept_encoding="br, identity;q=0", range="bytes=2-5")
    assert (status, body) == (200, BODIES["br"])
    assert answered["Content-Encoding"] == "br"


def test_a_sibling_older_than_the_file_is_outdated(site: Site) -> None:
    site.write("a.css", b"changed", changed=2e8)
    site.write("a.css.gz", b"changed too", changed=2e8)
    status, answered, body = site.ask(accept_encoding=CHROME)
    assert (status, body, answered["Content-Encoding"]) == (200, b"changed too", "gzip")


def test_siblings_come_and_go(site: Site) -> None:
    assert site.ask(accept_encoding=CHROME)[2] == BODIES["br"]
    (site.folder / "a.css.br").unlink()
    assert site.ask(accept_encoding=CHROME)[2] == BODIES["br"]  # looked at a moment ago
    site.clock.now += 1
    assert site.ask(accept_encoding=CHROME)[2] == BODIES["zstd"]
    for suffix in (".zst", ".gz"):
        (site.folder / f"a.css{suffix}").unlink()
    site.clock.now += 1
    assert site.ask(accept_encoding=CHROME) == site.ask_flask()
    site.write("a.css.br", b"a new one")
    site.clock.now += 1
    assert site.ask(accept_encoding=CHROME)[2] == b"a new one"


def test_a_file_that_is_compressed_already_has_no_siblings(site: Site) -> None:
    for name in ("all.tar.gz", "all.tar.gz.br"):
        site.write(name, name.encode())
    assert site.ask("all.tar.gz", accept_encoding="br") == site.ask_flask("all.tar.gz")


def test_a_head_has_the_headers_of_the_coding(site: Site) -> None:
    status, answered, body = site.ask(method="HEAD", accept_encoding="br")
    assert (status, body) == (200, b"")
    assert answered == site.ask(accept_encoding="br")[1]


def test_a_sibling_that_leads_out_of_the_folder_is_not_followed(
    site: Site, tmp_path_factory: pytest.TempPathFactory
) -> None:
    secret = tmp_path_factory.mktemp("elsewhere") / "secret"
    secret.write_bytes(b"secret")
    (site.folder / "a.css.br").unlink()
    (site.folder / "a.css.br").symlink_to(secret)
    for _ in range(2):
        assert site.ask(accept_encoding="br") == site.ask()
    assert site.cache.stats().served == 4
    assert site.ask()[2] == PLAIN


@pytest.mark.parametrize("size", [300_000, 10])
def test_large_siblings_are_streamed(site: Site, size: int) -> None:
    site.write("big.css", b"x" * 400_000)
    site.write("big.css.br", b"y" * size)
    status, answered, body = site.ask("big.css", accept_encoding="br")
    assert (status, body) == (200, b"y" * size)
    assert answered["Content-Length"] == str(size)
    assert site.ask("big.css")[2] == b"x" * 400_000
