"""Many clients ask for a file that somebody keeps writing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import cycle
from threading import Event
from time import monotonic

from raw_client import PATIENCE, Answer, Visitor
from static_server import Server

ASKS, CROWD = 1000, 4


def asked_while_written(
    server: Server, write: Callable[[bytes], object], contents: list[bytes]
) -> list[Answer]:
    """What a crowd gets of `/quick/file` while one of *contents* follows the other there."""
    write(contents[0])
    with _written(write, contents), ThreadPoolExecutor(CROWD) as crowd:
        visits = [crowd.submit(_visit, server) for _ in range(CROWD)]
        return [answer for each in visits for answer in each.result()]


def _visit(server: Server) -> list[Answer]:
    """So many answers, and more if the writer is slow: two of them differ."""
    with Visitor(server.port) as visitor:
        answers = [visitor.ask("/quick/file") for _ in range(ASKS // CROWD)]
        deadline = monotonic() + PATIENCE
        while len({each.body for each in answers}) < 2:
            assert monotonic() < deadline, "the file does not change"
            answers.append(visitor.ask("/quick/file"))
    return answers


@contextmanager
def _written(write: Callable[[bytes], object], contents: list[bytes]) -> Iterator[None]:
    is_over, turns = Event(), cycle(contents)

    def go_on() -> None:
        while not is_over.is_set():
            write(next(turns))

    with ThreadPoolExecutor(1) as pool:
        writer = pool.submit(go_on)
        try:
            yield
        finally:
            is_over.set()
        writer.result()
