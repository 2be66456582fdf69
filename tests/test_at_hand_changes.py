"""What happens between two requests for a file, and while it is found, counts for the next."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from flask import request_started
from test_at_hand import Site, ready, write

from wsgi_usercache.at_hand import AtHand, put


@pytest.fixture
def site(tmp_path: Path) -> Site:
    write(tmp_path / "a.css", b"a")
    return Site(tmp_path)


def test_what_is_at_hand_lives_no_longer_than_what_it_rests_on(tmp_path: Path) -> None:
    site = Site(tmp_path, check_interval=0.5, precompressed=True)
    for name in ("a.css", "a.css.br"):
        write(tmp_path / name, name.encode())
    brotli = {"HTTP_ACCEPT_ENCODING": "br"}
    site.ask("/")
    assert site.ask("/static/a.css.br") == (200, b"a.css.br")
    site.clock.now += 0.4
    assert site.ask(**brotli) == (200, b"a.css.br")
    (tmp_path / "a.css.br").unlink()
    site.clock.now += 0.11  # the sibling was last looked at half a second ago
    assert site.ask(**brotli) == (200, b"a.css")


def test_a_hook_put_in_by_hand_is_seen_within_a_second(tmp_path: Path) -> None:
    write(tmp_path / "a.css", b"a")
    site = Site(tmp_path)
    site.ask("/")
    site.ask("/static/b.css")  # the app is looked at here
    site.clock.now += 0.4
    assert site.ask() == (200, b"a")
    site.app.before_request_funcs[None].append(lambda: ("not for you", 403))
    site.clock.now += 0.61
    assert site.ask() == (403, b"not for you")


def test_what_was_found_out_before_a_change_is_not_at_hand_after_it() -> None:
    at_hand = AtHand()
    before = at_hand.table
    at_hand.clear()
    put(before, {"PATH_INFO": "/"}, ready(b"old"), ())
    assert at_hand.table.get("/") is None


@contextmanager
def meanwhile(monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]) -> Iterator[None]:
    """Act once, in the middle of the next request: when it looks at its file."""
    plain, acts = os.stat, [act]

    def stat(*args: Any, **options: Any) -> os.stat_result:
        if acts:
            acts.pop()()
        return plain(*args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(os, "stat", stat)
        yield
    assert not acts


def test_a_listener_that_comes_while_a_file_is_found_hears_of_the_next(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard = []

    def listener(*_: Any, **__: Any) -> None:
        heard.append(True)

    site.ask("/")
    with meanwhile(monkeypatch, lambda: request_started.connect(listener, site.app)):
        assert site.ask() == (200, b"a")
    assert not heard
    assert site.ask() == (200, b"a")
    assert heard == [True]
    request_started.disconnect(listener, site.app)


def test_a_hook_that_comes_while_a_file_is_found_sees_the_next(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    with meanwhile(monkeypatch, lambda: site.app.before_request(lambda: ("not for you", 403))):
        assert site.ask() == (200, b"a")
    assert site.ask() == (403, b"not for you")


def test_a_child_counts_for_itself(site: Site) -> None:
    """After a fork what was at hand may still be used; the figures are the child's own."""
    site.ask("/")
    for _ in range(3):
        site.ask()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        answers = [site.ask()]
        site.clock.now += 1
        answers += [site.ask(), site.ask()]
        right = answers == [(200, b"a")] * 3 and 2 <= site.cache.stats().served <= 3
        os.write(writing, b"right" if right else b"wrong")
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as answer:
        assert answer.read() == b"right"
    assert os.waitpid(child, 0)[1] == 0
    assert site.cache.stats().served == 3
