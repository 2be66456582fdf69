"""The example applications do what their README says, with the middleware off and on."""

import gc
import re
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from flask import Flask
from flask.sessions import SecureCookieSession
from flask.testing import FlaskClient
from sqlalchemy import select

from examples.roles import create_app
from examples.roles.browser import assets_of
from examples.roles.counting import COUNTS_PATH, tally
from examples.roles.extensions import db
from examples.roles.models import User

PASSWORDS = {"ada": "engine", "grace": "compiler", "linus": "bonds"}
MakeApp = Callable[..., Flask]


@pytest.fixture(scope="module")
def seeded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with the demo's people: hashing their passwords is slow, so it is done once."""
    path = tmp_path_factory.mktemp("seeded") / "roles.sqlite"
    app = create_app({"SQLALCHEMY_DATABASE_URI": f"sqlite:///{path}", "USERCACHE_ENABLED": False})
    with app.app_context():
        db.engine.dispose()
    return path


@pytest.fixture
def make_app(tmp_path: Path, seeded: Path) -> Iterator[MakeApp]:
    """Makes applications, each with a database of its own unless one is named."""
    apps: list[Flask] = []
    gc.collect()  # apps of tests gone by have a say in which columns count, as long as they live

    def make(**config: object) -> Flask:
        path = shutil.copy(seeded, tmp_path / f"{len(apps)}.sqlite")
        defaults = {"SQLALCHEMY_DATABASE_URI": f"sqlite:///{path}", "COUNTING": True}
        apps.append(create_app({"TESTING": True} | defaults | config))
        return apps[-1]

    yield make
    for app in apps:
        with app.app_context():
            db.engine.dispose()


@pytest.fixture(params=[False, True], ids=["off", "on"])
def app(request: pytest.FixtureRequest, make_app: MakeApp) -> Flask:
    """The application without and with the middleware: what a visitor sees must not differ."""
    return make_app(USERCACHE_ENABLED=request.param)


def logged_in(app: Flask, username: str) -> FlaskClient:
    """A client that has logged in and seen the home page often enough to be warm."""
    client = app.test_client()
    form = {"username": username, "password": PASSWORDS[username]}
    assert client.post("/login", data=form).status_code == 302
    for _ in range(3):
        assert page(client, "/")
    return client


def page(client: FlaskClient, path: str) -> bytes:
    with client.get(path) as response:
        assert response.status_code == 200, path
        return response.data


def status(client: FlaskClient, path: str) -> int:
    with client.get(path) as response:
        return response.status_code


def counted(act: Callable[[], object]) -> Counter[str]:
    """What this process counted while *act* ran."""
    before = tally.read()
    act()
    counts = tally.read()
    counts.subtract(before)
    return counts


def page_with_assets(client: FlaskClient) -> list[bytes]:
    home = page(client, "/")
    return [home, *(page(client, path) for path in assets_of(home))]


def test_the_home_page_uses_24_assets_that_are_really_there(app: Flask) -> None:
    bodies = page_with_assets(logged_in(app, "linus"))[1:]
    assert len(bodies) == 24
    assert len(set(bodies)) == 24
    assert all(bodies)


def test_without_the_middleware_a_page_with_its_assets_costs_50_statements(
    make_app: MakeApp,
) -> None:
    client = logged_in(make_app(USERCACHE_ENABLED=False), "ada")
    counts = counted(lambda: page_with_assets(client))
    assert counts["statements"] >= 50
    assert counts["user_loads"] == 25
    assert counts["identity_signals"] == 25


def test_with_the_middleware_the_same_page_asks_the_database_nothing(make_app: MakeApp) -> None:
    client = logged_in(make_app(), "ada")
    counts = counted(lambda: page_with_assets(client))
    assert counts["statements"] == 0
    assert counts["user_loads"] == 0
    assert counts["identity_signals"] == 0
    assert counts["lane:cached"] == 1
    assert counts["lane:serve"] == 24


def test_assets_are_served_without_opening_a_session(
    make_app: MakeApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[None] = []
    construct = SecureCookieSession.__init__

    def note_and_construct(self: SecureCookieSession, *args: object) -> None:
        opened.append(None)
        construct(self, *args)

    monkeypatch.setattr(SecureCookieSession, "__init__", note_and_construct)
    client = logged_in(make_app(), "ada")
    assets = assets_of(page(client, "/"))
    assert opened, "a page opens one; else this test would count nothing"
    opened.clear()
    for path in assets:
        with client.get(path) as response:
            assert response.status_code == 200
            assert "Set-Cookie" not in response.headers
            assert "Cookie" not in response.headers.get("Vary", "")
    assert not opened


def test_every_page_and_asset_is_the_same_with_and_without(make_app: MakeApp) -> None:
    off, on = (make_app(USERCACHE_ENABLED=enabled) for enabled in (False, True))
    for username in PASSWORDS:
        assert page_with_assets(logged_in(off, username)) == page_with_assets(
            logged_in(on, username)
        )


def test_a_page_that_writes_last_seen_reaches_the_database_and_loads_no_user(
    make_app: MakeApp,
) -> None:
    app = make_app(LAST_SEEN_EVERY=0.0)
    client = logged_in(app, "ada")

    def last_seen() -> object:
        with app.app_context():
            return db.session.scalar(select(User.last_seen).where(User.username == "ada"))

    before = last_seen()
    counts = counted(lambda: page(client, "/"))
    assert counts["user_loads"] == 0
    assert counts["identity_signals"] == 0
    assert before != last_seen() is not None
    assert b"Last seen" in page(client, "/profile")


def test_last_seen_is_written_once_in_its_interval(app: Flask) -> None:
    client = logged_in(app, "ada")
    with app.app_context():
        written = select(User.last_seen).where(User.username == "ada")
        before = db.session.scalar(written)
        assert before is not None
        db.session.rollback()
        page(client, "/")
        assert db.session.scalar(written) == before


def test_a_granted_and_a_revoked_role_are_seen_by_the_next_request(app: Flask) -> None:
    ada, linus = logged_in(app, "ada"), logged_in(app, "linus")
    assert status(linus, "/admin") == 403
    assert b"no role" in page(linus, "/")

    assert ada.post("/admin/linus/admin/grant").status_code == 302
    assert status(linus, "/admin") == 200
    assert ada.post("/admin/linus/admin/revoke").status_code == 302
    assert status(linus, "/admin") == 403
    assert b"no role" in page(linus, "/")


def test_the_abilities_of_a_granted_role_open_their_rooms_at_once(app: Flask) -> None:
    ada, grace = logged_in(app, "ada"), logged_in(app, "grace")
    assert page(grace, "/").count(b'class="room open"') == 4
    assert ada.post("/admin/grace/astronomer/grant").status_code == 302
    assert page(grace, "/").count(b'class="room open"') == 6


def test_an_edited_profile_is_seen_at_once_in_every_browser(app: Flask) -> None:
    here, there = logged_in(app, "grace"), logged_in(app, "grace")
    form = {"name": "Rear Admiral Hopper", "motto": "Ask forgiveness."}
    assert here.post("/profile", data=form).status_code == 302
    for client in (there, here):
        assert b"Hello, Rear Admiral Hopper" in page(client, "/")
        assert b"Ask forgiveness." in page(client, "/")
    assert here.post("/profile", data={"name": " "}).status_code == 400
    assert b"Hello, Rear Admiral Hopper" in page(there, "/")


def test_after_log_out_only_that_browser_is_a_guest(app: Flask) -> None:
    leaving, staying = logged_in(app, "ada"), logged_in(app, "ada")
    assert leaving.post("/logout").status_code == 302
    assert status(leaving, "/") == 302
    assert status(leaving, "/admin") == 302
    assert b"Guest" in page(leaving, "/login")
    assert status(staying, "/admin") == 200


def test_a_change_of_person_in_one_browser_changes_the_needs_too(app: Flask) -> None:
    client = logged_in(app, "ada")
    assert status(client, "/admin") == 200
    client.post("/logout")
    client.post("/login", data={"username": "linus", "password": PASSWORDS["linus"]})
    assert status(client, "/admin") == 403
    assert b"Hello, Linus Pauling" in page(client, "/")


def test_a_wrong_password_lets_nobody_in(app: Flask) -> None:
    client = app.test_client()
    for form in ({"username": "ada", "password": "wrong"}, {"username": "nobody"}, {}):
        assert client.post("/login", data=form).status_code == 401
    assert status(client, "/") == 302


def test_only_an_admin_changes_roles(app: Flask) -> None:
    grace = logged_in(app, "grace")
    assert grace.post("/admin/grace/admin/grant").status_code == 403
    assert status(grace, "/admin") == 403
    assert app.test_client().post("/admin/grace/admin/grant").status_code == 302
    assert logged_in(app, "ada").post("/admin/grace/nonsense/grant").status_code == 404


def test_the_health_check_looks_nobody_up(make_app: MakeApp) -> None:
    client = logged_in(make_app(), "ada")

    def check() -> None:
        with client.get("/health") as response:
            assert response.json == {"status": "up"}
            assert "Set-Cookie" not in response.headers

    counts = counted(check)
    assert counts["lane:bypass"] == 1
    assert counts["statements"] == counts["user_loads"] == counts["identity_signals"] == 0


def test_a_database_is_filled_and_its_log_ins_are_shown_only_once(
    make_app: MakeApp, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    uri = f"sqlite:///{tmp_path / 'kept.sqlite'}"
    make_app(SQLALCHEMY_DATABASE_URI=uri)
    first = capsys.readouterr().out
    for username, password in PASSWORDS.items():
        assert re.search(rf"{username} +{password}", first)
    make_app(SQLALCHEMY_DATABASE_URI=uri)
    assert capsys.readouterr().out == ""


def test_the_counts_are_for_this_machine_and_only_if_switched_on(make_app: MakeApp) -> None:
    client = logged_in(make_app(), "ada")
    assert not +counted(lambda: page(client, COUNTS_PATH))
    elsewhere = {"REMOTE_ADDR": "192.0.2.1"}
    assert client.get(COUNTS_PATH, environ_overrides=elsewhere).status_code == 404
    assert status(make_app(COUNTING=False).test_client(), COUNTS_PATH) == 404
