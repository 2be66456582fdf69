"""A user of the request's own, in every kind of request there is."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from flask import copy_current_request_context, request, session, stream_with_context
from flask_login import current_user
from sites import Site, User
from werkzeug.local import LocalProxy

Make = Callable[..., Site]


def keeping(site: Site) -> list[Any]:
    """The user objects that `/keep` has seen; it also marks them."""
    kept: list[Any] = []

    @site.app.get("/keep")
    def keep() -> dict[str, Any]:
        user = current_user._get_current_object()
        kept.append(user)
        before = [*user.roles, user.name]
        user.roles.append("marked")
        user.name = "marked"
        return {"before": before}

    return kept


def test_each_request_has_a_user_of_its_own(site: Site) -> None:
    kept = keeping(site)
    client = site.client("1")
    answers = [client.get("/keep").json["before"] for _ in range(4)]
    assert answers == [["admin", "ann"]] * 4
    assert len({id(user) for user in kept}) == 4
    assert len({id(user.roles) for user in kept}) == 4
    assert site.loads == ["1", "1"]


def test_threads_that_wait_for_one_load_share_no_user(site: Site) -> None:
    kept = keeping(site)
    loading, go = threading.Event(), threading.Event()
    load = site.load

    @site.manager.user_loader
    def slow(user_id: str) -> User | None:
        loading.set()
        assert go.wait(5)
        return load(user_id)

    clients = [site.client("1") for _ in range(4)]
    site.loads.clear()
    threads = [threading.Thread(target=client.get, args=("/keep",)) for client in clients]
    threads[0].start()
    assert loading.wait(5)
    for thread in threads[1:]:
        thread.start()
    deadline = time.monotonic() + 5
    while site.cache.stats().waits < 3:
        assert time.monotonic() < deadline
    go.set()
    for thread in threads:
        thread.join(5)
    assert site.loads == ["1"]
    assert len({id(user) for user in kept}) == len({id(user.roles) for user in kept}) == 4
    assert [user.roles for user in kept] == [["admin", "marked"]] * 4


def proxied() -> Any:
    return LocalProxy(lambda: "somebody else in the next request")


@pytest.mark.parametrize("held", [proxied, threading.Lock, lambda: (n for n in ())])
def test_user_that_holds_what_can_not_be_shared_is_loaded_each_time(
    site: Site, caplog: pytest.LogCaptureFixture, held: Callable[[], Any]
) -> None:
    load = site.load

    @site.manager.user_loader
    def with_held(user_id: str) -> User | None:
        user = load(user_id)
        if user is not None:
            user.held = [held()]
        return user

    client = site.client("1")
    site.loads.clear()
    caplog.clear()
    assert [client.get("/who").json["name"] for _ in range(3)] == ["ann"] * 3
    assert site.loads == ["1"] * 3
    assert sum(site.cache.stats().unstored.values()) == 3
    assert len(caplog.records) == 1


def test_change_made_during_the_request_is_seen_by_the_next(site: Site) -> None:
    @site.app.get("/rename")
    def rename() -> str:
        before = current_user.name
        site.users["1"]["name"] = "new"
        site.cache.invalidate(current_user)
        return before

    client = site.client("1")
    client.get("/who")
    assert client.get("/rename").text == "ann"
    assert client.get("/who").json["name"] == "new"


def test_async_view_has_its_user(site: Site) -> None:
    @site.app.get("/async")
    async def view() -> str:
        return current_user.name + session["_user_id"]

    client = site.client("1")
    site.loads.clear()
    assert [client.get("/async").text for _ in range(3)] == ["ann1"] * 3
    assert site.loads == ["1"]


def test_streamed_body_has_its_user_after_the_view_returned(site: Site) -> None:
    @site.app.get("/stream")
    def stream() -> Any:
        def body() -> Any:
            yield "<"
            yield current_user.name
            yield session["_user_id"]

        return stream_with_context(body()), 200

    client = site.client("1")
    site.loads.clear()
    assert [client.get("/stream").text for _ in range(3)] == ["<ann1"] * 3
    assert site.loads == ["1"]


def test_copied_request_context_has_its_user(site: Site) -> None:
    @site.app.get("/thread")
    def view() -> str:
        names: list[str] = []

        @copy_current_request_context
        def ask() -> None:
            names.append(current_user.name + session["_user_id"])

        thread = threading.Thread(target=ask)
        thread.start()
        thread.join(5)
        return names[0]

    client = site.client("1")
    site.loads.clear()
    assert [client.get("/thread").text for _ in range(3)] == ["ann1"] * 3
    assert site.loads == ["1"]


def test_request_context_that_never_passed_the_middleware_works(site: Site) -> None:
    with site.app.test_request_context("/who"):
        session["_user_id"] = "1"
        assert current_user.name == "ann"  # nothing is attached yet
    client = site.client("1")
    client.get("/who")
    cookie = client.get_cookie("session").value
    site.loads.clear()
    for _ in range(2):
        with site.app.test_request_context("/who", headers={"Cookie": f"session={cookie}"}):
            assert current_user.name == "ann"
            assert request.environ["wsgi_usercache.user_id"] == "1"
    assert site.loads == []


def test_session_transaction_and_preserved_contexts_work(site: Site) -> None:
    client = site.client("1")
    with client:
        for user_id, name in (("1", "ann"), ("2", "bob"), ("1", "ann")):
            with client.session_transaction() as data:
                data["_user_id"] = user_id
            client.get("/who")
            assert (current_user.name, session["_user_id"]) == (name, user_id)
    with client.session_transaction() as data:
        assert data["_user_id"] == "1"


def test_context_shared_by_requests_shares_what_flask_shares(make_site: Make) -> None:
    """Tests that push an app context share `g`, and with it Flask-Login's user."""
    bodies = []
    for cached in (False, True):
        site = make_site(cached=cached)
        ann, bob = site.client("1"), site.client("2")
        with site.app.app_context():
            bodies.append([client.get("/who").json["name"] for client in (ann, bob, ann)])
        assert [client.get("/who").json["name"] for client in (ann, bob)] == ["ann", "bob"]
    assert bodies[0] == bodies[1] == ["ann"] * 3


def test_app_that_is_switched_off_is_an_app_without_us(make_site: Make) -> None:
    site = make_site(enabled=False)
    client = site.client("1")
    site.loads.clear()
    assert [client.get("/who").json["name"] for _ in range(3)] == ["ann"] * 3
    assert site.loads == ["1"] * 3
    assert site.cache.stats().hits == 0


def test_two_apps_made_by_one_factory_have_users_of_their_own(make_site: Make) -> None:
    one, other = make_site(), make_site()
    other.users["1"]["name"] = "another ann"
    clients = one.client("1"), other.client("1")
    for _ in range(2):
        assert [client.get("/who").json["name"] for client in clients] == ["ann", "another ann"]
    assert (one.loads, other.loads) == (["1", "1"], ["1", "1"])
