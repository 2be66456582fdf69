"""Files through real servers: each answer whole or visibly not, and nothing is left open."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import partial
from itertools import product
from pathlib import Path
from random import Random
from time import time

import pytest
from raw_client import Answer, Body, Connection, Visitor
from static_crowd import asked_while_written
from static_server import Server, put, serving
from waiting import until

KIB, MIB = 2**10, 2**20
STREAMED = 300 * KIB  # more than is kept in memory
LARGE = 50 * MIB  # several times what the kernel holds for a client that does not read
SIZES = {"0 B": 0, "1 B": 1, "4 KiB": 4 * KIB, "300 KiB": STREAMED, "50 MiB": LARGE}
PART = {"Range": "bytes=1000-"}
# What is asked for, how much of it is read, and whether the client ends as one that died.
WAYS_TO_LEAVE = list(product([{}, PART], [0, 1, 5000], [False, True]))
AGE = 0.1  # seconds; twice as long as a file counts as new
ROUNDS = 300  # enough for what a server does between sending and closing to be met with

Change = Callable[[Server, Path], bytes | None]

whole_or_part = pytest.mark.parametrize("headers", [{}, PART], ids=["whole", "part"])


@pytest.fixture(scope="module", params=["sync", "gthread", "gevent"])
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """One worker to the end; it looks at its files at each request."""
    folder = tmp_path_factory.mktemp(request.param)
    with serving(folder, request.param, {"check_interval": 0}) as server:
        worker = server.worker()
        yield server
        assert server.worker() == worker


def content(size: int, version: int = 0) -> bytes:
    """Bytes like no others of the same version, wherever they are taken from."""
    return Random(version).randbytes(size)


@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
def test_a_file_of_any_size_comes_whole(server: Server, size: int) -> None:
    whole, start, stop = content(size), size // 3, size // 2
    put(server.folder / "file", whole)
    with Visitor(server.port) as visitor:
        first = visitor.ask("/static/file")
        head = visitor.ask("/static/file", "HEAD")
        part = visitor.ask("/static/file", Range=f"bytes={start}-{stop}")
        unchanged = visitor.ask("/static/file", If_None_Match=first.head.headers["etag"])
        again = visitor.ask("/static/file")
        assert visitor.connections == (1 if server.keeps_connections else 5)
    assert [each.head.status for each in (first, head, unchanged, again)] == [200, 200, 304, 200]
    assert first.head.length == head.head.length == again.head.length == size
    assert first.body == again.body == Body.of(whole)
    assert part.is_whole
    assert part.body == Body.of(whole[start : stop + 1])
    if size:  # of nothing there is no part
        assert part.head.status == 206
        assert part.head.headers["content-range"] == f"bytes {start}-{stop}/{size}"
    assert server.open_files() == []


def test_files_do_not_come_from_flask(server: Server) -> None:
    put(server.folder / "kept", content(4 * KIB))
    put(server.folder / "streamed", content(STREAMED))
    with Visitor(server.port) as visitor:
        before = visitor.ask("/served").head.headers["x-served"]
        for headers, name in product([{}, PART, {"If-Match": "*"}], ["kept", "streamed"]):
            visitor.ask(f"/static/{name}", **headers)
        after = visitor.ask("/served").head.headers["x-served"]
    assert int(after) - int(before) == 6


@pytest.mark.parametrize("size", [STREAMED, LARGE], ids=["300 KiB", "50 MiB"])
def test_clients_that_leave_early_leave_nothing_open(server: Server, size: int) -> None:
    whole = content(size)
    put(server.folder / "file", whole)
    for way in WAYS_TO_LEAVE:
        leave(server, *way)  # whatever is opened once and for all is open now
    before, log = server.descriptors_at_rest(), server.log()
    for way in WAYS_TO_LEAVE * 3:
        leave(server, *way)
    with Visitor(server.port) as visitor:
        assert visitor.ask("/static/file").body == Body.of(whole)
    until(lambda: server.descriptors_at_rest() == before, f"{before} descriptors")
    assert server.open_files() == []
    assert server.log() == log, server.log()[-2500:]


def leave(server: Server, headers: dict[str, str], read: int, dies: bool) -> None:
    with Connection(server.port) as connection:
        connection.send("/static/file", **headers)
        if read:
            connection.head()
            connection.body(read)
        if dies:
            connection.reset()


def replace(server: Server, path: Path) -> bytes:
    shorter = content(STREAMED, version=1)
    put(path, shorter)
    return shorter


def remove(server: Server, path: Path) -> None:
    path.unlink()


def append(server: Server, path: Path) -> bytes:
    with path.open("ab") as file:
        file.write(b"more")
    return content(LARGE) + b"more"


@whole_or_part
@pytest.mark.parametrize("change", [replace, remove, append])
def test_an_answer_under_way_is_of_the_version_it_began_with(
    server: Server, change: Change, headers: dict[str, str]
) -> None:
    whole, later = content(LARGE), list[bytes | None]()
    path = put(server.folder / "file", whole)
    with Visitor(server.port) as visitor:
        answer = visitor.ask(
            "/static/file", meanwhile=lambda: later.append(change(server, path)), **headers
        )
        next_one = visitor.ask("/static/file")
        assert visitor.connections == (1 if server.keeps_connections else 2)
    assert answer.is_whole
    assert answer.body == Body.of(whole[1000 if headers else 0 :])
    (expected,) = later
    assert next_one.head.status == (404 if expected is None else 200)
    assert expected is None or next_one.body == Body.of(expected)
    assert server.open_files() == []


@whole_or_part
def test_an_answer_whose_file_is_cut_short_ends_the_connection(
    server: Server, headers: dict[str, str]
) -> None:
    whole, log = content(LARGE), server.log()
    path = put(server.folder / "file", whole)
    answer, has_ended = cut_short(server, path, headers)
    start = 1000 if headers else 0
    assert answer.head.length == LARGE - start
    assert answer.body == Body.of(whole[start : start + answer.body.size])
    assert answer.body.size <= LARGE // 2 - start
    assert has_ended
    until(lambda: server.log() != log, "a word in the log")
    with Visitor(server.port) as visitor:
        assert visitor.ask("/static/file").body == Body.of(whole[: LARGE // 2])
    assert server.open_files() == []


def cut_short(server: Server, path: Path, headers: dict[str, str]) -> tuple[Answer, bool]:
    """What a client gets whose next question waits behind it, and whether that was all."""
    with Connection(server.port) as connection:
        connection.send("/static/file", **headers)
        connection.send("/served", Connection="close")
        head = connection.head()
        os.truncate(path, LARGE // 2)
        return Answer(head, connection.body(head.length)), connection.ends()


@pytest.mark.parametrize("worker_class", ["gthread", "gevent"])
def test_without_the_cache_the_next_answer_runs_on_in_it(
    tmp_path: Path, worker_class: str
) -> None:
    """If this fails, gunicorn has learned to end such a connection, and we need not."""
    with serving(tmp_path, worker_class, None) as server:
        answer, has_ended = cut_short(server, put(server.folder / "file", content(LARGE)), {})
    assert LARGE // 2 < answer.body.size < LARGE // 2 + 1000
    assert has_ended


def test_a_file_cut_short_when_all_of_it_is_sent_ends_nothing(server: Server) -> None:
    whole, log = content(STREAMED), server.log()
    with Visitor(server.port) as visitor:
        for _ in range(ROUNDS):
            path = put(server.folder / "file", whole)
            assert visitor.ask("/static/file").is_whole
            os.truncate(path, 0)
        assert visitor.connections == (1 if server.keeps_connections else ROUNDS)
    assert server.log() == log, server.log()[-2500:]


@pytest.mark.parametrize("size", [1, STREAMED], ids=["1 B", "300 KiB"])
@pytest.mark.parametrize("other", [0, 5 * KIB, STREAMED + 1], ids=["to 0", "to 5", "to 301 KiB"])
def test_the_next_answer_knows_of_a_change(server: Server, size: int, other: int) -> None:
    one, two, three = content(size), content(other, version=1), content(other, version=2)
    path = server.folder / "changing"
    path.unlink(missing_ok=True)
    with Visitor(server.port) as visitor:

        def is_now(expected: bytes) -> bool:
            answer = visitor.ask("/static/changing")
            return answer.head.status == 200 and answer.body == Body.of(expected)

        assert visitor.ask("/static/changing").head.status == 404
        put(path, one)
        assert is_now(one)
        until_old(path)
        assert is_now(one)  # in memory from here on, if it is small
        put(path, two)
        assert is_now(two)
        until_old(path)
        assert is_now(two)
        path.write_bytes(three)
        assert is_now(three)
        until_old(path)
        assert is_now(three)
        path.unlink()
        assert visitor.ask("/static/changing").head.status == 404


def until_old(path: Path) -> None:
    """A file is kept in memory once its time tells it from any later version."""
    until(lambda: time() - path.stat().st_ctime > AGE, "an old file")


@pytest.mark.parametrize("other", [5 * KIB, STREAMED], ids=["4 or 5 KiB", "4 or 300 KiB"])
def test_a_file_replaced_all_the_time_is_always_one_of_both(server: Server, other: int) -> None:
    both = [b"A" * 4 * KIB, b"B" * other]
    answers = asked_while_written(server, partial(put, server.quick / "file"), both)
    assert all(answer.is_whole for answer in answers)
    assert {answer.head.status for answer in answers} == {200}
    assert {answer.body for answer in answers} == set(map(Body.of, both))


def test_a_file_rewritten_all_the_time_is_as_long_as_it_says(server: Server) -> None:
    both = [b"A" * 4 * KIB, b"B" * 5 * KIB]
    answers = asked_while_written(server, (server.quick / "file").write_bytes, both)
    assert all(answer.is_whole for answer in answers)
    assert {answer.head.status for answer in answers} == {200}
