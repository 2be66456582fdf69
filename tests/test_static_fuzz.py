"""Any path and any header: a file of the folder or Flask's own answer, and never an error."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from static_answers import Answer, Sites, behind, intended, same, without_range
from static_corpus import (
    CONDITIONS,
    DATES,
    FILES,
    IF_RANGES,
    INDIFFERENT,
    MTIME,
    MULTIPLE,
    NOWHERE,
    RANGES,
    SECRET,
    STATIC,
    TAGS,
    Request,
    build,
    canonical,
)
from werkzeug.http import http_date

from wsgi_usercache import Lane

runs = pytest.mark.parametrize(
    "runs",
    [
        pytest.param(150, id="bounded"),
        pytest.param(100_000, id="soak", marks=pytest.mark.soak),
    ],
)

latin_1 = st.text(st.characters(max_codepoint=255), max_size=20)
pieces = st.sampled_from(
    [
        *("..", ".", "/", "//", "%2e", "%2f", "%5c", "\\", "\0", "\n", "C:", "~", "\xff", "x/../"),
        *("static", "app", "secret", "beside", "out", "outside.css", "deep", "er", "a.css"),
        *("\xef\xbf\xbd", "\xc0\xaf", "na\xc3\xafve"),
    ]
)
paths = st.lists(pieces | latin_1, max_size=12).map("".join) | st.sampled_from(NOWHERE)
prefixes = st.sampled_from(["/static/"] * 4 + ["/static", "//static/", "", "/reports/files/"])

numbers = st.none() | st.integers(0, 30) | st.integers(307_190, 307_210) | st.integers(0, 10**40)
spaces = st.sampled_from(["", "", "", " ", "\t"])
spans = st.builds(
    lambda a, s, b: f"{s}{'' if a is None else a}-{'' if b is None else b}{s}",
    numbers,
    spaces,
    numbers,
)
ranges = st.builds(
    lambda unit, each: f"{unit}={','.join(each)}",
    st.sampled_from(["bytes"] * 5 + ["Bytes", " bytes ", "lines", ""]),
    st.lists(spans, max_size=3),
)
dates = st.sampled_from(DATES) | st.datetimes().map(http_date)
tags = st.lists(st.sampled_from(TAGS) | latin_1, max_size=3).map(", ".join)
codings = st.sampled_from(["br", "gzip", "zstd", "identity", "*", "x-gzip", "GZIP", "deflate"])
qualities = st.sampled_from(["", ";q=0", ";q=1", ";q=0.5", ";q=0.001", "; q=0", ";q=x", ";q=-1"])
accepted = st.lists(st.tuples(codings, qualities).map("".join), max_size=5).map(", ".join)


def any_of(structured: st.SearchStrategy[str], known: list[str]) -> st.SearchStrategy[str]:
    return structured | st.sampled_from(known) | latin_1


def known(header: str) -> list[str]:
    return [value for name, value in CONDITIONS + INDIFFERENT if name == header]


headers = st.fixed_dictionaries(
    {},
    optional={
        "Range": any_of(ranges, RANGES + MULTIPLE),
        "If-Range": any_of(tags | dates, IF_RANGES),
        "If-None-Match": any_of(tags, known("If-None-Match")),
        "If-Match": any_of(tags, known("If-Match")),
        "If-Modified-Since": any_of(dates, known("If-Modified-Since")),
        "If-Unmodified-Since": any_of(dates, known("If-Unmodified-Since")),
        "Accept-Encoding": any_of(accepted, known("Accept-Encoding")),
    },
).map(lambda chosen: tuple(chosen.items()))
methods = st.sampled_from(["GET", "GET", "HEAD"])


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("site")
    build(root)
    return root


def check(test: Any, runs: int) -> None:
    settings(max_examples=runs, deadline=None, suppress_health_check=list(HealthCheck))(test)()


@runs
def test_no_path_leaves_the_folder_or_is_answered_otherwise(root: Path, runs: int) -> None:
    flask_alone, front = Sites(root), Sites(root, behind)

    @given(prefixes, paths, methods)
    def property_(prefix: str, path: str, method: str) -> None:
        request = Request(STATIC, "a.css", method, prefix + path)
        answer = front.ask(request)
        assert SECRET not in answer.body
        assert answer.code < 500
        assert same(answer, flask_alone.ask(request))

    check(property_, runs)


@runs
def test_no_header_is_an_error_or_is_answered_otherwise(root: Path, runs: int) -> None:
    flask_alone = Sites(root)
    front = Sites(root, behind, etags=flask_alone.etag)

    @given(st.sampled_from(["a.css", "big.bin", "empty.txt", "missing.css"]), methods, headers)
    def property_(name: str, method: str, headers: Any) -> None:
        request = Request(STATIC, name, method, canonical(STATIC, name), headers)
        answer = front.ask(request)
        assert (answer.lane is Lane.SERVE) is (name != "missing.css")
        meant = answer.lane is Lane.SERVE and intended(request) is not None
        assert answer.code < 500
        assert same(answer, flask_alone.ask(without_range(request) if meant else request))

    check(property_, runs)


@runs
def test_a_range_is_a_slice(root: Path, runs: int) -> None:
    front = Sites(root, behind)

    @given(st.sampled_from(["a.css", "big.bin", "one.txt"]), numbers, numbers)
    def property_(name: str, first: int | None, last: int | None) -> None:
        value = f"bytes={'' if first is None else first}-{'' if last is None else last}"
        request = Request(STATIC, name, "GET", canonical(STATIC, name), (("Range", value),))
        answer, whole = front.ask(request), FILES[name]
        part = slice_of(whole, first, last)
        if part is None:
            assert (answer.code, answer.has("Content-Range")) == (416, f"bytes */{len(whole)}")
            return
        said = f"bytes {part.start}-{part.stop - 1}/{len(whole)}"
        assert (answer.code, answer.has("Content-Range")) == (206, said)
        assert answer.body == whole[part]
        assert answer.has("Content-Length") == str(len(answer.body))

    check(property_, runs)


def slice_of(whole: bytes, first: int | None, last: int | None) -> slice | None:
    """Return what a range names, None if that can not be had."""
    size = len(whole)
    if first is None:
        # Of a suffix longer than the file RFC 9110 §14.1.2 has the whole file; Werkzeug has 416.
        return slice(size - last, size) if last is not None and 0 < last <= size else None
    if first >= size or (last is not None and last < first):
        return None
    return slice(first, size if last is None else min(last + 1, size))


PLAIN = {"a.css": b"a{}" * 99, "page.html": b"<p>" * 99, "alone.js": b"1;" * 99}
SIBLINGS = {
    ("a.css", "br"): b"not really Brotli",
    ("a.css", "zstd"): b"nor Zstandard",
    ("a.css", "gzip"): b"gzip neither",
    ("page.html", "gzip"): b"the page as gzip",
}
SUFFIXES = {"br": ".br", "zstd": ".zst", "gzip": ".gz"}


@runs
def test_a_precompressed_answer_is_the_file_whose_coding_it_names(
    tmp_path: Path, runs: int
) -> None:
    (tmp_path / "app").mkdir()
    siblings = {name + SUFFIXES[coding]: body for (name, coding), body in SIBLINGS.items()}
    for name, content in {**PLAIN, **siblings}.items():
        (tmp_path / "app" / name).write_bytes(content)
        os.utime(tmp_path / "app" / name, (MTIME, MTIME))
    front = Sites(tmp_path, lambda app: behind(app, precompressed=True))

    @given(st.sampled_from([*PLAIN]), methods, headers)
    def property_(name: str, method: str, headers: Any) -> None:
        request = Request(STATIC, name, method, canonical(STATIC, name), headers)
        answer = front.ask(request)
        assert answer.code < 500
        if answer.code in (200, 206):
            is_of_the_coding_it_names(request, answer)

    check(property_, runs)


def is_of_the_coding_it_names(request: Request, answer: Answer) -> None:
    coding = answer.has("Content-Encoding")
    said = (request.has("Accept-Encoding") or "").lower()
    assert coding is None or coding in said or "*" in said
    key = request.name, coding
    whole = PLAIN[request.name] if coding is None else SIBLINGS[key]
    if answer.code == 206:
        span = (answer.has("Content-Range") or "").removeprefix("bytes ").partition("/")[0]
        first, _, last = span.partition("-")
        whole = whole[int(first) : int(last) + 1]
    assert answer.has("Content-Length") == str(len(whole))
    assert answer.body == (b"" if request.method == "HEAD" else whole)
