"""What is installed after the cache, replaced later or shared by apps is found all the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask, current_app, request, session
from flask.sessions import SecureCookieSessionInterface
from flask_login import LoginManager, current_user, login_user
from flask_principal import Principal
from sites import Site, User

from wsgi_usercache import UserCache

Make = Callable[..., Site]


class CountingSessions(SecureCookieSessionInterface):
    """A session interface of somebody else's."""

    def __init__(self) -> None:
        self.opened = self.saved = 0

    def open_session(self, app: Any, request: Any) -> Any:
        self.opened += 1
        return super().open_session(app, request)

    def save_session(self, *args: Any) -> None:
        self.saved += 1
        super().save_session(*args)


def test_login_manager_installed_after_the_cache_is_cached(
    make_cache: Callable[..., UserCache],
) -> None:
    app = Flask(__name__)
    app.secret_key = "k"
    make_cache(app, excluded_paths=["/file"])
    loads: list[str] = []

    @app.get("/in")
    def log_in() -> str:
        login_user(User("1"))
        return ""

    @app.get("/who")
    def who() -> str:
        return str(current_user.get_id())

    app.add_url_rule("/file", view_func=lambda: "", endpoint="file")
    Principal(app)
    manager = LoginManager(app)
    manager.user_loader(lambda user_id: loads.append(user_id) or User(user_id))
    client = app.test_client()
    client.get("/in")
    assert [client.get("/who").text for _ in range(3)] == ["1", "1", "1"]
    assert loads == ["1"]
    assert "Set-Cookie" not in (answer := client.get("/file")).headers
    assert "Vary" not in answer.headers


def test_replaced_user_loader_is_asked_and_old_answers_are_dropped(site: Site) -> None:
    client = site.client("1")
    client.get("/who")
    site.manager.user_loader(lambda user_id: User(user_id, name="of another loader"))
    assert client.get("/who").json["name"] == "of another loader"
    site.manager.user_loader(site.load)
    assert site.count(lambda: client.get("/who"))[0] == 1
    assert client.get("/who").json["name"] == "ann"
    assert site.count(lambda: client.get("/who"))[0] == 0


def test_replaced_login_manager_is_asked_and_old_answers_are_dropped(site: Site) -> None:
    client = site.client("1")
    client.get("/who")
    other, calls = LoginManager(), []
    other.user_loader(lambda user_id: calls.append(user_id) or User(user_id, name="new"))
    site.app.login_manager = other  # type: ignore[attr-defined]
    assert [client.get("/who").json["name"] for _ in range(3)] == ["new"] * 3
    assert calls == ["1"]


def test_session_interface_replaced_after_requests_is_the_one_that_is_asked(site: Site) -> None:
    client = site.client("1")
    client.get("/who")
    sessions = site.app.session_interface = CountingSessions()
    assert client.get("/who").json["id"] == "1"
    assert sessions.opened == 1
    client.get("/file")
    assert (sessions.opened, sessions.saved) == (1, 1)
    assert site.count(lambda: client.get("/who"))[0] == 0


def test_apps_sharing_a_login_manager_never_share_users(
    make_cache: Callable[..., UserCache],
) -> None:
    manager = LoginManager()
    rows: dict[str, str] = {}

    @manager.user_loader
    def load(user_id: str) -> User:
        rows[current_app.name] = user_id
        return User(user_id, name=f"{user_id} of {current_app.name}")

    cache = make_cache()
    clients = {}
    for name in ("a", "b", "plain"):
        app = Flask(name)
        app.secret_key = "k"
        manager.init_app(app)
        if name != "plain":
            cache.init_app(app)
        app.add_url_rule("/in", view_func=lambda: str(login_user(User("2"))), endpoint="in")
        app.add_url_rule("/who", view_func=lambda: current_user.name, endpoint="who")
        clients[name] = app.test_client()
        clients[name].get("/in")
    for _ in range(2):
        for name, client in clients.items():
            rows.clear()
            assert client.get("/who").text == f"2 of {name}"
    assert rows == {"plain": "2"}, "a and b were hits, the app without a cache was not"


def test_hook_of_a_login_manager_of_ones_own_runs_on_untouched_paths(
    make_cache: Callable[..., UserCache],
) -> None:
    class OwnManager(LoginManager):
        def sign(self, response: Any) -> Any:
            response.headers["X-Signed"] = "yes"
            return response

    app = Flask(__name__)
    app.secret_key = "k"
    manager = OwnManager(app)
    manager.user_loader(User)
    app.after_request(manager.sign)
    app.add_url_rule("/file", view_func=lambda: "", endpoint="file")
    make_cache(app, excluded_paths=["/file"])
    assert app.test_client().get("/file").headers["X-Signed"] == "yes"


def test_app_whose_user_loader_is_taken_away_works_as_without_us(site: Site) -> None:
    site.manager.request_loader(lambda request: User("7", name="key"))
    client = site.client("1")
    assert client.get("/who").json["id"] == "1"
    site.manager.user_loader(None)
    assert [client.get("/who").json["id"] for _ in range(2)] == ["7", "7"]


def test_user_loader_nobody_could_await_is_left_alone_and_the_log_says_so(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    async def load(user_id: str) -> User:
        return User(user_id)

    site.manager.user_loader(load)
    assert site.app.test_client().get("/file").status_code == 200
    assert site.manager.user_callback is load
    assert [r.getMessage() for r in caplog.records] == [
        "the user loader is a coroutine function; its users are not cached"
    ]


def test_app_called_with_the_environ_of_another_disturbs_no_recording(make_site: Make) -> None:
    outer, inner = make_site(), make_site()
    load = outer.load

    @outer.manager.user_loader
    def with_stamp(user_id: str) -> User | None:
        session.get("stamp")
        return load(user_id)

    @outer.app.get("/forward")
    def forward() -> str:
        b"".join(inner.app(request.environ, lambda *_: lambda _: None))
        return current_user.name

    client = outer.client("1")
    outer.loads.clear()
    assert [client.get("/forward").text for _ in range(3)] == ["ann"] * 3
    assert outer.loads == ["1"] * 3
    assert outer.cache.stats().unstored == {"reads the request": 3}
