"""Flask-Login: a hit is what a miss is, in the session, in the headers and in the signals."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import flask_login
import pytest
from flask import g, request
from flask.testing import FlaskClient
from flask_login import FlaskLoginClient, current_user
from sites import Clock, Site, User

Make = Callable[..., Site]

ANN, MALLORY = {"User-Agent": "ann"}, {"User-Agent": "mallory"}
STAY = [("/who", ANN)] * 3
WAYS = [*STAY, ("/who", MALLORY), ("/who", MALLORY), ("/who", ANN)]
WAYS += [("/confirm", ANN), ("/who", ANN), ("/logout", ANN), ("/who", ANN)]


def journal(site: Site, client: FlaskClient, steps: Iterable[Any]) -> list[Any]:
    """All a client sees, and all Flask-Login says, on its way through *steps*."""
    seen = []
    for path, headers in steps:
        site.signals.clear()
        response = client.get(path, headers=headers)
        seen.append((path, site.seen(response), list(site.signals)))
    return seen


def journals(
    make_site: Make,
    steps: Iterable[Any],
    begin: Callable[[Site], FlaskClient] = lambda site: site.app.test_client(),
    **config: Any,
) -> tuple[list[Any], list[Any], Site]:
    """What is seen without the cache, and with it while another client keeps user 1 warm."""
    off, on = make_site(cached=False, config=config), make_site(resign_interval=0, config=config)
    for site in (off, on):
        site.client("1").get("/who")
        site.loads.clear()
    return journal(off, begin(off), steps), journal(on, begin(on), steps), on


@pytest.mark.parametrize("query", ["", "?permanent", "?remember", "?remember&permanent"])
@pytest.mark.parametrize("protection", ["basic", "strong", None])
def test_protection_on_a_hit_is_what_it_is_on_a_miss(
    make_site: Make, protection: str | None, query: str
) -> None:
    steps = [(f"/login/1{query}", ANN), *WAYS]
    off, on, site = journals(make_site, steps, SESSION_PROTECTION=protection)
    assert on == off
    assert site.loads == ["1"], "only the log-in view's own"
    stolen = on[4][1]["body"]
    if protection == "strong" and not query:
        assert (stolen["id"], on[4][2]) == (None, ["user_accessed", "session_protected"])
    elif protection is None:
        assert (stolen["id"], stolen["fresh"]) == ("1", True)
    elif "permanent" in query or protection == "basic":
        assert (stolen["id"], stolen["fresh"]) == ("1", False)


@pytest.mark.parametrize("protection", ["basic", "strong"])
def test_remember_cookie_alone_writes_the_session_on_a_hit_too(
    make_site: Make, protection: str
) -> None:
    def only_remembered(site: Site) -> FlaskClient:
        client = site.client("1", remember="")
        client.delete_cookie("session")
        site.loads.clear()
        return client

    off, on, site = journals(make_site, STAY, only_remembered, SESSION_PROTECTION=protection)
    assert on == off
    assert site.loads == []
    first = on[0][1]["body"]
    assert (first["id"], first["fresh"], first["remembered"]) == ("1", False, True)
    assert first["session"] == {"_user_id": "1", "_fresh": False}
    assert on[0][2] == ["user_accessed", "user_loaded_from_cookie"]


@pytest.mark.parametrize("fresh", [True, False])
@pytest.mark.parametrize("protection", ["basic", "strong"])
def test_client_without_an_id_is_protected_on_a_hit_too(
    make_site: Make, protection: str, fresh: bool
) -> None:
    def flask_login_client(site: Site) -> FlaskClient:
        site.app.test_client_class = FlaskLoginClient
        return site.app.test_client(user=User("1"), fresh_login=fresh)

    off, on, site = journals(make_site, STAY, flask_login_client, SESSION_PROTECTION=protection)
    assert on == off
    assert site.loads == []
    assert on[0][1]["body"]["id"] == ("1" if protection == "basic" else None)
    assert on[0][1]["body"]["fresh"] is False


def test_unchanged_session_is_signed_again_only_after_the_interval(make_site: Make) -> None:
    site = make_site()
    client = site.client("1", permanent="")
    young = site.seen(client.get("/who"))
    assert (young["cookies"], young["vary"]) == ([], "Cookie")
    assert client.get("/confirm").headers.getlist("Set-Cookie") == []  # it was fresh already
    every = make_site(resign_interval=0)
    assert every.seen(every.client("1", permanent="").get("/who"))["cookies"] != []


def test_deactivated_user_is_out_at_the_next_request(site: Site) -> None:
    client = site.client("1")
    assert client.get("/who").json["authenticated"]
    site.users["1"]["active"] = False
    site.cache.invalidate("1")
    assert not client.get("/who").json["authenticated"]
    assert site.count(lambda: client.get("/who"))[0] == 0


def test_user_let_in_by_force_stays_in_on_a_hit(site: Site) -> None:
    site.users["1"]["active"] = False

    @site.app.get("/force")
    def force() -> str:
        flask_login.login_user(site.load("1"), force=True)
        return ""

    client = site.client()
    client.get("/force")
    who = [client.get("/who").json for _ in range(3)]
    assert [w["id"] for w in who] == ["1", "1", "1"]
    assert site.loads == ["1", "1"]


def test_deleted_user_is_nobody_and_a_new_one_somebody_at_once(site: Site, clock: Clock) -> None:
    client = site.client("1")
    client.get("/who")
    row = site.users.pop("1")
    site.cache.invalidate("1")
    assert client.get("/who").json["id"] is None
    assert site.count(lambda: client.get("/who"))[0] == 0
    clock.now += 1.0
    assert site.count(lambda: client.get("/who"))[0] == 1
    site.users["1"] = {**row, "name": "new"}
    site.cache.invalidate("1")
    assert client.get("/who").json["name"] == "new"


def test_id_of_nobody_is_remembered_no_longer_than_a_second(site: Site, clock: Clock) -> None:
    client = site.client("1")
    row = site.users.pop("1")
    client.get("/who")
    site.users["1"] = row  # and nobody tells
    clock.now += 0.9
    assert client.get("/who").json["id"] is None
    clock.now += 0.1
    assert client.get("/who").json["id"] == "1"


def test_change_nobody_told_is_seen_when_the_load_is_ttl_old(
    make_site: Make, clock: Clock
) -> None:
    site = make_site(ttl=5.0)
    client = site.client("1")
    client.get("/who")
    site.users["1"]["name"] = "new"
    for _ in range(5):
        assert client.get("/who").json["name"] == "ann"
        clock.now += 1.0
    assert client.get("/who").json["name"] == "new"


def test_key_is_never_mixed_with_entries_and_asked_each_time(site: Site) -> None:
    keys: list[str] = []

    @site.manager.request_loader
    def by_key(request: Any) -> User | None:
        key = request.headers.get("X-Key")
        keys.append(key)
        return User("2", name="by key") if key == "k2" else None

    site.client("2").get("/who")  # an entry of the same id
    loads = len(site.loads)
    for _ in range(2):
        anyone = site.app.test_client()
        assert anyone.get("/who", headers={"X-Key": "k2"}).json["name"] == "by key"
        assert anyone.get("/who", headers={"X-Key": "no"}).json["id"] is None
    assert keys == ["k2", "no"] * 2
    assert len(site.loads) == loads
    ann = site.client("1")
    assert [ann.get("/who", headers={"X-Key": "k2"}).json["name"] for _ in "ab"] == ["ann"] * 2
    assert keys == ["k2", "no"] * 2, "a valid session wins"


def test_key_of_a_user_without_an_id_is_no_error(site: Site) -> None:
    class Machine:
        is_authenticated = is_active = True

    @site.app.get("/machine")
    def machine() -> str:
        return type(current_user._get_current_object()).__name__

    site.manager.request_loader(lambda request: Machine())
    assert site.app.test_client().get("/machine").text == "Machine"


@pytest.mark.parametrize("again", [False, True])
def test_log_in_of_another_user_within_a_request_is_not_undone(site: Site, again: bool) -> None:
    @site.app.get("/become/2")
    def become() -> str:
        before = current_user.name
        flask_login.login_user(site.load("2"))
        if again:
            del g._login_user  # what Flask-Login does where it is asked to look again
        return f"{before} {current_user.name}"

    client = site.client("1")
    client.get("/who")
    for _ in range(2):
        assert client.get("/become/2").text == "ann bob"
        assert client.get("/who").json["name"] == "bob"
        client.get("/login/1")


def test_environ_says_who_it_is_to_an_outer_middleware(site: Site) -> None:
    noted: list[Any] = []
    inner = site.app.wsgi_app

    def outer(environ: Any, start_response: Any) -> Any:
        answer = inner(environ, start_response)
        names = ("wsgi_usercache.lane", "wsgi_usercache.user_id")
        noted.append(tuple(environ.get(name) for name in names))
        return answer

    site.app.wsgi_app = outer  # type: ignore[method-assign]
    site.manager.request_loader(
        lambda request: User("9", name="key") if "X-Key" in request.headers else None
    )
    client = site.app.test_client()
    for path in ("/who", "/login/1", "/who", "/who", "/file", "/logout", "/who"):
        client.get(path, environ_base={"wsgi_usercache.user_id": "forged"})
    client.get("/who", headers={"X-Key": "k"})
    assert noted == [
        ("cached", None),
        ("cached", "1"),
        ("cached", "1"),
        ("cached", "1"),
        ("bypass", None),
        ("cached", None),
        ("cached", None),
        ("cached", "9"),
    ]


def test_uncached_user_is_named_in_the_environ_too(make_site: Make) -> None:
    site = make_site(vary=lambda: None)

    @site.app.get("/environ")
    def environ() -> str:
        return current_user.name + request.environ["wsgi_usercache.user_id"]

    client = site.client("1")
    assert client.get("/environ").text == "ann1"
