"""What an application installs, and what it is told of it: stats() and explain()."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from flask import Flask, request, session
from flask_login import signals
from shops import (
    LANE,
    Install,
    Shop,
    User,
    as_extension,
    as_factory,
    as_middleware,
    new_shop,
)

from wsgi_usercache import Lane, UserCache, UserCacheMiddleware


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return new_shop(tmp_path)


@pytest.fixture(params=[as_extension, as_factory, as_middleware])
def install(request: pytest.FixtureRequest) -> Install:
    way: Install = request.param
    return way


def test_both_ways_of_installing_do_the_same(shop: Shop, install: Install) -> None:
    cache = install(shop.app, excluded_paths=["/ping"], fresh_paths=["/admin"])
    client = shop.client()
    assert shop.calls(lambda: client.get("/who")) == 1
    assert shop.calls(lambda: [client.get(path) for path in ("/who", "/ping")]) == 0
    assert shop.calls(lambda: client.get("/admin")) == 1
    assert shop.pass_by("/static/a.css") == (b"body {}", {LANE: Lane.SERVE})
    assert [environ[LANE] for environ in shop.environs] == ["cached", "cached", "bypass", "fresh"]
    shop.names["1"] = "eve"
    assert client.get("/who").text == "ann"
    cache.invalidate("1")
    assert client.get("/who").text == "eve"


@pytest.mark.parametrize("again", [as_extension, as_factory, as_middleware])
def test_a_second_installation_is_an_error_and_changes_nothing(
    shop: Shop, install: Install, again: Install
) -> None:
    cache = install(shop.app)
    wsgi_app = shop.app.wsgi_app
    with pytest.raises(RuntimeError, match="already installed"):
        again(shop.app)
    assert shop.app.wsgi_app == wsgi_app
    assert shop.app.extensions["user_cache"] is cache


def test_the_middleware_shows_the_cache_it_is(shop: Shop) -> None:
    middleware = UserCacheMiddleware(shop.app.wsgi_app, shop.app)
    assert middleware.cache.stats() == shop.app.extensions["user_cache"].stats()


def test_a_factory_called_twice_makes_two_apps_that_know_nothing_of_each_other(
    tmp_path: Path,
) -> None:
    cache = UserCache()

    def make() -> Shop:
        shop = new_shop(tmp_path)
        cache.init_app(shop.app)
        return shop

    first, second = make(), make()
    second.names["1"] = "eve"
    clients = first.client(), second.client()
    for _ in range(2):
        assert [client.get("/who").text for client in clients] == ["ann", "eve"]
    assert (first.loads, second.loads) == (["1"], ["1"])


def test_methods_act_on_the_current_app_of_several(tmp_path: Path) -> None:
    cache = UserCache()
    first, second = new_shop(tmp_path), new_shop(tmp_path)
    for shop in (first, second):
        cache.init_app(shop.app)
        shop.client().get("/who")
    first.client("2").get("/who")
    with first.app.app_context():
        assert cache.stats().size == 2
        cache.clear()
        assert cache.stats().size == 0
    with second.app.app_context():
        assert cache.stats().size == 1


def test_without_a_current_app_the_only_one_is_meant(shop: Shop) -> None:
    cache = UserCache(shop.app)
    shop.client().get("/who")
    assert cache.stats().size == 1
    with Flask("other").app_context():
        assert cache.stats().size == 1


@pytest.mark.parametrize("number", [0, 2])
def test_without_a_current_app_and_not_one_of_its_own_there_is_an_error(
    tmp_path: Path, number: int
) -> None:
    cache = UserCache()
    shops = [new_shop(tmp_path) for _ in range(number)]
    for shop in shops:
        cache.init_app(shop.app)
    for act in (
        cache.stats,
        cache.clear,
        cache.changing,
        lambda: cache.invalidate("1"),
        lambda: cache.explain("/"),
    ):
        with pytest.raises(RuntimeError, match=f"serves {number}"):
            act()


def test_disabled_it_passes_everything_through_untouched(shop: Shop, install: Install) -> None:
    sessions, hooks = shop.app.session_interface, str(shop.app.after_request_funcs)
    callback = shop.app.login_manager.user_callback  # type: ignore[attr-defined]
    cache = install(shop.app, enabled=False, excluded_paths=["/ping"])
    client = shop.client()
    assert shop.calls(lambda: [client.get("/who") for _ in range(3)]) == 3
    assert shop.pass_by("/ping") == (b"pong", {})
    assert shop.pass_by("/static/a.css") == (b"body {}", {})
    assert not [key for environ in shop.environs for key in environ if "usercache" in key]
    assert shop.app.session_interface is sessions
    assert str(shop.app.after_request_funcs) == hooks
    assert shop.app.login_manager.user_callback is callback  # type: ignore[attr-defined]
    assert not list(signals.user_logged_in.receivers_for(shop.app))
    cache.invalidate("1")
    cache.clear()
    with cache.changing("1"):
        pass
    assert (cache.stats().hits, cache.stats().loads, cache.stats().size) == (0, 0, 0)
    assert "USERCACHE_ENABLED" in cache.explain("/static/a.css").reason


def test_an_app_without_a_login_manager_has_the_file_lanes(tmp_path: Path) -> None:
    (tmp_path / "a.css").write_text("body {}")
    app = Flask("files", static_folder=str(tmp_path), static_url_path="/static")
    app.secret_key = "key"

    @app.get("/count")
    def count() -> str:
        session["count"] = session.get("count", 0) + 1
        return str(session["count"])

    @app.get("/ping")
    def ping() -> str:
        return "pong"

    cache = as_extension(app, excluded_paths=["/ping"])
    client = app.test_client()
    assert [client.get("/count").text for _ in range(3)] == ["1", "2", "3"]
    assert client.get("/static/a.css").data == b"body {}"
    answer = client.get("/ping")
    assert "Vary" not in answer.headers
    assert "Set-Cookie" not in answer.headers
    assert (cache.stats().served, cache.stats().bypassed) == (1, 1)
    cache.invalidate("1", User("1", "ann"))


def test_stats_are_frozen_and_say_what_was_done(shop: Shop) -> None:
    cache = UserCache(shop.app, excluded_paths=["/ping"])
    changes = cache.stats().invalidations
    client = shop.client()
    for path in ("/who", "/who", "/who", "/ping", "/static/a.css", "/static/a.css"):
        client.get(path)
    cache.invalidate("1")
    client.get("/who")
    stats = cache.stats()
    assert dataclasses.asdict(dataclasses.replace(stats, unstored={}, lazy_loads={}, backend={}))
    assert (stats.hits, stats.misses, stats.loads, stats.stale) == (2, 2, 2, 1)
    assert (stats.served, stats.bypassed, stats.waits, stats.size) == (2, 1, 0, 1)
    assert stats.invalidations == changes + 1
    assert stats.unstored == stats.lazy_loads == {}
    assert all(type(number) is int for number in stats.backend.values())
    with pytest.raises(dataclasses.FrozenInstanceError):
        stats.hits = 0  # type: ignore[misc]
    for mapping in (stats.unstored, stats.lazy_loads, stats.backend):
        with pytest.raises(TypeError):
            mapping["more"] = 1  # type: ignore[index]


def test_stats_keep_what_they_said(shop: Shop) -> None:
    cache = UserCache(shop.app)
    before = cache.stats()
    shop.client().get("/who")
    assert (before.loads, cache.stats().loads) == (0, 1)


def test_stats_count_why_answers_were_not_remembered(shop: Shop) -> None:
    cache = UserCache(shop.app)
    shop.during_load = lambda: request.headers.get("X-Tenant")
    client = shop.client()
    assert shop.calls(lambda: [client.get("/who") for _ in range(3)]) == 3
    assert cache.stats().unstored == {"reads the request": 3}
    assert cache.stats().size == 0


# ---- explaining


@pytest.mark.parametrize(
    ("path", "method", "lane", "words"),
    [
        ("/static/a.css", "GET", "serve", "/static/<path:filename>"),
        ("/static/a.css", "head", "serve", "/static/<path:filename>"),
        ("/static/a.css", "POST", "bypass", "POST"),
        ("/ping", "GET", "bypass", "excluded_paths has '/ping'"),
        ("/img/ä/b", "GET", "bypass", "excluded_paths has '/img/ä/*'"),
        ("/admin", "DELETE", "fresh", "fresh_paths has '/admin'"),
        ("/who", "GET", "cached", "no pattern"),
        ("/nowhere", "GET", "cached", "no pattern"),
    ],
)
def test_explain_names_the_lane_and_the_rule(
    shop: Shop, path: str, method: str, lane: str, words: str
) -> None:
    cache = UserCache(shop.app, excluded_paths=["/ping", "/img/ä/*"], fresh_paths=["/admin"])
    for _ in range(2):  # before and after the first request
        explained = cache.explain(path, method)
        assert explained.lane == lane
        assert words in explained.reason
        shop.client(None).get("/ping")
    with pytest.raises(dataclasses.FrozenInstanceError):
        explained.lane = Lane.FRESH  # type: ignore[misc]


def test_explain_says_what_happens(shop: Shop) -> None:
    cache = UserCache(shop.app, excluded_paths=["/ping"], fresh_paths=["/admin"])
    for path in ("/static/a.css", "/ping", "/admin", "/who", "/nowhere"):
        assert cache.explain(path).lane == shop.pass_by(path)[1][LANE]


def test_explain_asks_the_url_map_of_the_host(tmp_path: Path) -> None:
    app = Flask(
        "hosts", host_matching=True, static_host="cdn.example", static_folder=str(tmp_path)
    )
    cache = UserCache(app)
    path = f"/{tmp_path.name}/a.css"
    assert cache.explain(path, host="cdn.example").lane == "serve"
    assert cache.explain(path, host="cdn.example:80").lane == "serve"
    assert cache.explain(path, host="www.example").lane == "cached"
    assert cache.explain(path).lane == "cached"


def test_explain_says_that_the_cache_is_off(shop: Shop) -> None:
    cache = UserCache(shop.app, enabled=False, excluded_paths=["/ping"])
    for path in ("/ping", "/who", "/static/a.css"):
        assert cache.explain(path).reason == "the cache is off: USERCACHE_ENABLED is False"
