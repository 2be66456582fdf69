"""Excluded paths: nobody is asked who this is, until somebody wants to know."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from flask import g, request, session
from flask.sessions import SecureCookieSessionInterface
from flask_login import current_user, login_user
from flask_principal import (
    Identity,
    Permission,
    Principal,
    RoleNeed,
    identity_changed,
    identity_loaded,
)
from sites import Site, User

Make = Callable[..., Site]


class CountingSessions(SecureCookieSessionInterface):
    """Not Flask's own, for all the cache can know."""

    def __init__(self) -> None:
        self.opened = self.saved = 0

    def open_session(self, app: Any, request: Any) -> Any:
        self.opened += 1
        return super().open_session(app, request)

    def save_session(self, *args: Any) -> None:
        self.saved += 1
        super().save_session(*args)


def with_principal(site: Site) -> list[Any]:
    """Install Flask-Principal; the list is of identities its handler was called for."""
    Principal(site.app)
    handled: list[Any] = []

    def handle(_app: Any, identity: Any) -> None:
        handled.append(identity.id)
        for role in getattr(current_user, "roles", []):
            identity.provides.add(RoleNeed(role))

    identity_loaded.connect(handle, site.app, weak=False)

    @site.app.get("/enter")
    def enter() -> str:
        identity_changed.send(site.app, identity=Identity(current_user.id))
        return ""

    return handled


@pytest.mark.parametrize("permanent", [{}, {"permanent": ""}, {"remember": ""}])
def test_untouched_request_asks_and_sets_nothing(make_site: Make, permanent: Any) -> None:
    site = make_site(config={"REMEMBER_COOKIE_REFRESH_EACH_REQUEST": True})
    handled = with_principal(site)
    client = site.client("1", **permanent)
    client.get("/enter")
    handled.clear()
    site.signals.clear()
    answers = []
    counted = site.count(lambda: answers.extend(client.get("/file") for _ in range(3)))
    assert counted == (0, 0)
    assert [site.seen(a) for a in answers] == [
        {"status": 200, "body": None, "vary": None, "cookies": []}
    ] * 3
    assert (handled, site.signals) == ([], [])
    assert site.cache.stats().bypassed == 3
    assert client.get("/who").json["id"] == "1"


def test_untouched_request_opens_no_session_of_another_interface(site: Site) -> None:
    sessions = site.app.session_interface = CountingSessions()
    with_principal(site)
    client = site.client("1")
    before = sessions.opened, sessions.saved
    answer = client.get("/file")
    assert (sessions.opened, sessions.saved) == before
    assert site.seen(answer)["vary"] is None
    client.get("/who")
    assert sessions.opened == before[0] + 1


@pytest.mark.parametrize("interface", [SecureCookieSessionInterface, CountingSessions])
def test_touched_request_is_like_any_other(site: Site, interface: Callable[[], Any]) -> None:
    site.app.session_interface = interface()
    with_principal(site)

    @site.app.get("/file/who")
    def file_who() -> dict[str, Any]:
        return {"id": current_user.get_id(), "can": Permission(RoleNeed("admin")).can()}

    @site.app.get("/file/write")
    def write() -> str:
        session["written"] = "yes"
        return ""

    client = site.client("1")
    client.get("/enter")
    site.loads.clear()
    answers = [client.get("/file/who") for _ in range(3)]
    assert [a.json for a in answers] == [{"id": "1", "can": True}] * 3
    assert site.loads == []
    assert all(a.headers["Vary"] == "Cookie" for a in answers)
    assert "written" in str(site.seen(client.get("/file/write"))["cookies"])
    assert client.get("/who").json["session"]["written"] == "yes"


def test_identity_of_an_excluded_path_is_found_out_once_and_only_if_used(site: Site) -> None:
    handled = with_principal(site)

    @site.app.get("/file/identity")
    def identity() -> list[Any]:
        silent = len(handled)
        there = hasattr(g, "identity")
        found = [g.identity.id, g.identity.can(Permission(RoleNeed("admin"))), g.identity.id]
        return [silent, there, *found, len(handled)]

    client = site.client("1")
    client.get("/enter")
    site.cache.clear()
    handled.clear()
    assert client.get("/file/identity").json == [0, True, "1", True, "1", 1]
    assert client.get("/file/identity").json == [1, True, "1", True, "1", 1]


def test_without_a_secret_key_the_session_is_flasks_null_session(make_site: Make) -> None:
    site = make_site(config={"SECRET_KEY": None})

    @site.app.get("/file/read")
    def read() -> str:
        return str(session.get("x")) + type(session._get_current_object()).__name__

    @site.app.get("/file/write")
    def write() -> str:
        with pytest.raises(RuntimeError, match="no secret key was set"):
            session["x"] = 1
        return "refused"

    client = site.client()
    assert client.get("/file").status_code == 200
    assert client.get("/file/read").text.startswith("None")
    assert client.get("/file/write").text == "refused"


def test_session_first_touched_after_the_view_is_saved(site: Site) -> None:
    @site.app.after_request
    def count(response: Any) -> Any:
        if "touch" in request.args:
            session["late"] = "yes"
        return response

    client = site.client("1")
    assert client.get("/file").headers.getlist("Set-Cookie") == []
    assert "late" in str(site.seen(client.get("/file?touch"))["cookies"])


def test_log_in_on_an_excluded_path_works(site: Site) -> None:
    @site.app.get("/file/in")
    def log_in() -> str:
        login_user(User("2"), remember=True)
        return ""

    client = site.client("1")
    cookies = site.seen(client.get("/file/in"))["cookies"]
    assert [name for name, *_ in cookies] == ["remember_token", "session"]
    assert client.get("/who").json["name"] == "bob"
