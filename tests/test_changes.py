"""Telling the cache of a change: the very next request sees it."""

from __future__ import annotations

import threading
import uuid
from pathlib import Path
from typing import Any

import pytest
from flask import Flask, session
from flask_login import AnonymousUserMixin, UserMixin, current_user, login_user
from shops import (
    LANE,
    PATIENCE,
    USER_ID,
    Shop,
    User,
    new_shop,
)

from wsgi_usercache import Lane, UserCache


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return new_shop(tmp_path)


class Id:
    def __init__(self, id: str) -> None:
        self.id = id

    def __str__(self) -> str:
        return self.id


class IntId(UserMixin):
    def __init__(self, id: int) -> None:
        self.id = id


@pytest.mark.parametrize("told", ["1", 1, Id("1"), User("1", "any"), IntId(1)])
def test_a_user_can_be_named_by_id_or_object(shop: Shop, told: object) -> None:
    cache = UserCache(shop.app)
    clients = shop.client("1"), shop.client("2")
    for client in clients:
        client.get("/who")
    cache.invalidate(told)
    assert [shop.calls(lambda c=client: c.get("/who")) for client in clients] == [1, 0]


def test_a_uuid_is_an_id(shop: Shop) -> None:
    key = uuid.uuid4()
    shop.names[str(key)] = "una"
    cache = UserCache(shop.app)
    client = shop.client(str(key))
    client.get("/who")
    cache.invalidate(key)
    assert shop.calls(lambda: client.get("/who")) == 1


def test_the_current_user_can_be_named(shop: Shop) -> None:
    cache = UserCache(shop.app)
    shop.app.add_url_rule("/me", "me", lambda: cache.invalidate(current_user) or "told")
    client = shop.client()
    client.get("/who")
    client.get("/me")
    assert shop.calls(lambda: client.get("/who")) == 1


def test_several_can_be_named_at_once_and_an_unknown_id_is_fine(shop: Shop) -> None:
    cache = UserCache(shop.app)
    clients = shop.client("1"), shop.client("2")
    for client in clients:
        client.get("/who")
    cache.invalidate("nobody")
    assert shop.calls(lambda: [client.get("/who") for client in clients]) == 0
    cache.invalidate("1", "nobody", User("2", "bob"))
    assert shop.calls(lambda: [client.get("/who") for client in clients]) == 2


@pytest.mark.parametrize("told", [(None,), (AnonymousUserMixin(),), ("1", None), ()])
def test_who_can_not_have_changed_is_an_error_and_changes_nothing(
    shop: Shop, told: tuple[Any, ...]
) -> None:
    cache = UserCache(shop.app)
    client = shop.client()
    client.get("/who")
    before = cache.stats().invalidations
    with pytest.raises(ValueError):
        cache.invalidate(*told)
    assert cache.stats().invalidations == before
    assert shop.calls(lambda: client.get("/who")) == 0


def test_an_anonymous_current_user_can_not_have_changed(shop: Shop) -> None:
    cache = UserCache(shop.app)
    with shop.app.test_request_context(), pytest.raises(ValueError, match="anonymous"):
        cache.invalidate(current_user)
    for nobody in (None, AnonymousUserMixin()):
        with pytest.raises(ValueError), cache.changing(nobody):
            pytest.fail("the block must not run")


def test_the_id_is_the_one_the_login_manager_asks_for(shop: Shop) -> None:
    class Ticketed(User):
        def get_ticket(self) -> str:
            return "t1"

    shop.app.login_manager.id_attribute = "get_ticket"  # type: ignore[attr-defined]
    cache = UserCache(shop.app)
    shop.names["t1"] = "tim"
    client = shop.client(None)
    with client.session_transaction() as kept:
        kept["_user_id"] = "t1"
    client.get("/who")
    cache.invalidate(Ticketed("1", "tim"))
    assert shop.calls(lambda: client.get("/who")) == 1


def test_a_new_user_is_seen_though_the_id_belonged_to_nobody(shop: Shop) -> None:
    cache = UserCache(shop.app)
    client = shop.client()
    del shop.names["1"]
    assert [client.get("/who").text for _ in range(2)] == ["nobody", "nobody"]
    client = shop.client("2")
    shop.names.pop("2")
    cache.invalidate("2")
    assert client.get("/who").text == "nobody"


@pytest.mark.parametrize("named", [("1",), ()], ids=["one", "everybody"])
def test_while_a_change_is_fenced_nobody_is_answered_from_memory(
    shop: Shop, named: tuple[str, ...]
) -> None:
    cache = UserCache(shop.app)
    clients = shop.client("1"), shop.client("2")
    for client in clients:
        client.get("/who")
    with cache.changing(*named):
        expected = [2, 0 if named else 2]
        for client, loads in zip(clients, expected, strict=True):
            assert shop.calls(lambda c=client: [c.get("/who") for _ in range(2)]) == loads
        shop.names["1"] = "eve"
    assert clients[0].get("/who").text == "eve"
    assert shop.calls(lambda: clients[0].get("/who")) == 0


def test_a_fence_that_ends_in_an_exception_counts_as_a_change(shop: Shop) -> None:
    cache = UserCache(shop.app)
    client = shop.client()
    client.get("/who")

    def fail() -> None:
        with cache.changing("1"):
            shop.names["1"] = "eve"  # nobody knows how far the change came
            raise LookupError

    with pytest.raises(LookupError):
        fail()
    assert client.get("/who").text == "eve"


def test_what_was_loaded_before_the_fence_ended_is_never_used_after_it(shop: Shop) -> None:
    cache = UserCache(shop.app)
    client = shop.client()
    fences = []

    def during() -> None:
        shop.during_load = lambda: None
        fence = cache.changing("1")
        fence.__enter__()
        fences.append(fence)

    shop.during_load = during
    assert client.get("/who").text == "ann"
    shop.names["1"] = "eve"
    fences[0].__exit__(None, None, None)
    assert client.get("/who").text == "eve"


def test_clear_has_everybody_loaded_again_also_who_is_being_loaded(shop: Shop) -> None:
    cache = UserCache(shop.app)
    clients = shop.client("1"), shop.client("2")
    clients[0].get("/who")

    def during() -> None:
        cache.clear()
        shop.names["2"] = "eve"

    shop.during_load = during
    assert clients[1].get("/who").text == "bob"
    shop.during_load = lambda: None
    assert cache.stats().size == 0
    assert shop.calls(lambda: clients[0].get("/who")) == 1
    assert clients[1].get("/who").text == "eve"


def test_a_change_made_through_one_app_is_seen_by_another_with_the_same_users(
    tmp_path: Path,
) -> None:
    first, second = new_shop(tmp_path), new_shop(tmp_path)
    caches = [UserCache(shop.app) for shop in (first, second)]
    client = second.client()
    client.get("/who")
    second.names["1"] = "eve"
    caches[0].invalidate("1")
    assert client.get("/who").text == "eve"
    caches[0].clear()
    assert second.calls(lambda: client.get("/who")) == 1


def test_fresh_paths_always_load_and_fill(shop: Shop) -> None:
    UserCache(shop.app, fresh_paths=["/admin"])
    client = shop.client()
    assert shop.calls(lambda: client.get("/admin")) == 1
    assert shop.calls(lambda: client.get("/who")) == 0
    shop.names["1"] = "eve"
    assert client.get("/admin").text == "eve"
    assert client.get("/who").text == "eve"
    assert len(shop.loads) == 2


def test_the_lane_and_the_user_are_in_the_environ_and_nobody_else_can_put_them_there(
    shop: Shop,
) -> None:
    UserCache(shop.app, excluded_paths=["/ping"])
    client = shop.client()
    forged = {LANE: "serve", USER_ID: "2"}
    client.get("/ping", environ_overrides=forged)
    client.get("/who", environ_overrides=forged)
    bypassed, cached = shop.environs
    assert (bypassed[LANE], bypassed.get(USER_ID)) == (Lane.BYPASS, None)
    assert (cached[LANE], cached[USER_ID]) == (Lane.CACHED, "1")


def test_cold_threads_coming_together_load_a_user_once(shop: Shop) -> None:
    arrived, let_go = threading.Semaphore(0), threading.Event()
    shop.during_load = lambda: let_go.wait(PATIENCE)
    shop.app.before_request(lambda: arrived.release())
    with shop.app.test_request_context():
        login_user(User("1", "ann"))
        cookie = session_cookie(shop.app)
    UserCache(shop.app)
    start = threading.Barrier(16)

    def ask() -> None:
        client = shop.app.test_client()
        client.set_cookie("session", cookie)
        start.wait(PATIENCE)
        client.get("/who")

    threads = [threading.Thread(target=ask) for _ in range(16)]
    for thread in threads:
        thread.start()
    assert all(arrived.acquire(timeout=PATIENCE) for _ in threads)
    let_go.set()
    for thread in threads:
        thread.join(PATIENCE)
    assert shop.loads == ["1"]


def session_cookie(app: Flask) -> str:
    """What the browser would be given for the session of this request."""
    serializer = app.session_interface.get_signing_serializer(app)  # type: ignore[attr-defined]
    value: str = serializer.dumps(dict(session))
    return value
