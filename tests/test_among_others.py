"""The cache among other WSGI applications, threads and processes."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from flask import request
from flask_login import current_user, login_user
from forking import in_child
from shops import (
    LANE,
    PATIENCE,
    USER_ID,
    Install,
    Shop,
    User,
    as_extension,
    as_factory,
    as_middleware,
    new_shop,
)
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.middleware.lint import LintMiddleware
from werkzeug.test import Client

from wsgi_usercache import Lane, UserCache
from wsgi_usercache.app_cache import Clocks


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return new_shop(tmp_path)


@pytest.fixture(params=[as_extension, as_factory, as_middleware])
def install(request: pytest.FixtureRequest) -> Install:
    way: Install = request.param
    return way


def lint(app: Any) -> Any:
    return LintMiddleware(app)


def quietly_read(client: Client, path: str, **how: Any) -> tuple[int, bytes]:
    answer = client.open(path, buffered=True, **how)
    return answer.status_code, answer.get_data()


@pytest.mark.parametrize("static", ["auto", "serve", "bypass", "off"])
@pytest.mark.parametrize("inside", [False, True], ids=["outside", "both sides"])
def test_the_linter_flags_nothing(shop: Shop, install: Install, static: str, inside: bool) -> None:
    if inside:
        shop.app.wsgi_app = lint(shop.app.wsgi_app)  # type: ignore[method-assign]
    install(shop.app, static=static, excluded_paths=["/ping"], fresh_paths=["/admin"])
    client = Client(lint(shop.app))
    assert quietly_read(client, "/login/1") == (200, b"in")
    for _ in range(2):
        assert quietly_read(client, "/who") == (200, b"ann")
        assert quietly_read(client, "/admin") == (200, b"ann")
        assert quietly_read(client, "/ping") == (200, b"pong")
        assert quietly_read(client, "/static/a.css") == (200, b"body {}")
        assert quietly_read(client, "/static/none.css")[0] == 404
        assert quietly_read(client, "/static/a.css", method="POST")[0] == 405
        assert quietly_read(client, "/who", method="OPTIONS")[0] == 200


def test_apps_side_by_side_under_one_dispatcher_keep_apart(tmp_path: Path) -> None:
    first, second = new_shop(tmp_path, "first"), new_shop(tmp_path, "second")
    second.names["1"] = "eve"
    second.app.config["SESSION_COOKIE_PATH"] = "/second"
    UserCache(first.app, excluded_paths=["/ping"])
    UserCache(second.app, fresh_paths=["/admin"])
    client = Client(DispatcherMiddleware(first.app, {"/second": second.app}))
    client.get("/login/1")
    client.get("/second/login/1")
    for _ in range(2):
        assert client.get("/who").text == "ann"
        assert client.get("/second/who").text == "eve"
    assert client.get("/second/static/a.css").data == b"body {}"
    assert (first.loads, second.loads) == (["1"], ["1"])
    client.get("/second/admin")
    assert second.environs[-1][LANE] == Lane.FRESH
    client.get("/second/ping")
    assert second.environs[-1][LANE] == Lane.CACHED
    client.get("/ping")
    assert first.environs[-1][LANE] == Lane.BYPASS


def test_an_app_asked_by_another_with_its_own_environ_is_cached_by_itself(tmp_path: Path) -> None:
    outer, inner = new_shop(tmp_path, "outer"), new_shop(tmp_path, "inner")
    inner.names = {"1": "eve", "2": "max"}
    for shop in (outer, inner):
        UserCache(shop.app)

    def ask_inner() -> str:
        before = current_user.name
        answer = inner.app.wsgi_app(request.environ, lambda *_: None)
        during = b"".join(answer).decode()
        login_user(User("2", "bob"))
        return f"{before} {during} {current_user.name} {request.environ[USER_ID]}"

    outer.app.view_functions["who"] = ask_inner
    client = outer.client()
    assert client.get("/who").text == "ann eve bob 2"
    assert client.get("/who").text == "bob max bob 2"
    assert outer.client().get("/who").text == "ann eve bob 2"
    assert outer.client().get("/admin").text == "ann"
    assert (outer.loads, inner.loads) == (["1", "2"], ["1", "2"])


# ---- threads and processes


class MeetingClocks:
    """Clocks that two threads are handed only together."""

    steady = staticmethod(lambda: 1000.0)

    def __init__(self) -> None:
        self.met = threading.Barrier(2)

    @property
    def wall(self) -> Any:
        with suppress(threading.BrokenBarrierError):
            self.met.wait(0.5)
        return time.time


def test_the_rooms_of_a_process_are_made_once_though_two_begin_to(shop: Shop) -> None:
    class MeetingCache(UserCache):
        clocks = MeetingClocks()  # type: ignore[assignment]

    cache = MeetingCache(shop.app)
    ask = partial(shop.pass_by, "/static/a.css")
    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert cache.stats().served == 2


def test_a_child_forked_after_the_first_use_answers_rightly(shop: Shop) -> None:
    cache = UserCache(shop.app)
    client = shop.client()
    client.get("/who")
    loading, go_on = threading.Event(), threading.Event()

    def hang() -> None:
        loading.set()
        go_on.wait(PATIENCE)

    shop.during_load = hang
    cache.invalidate("1")
    cookie = client.get_cookie("session")
    assert cookie is not None

    def ask_elsewhere() -> None:
        mine = shop.app.test_client()
        mine.set_cookie("session", cookie.value)
        mine.get("/who")

    other = threading.Thread(target=ask_elsewhere)
    other.start()
    assert loading.wait(PATIENCE)  # a load of this very user is under way while we fork

    def child() -> object:
        shop.during_load = lambda: None
        shop.names["1"] = "eve"
        said = [client.get("/who").text]
        loads = [shop.calls(lambda: client.get("/who"))]
        cache.invalidate("1")
        loads.append(shop.calls(lambda: client.get("/who")))
        cache.clear()
        loads.append(shop.calls(lambda: client.get("/who")))
        loads.append(shop.calls(lambda: client.get("/static/a.css")))
        return said, loads, cache.stats().hits

    try:
        assert in_child(child) == "(['eve'], [0, 1, 1, 0], 1)"
    finally:
        go_on.set()
        other.join(PATIENCE)
    shop.during_load = lambda: None
    assert client.get("/who").text == "ann"


def test_clear_is_no_trap_in_a_child_that_used_nothing_yet(shop: Shop) -> None:
    # Another thread holds a lock while this one forks, for it looks at the clock under it.
    looking, look_away = threading.Event(), threading.Event()
    look_away.set()

    def steady() -> float:
        looking.set()
        look_away.wait(PATIENCE)
        return 1000.0

    class ClockedCache(UserCache):
        clocks = Clocks(steady=steady)

    cache = ClockedCache(shop.app)
    client = shop.client()
    client.get("/who")
    looking.clear()
    look_away.clear()
    other = threading.Thread(target=lambda: cache.stats().size)
    other.start()
    assert looking.wait(PATIENCE)

    def child() -> object:
        cache.clear()
        look_away.set()
        return shop.calls(lambda: client.get("/who"))

    try:
        assert in_child(child) == "1"
    finally:
        look_away.set()
        other.join(PATIENCE)


INSTALLING = """
import os, sys, threading
from flask import Flask, request
from flask_login import LoginManager
def opened(): return sorted(os.listdir("/proc/self/fd"))
app = Flask("app")
LoginManager(app)
before = opened()
from wsgi_usercache import UserCache
cache = UserCache(app, excluded_paths=["/a/*"])
cache.explain("/a/b")
print(opened() == before, threading.active_count())
print([name for name in ("sqlalchemy", "flask_principal", "redis") if name in sys.modules])
"""


def test_nothing_is_opened_started_or_imported_by_installing() -> None:
    run = subprocess.run(
        [sys.executable, "-c", INSTALLING], capture_output=True, text=True, check=True
    )
    assert run.stdout.splitlines() == ["True 1", "[]"]
