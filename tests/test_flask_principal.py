"""Flask-Principal: needs come back with the user they belong to, and with nobody else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flask_login
import pytest
from flask import Flask, g, request, session
from flask_login import current_user
from flask_principal import (
    Identity,
    Need,
    Principal,
    RoleNeed,
    UserNeed,
)
from guarded import Guarded
from sites import Clock

Make = Callable[..., Any]


@pytest.fixture
def guarded(make_site: Make) -> Guarded:
    return Guarded(make_site)


def test_hit_sends_no_signal_and_has_the_identity_of_the_miss(guarded: Guarded) -> None:
    client = guarded.client(auth="ldap")
    times, miss = guarded.ask(client)
    assert times == 1
    for _ in range(3):
        assert guarded.ask(client) == (0, miss)
    assert miss == {
        "class": "Identity",
        "id": "1",
        "auth_type": "ldap",
        "needs": sorted(map(str, [UserNeed("1"), RoleNeed("admin")])),
        "user": "proxy",
        "is current": True,
        "user id": "1",
    }
    assert guarded.site.loads == ["1", "1"], "by the log-in view, and one entry"


def test_without_the_cache_the_answers_are_the_same(make_site: Make) -> None:
    on, off = Guarded(make_site), Guarded(make_site, cached=False)
    answers = []
    for each in (on, off):
        client = each.client()
        answers.append([each.site.seen(client.get("/identity"))["body"] for _ in range(3)])
    assert answers[0] == answers[1]


def test_stolen_cookie_under_strong_protection_has_neither_user_nor_needs(make_site: Make) -> None:
    guarded = Guarded(make_site, config={"SESSION_PROTECTION": "strong"})
    client = guarded.client()
    assert [guarded.ask(client, "/admin") for _ in range(2)][1] == (0, "admin")
    stolen = {"headers": {"User-Agent": "mallory"}}
    thief = guarded.site.client()
    thief.set_cookie("session", client.get_cookie("session").value)
    assert guarded.ask(thief, "/admin", **stolen) == (1, "nobody")
    assert guarded.ask(thief, "/identity", **stolen)[1]["user id"] is None
    assert guarded.ask(client, "/admin") == (0, "admin")


def test_needs_change_with_the_user(guarded: Guarded) -> None:
    client = guarded.client()
    guarded.ask(client)
    guarded.site.users["1"]["roles"] = []
    guarded.site.cache.invalidate("1")
    assert guarded.ask(client, "/admin") == (1, "nobody")
    assert guarded.ask(client, "/admin") == (0, "nobody")


def test_needs_live_no_longer_than_the_user_they_came_with(guarded: Guarded, clock: Clock) -> None:
    client = guarded.client()
    guarded.ask(client)
    guarded.site.users["1"]["roles"] = []
    clock.now += 29.0
    assert guarded.ask(client, "/admin") == (0, "admin")
    clock.now += 1.0
    assert guarded.ask(client, "/admin") == (1, "nobody")


def test_log_out_of_the_user_leaves_no_needs(guarded: Guarded) -> None:
    client = guarded.client()
    guarded.ask(client)
    client.get("/logout")  # as many do, without telling Flask-Principal
    assert guarded.ask(client, "/admin") == (1, "nobody")


def test_two_identities_of_one_user_have_needs_of_their_own(make_site: Make) -> None:
    def by_type(_app: Flask, identity: Identity) -> None:
        identity.user = current_user._get_current_object()
        if identity.auth_type == "two factors":
            identity.provides.add(RoleNeed("admin"))

    guarded = Guarded(make_site, handlers=(by_type,))
    weak, strong = guarded.client(auth="password"), guarded.client(auth="two factors")
    for times in (1, 0, 0):
        assert guarded.ask(weak, "/admin") == (times, "nobody")
        assert guarded.ask(strong, "/admin") == (times, "admin")
    assert guarded.ask(strong)[1]["user"] == "User"
    assert guarded.ask(strong)[1]["is current"]


def test_two_users_of_one_identity_name_have_needs_of_their_own(make_site: Make) -> None:
    def put_name(principal: Principal) -> None:
        principal.identity_loaders.clear()
        principal.identity_savers.clear()
        principal.identity_loader(lambda: Identity("everybody"))

    guarded = Guarded(make_site)
    put_name(guarded.principal)
    ann, bob = guarded.site.client("1"), guarded.site.client("2")
    for times in (1, 0, 0):
        assert guarded.ask(ann, "/admin") == (times, "admin")
        assert guarded.ask(bob, "/admin") == (times, "nobody")


def test_handlers_run_in_their_order_and_both_are_remembered(make_site: Make) -> None:
    def first(_app: Flask, identity: Identity) -> None:
        identity.provides.add(RoleNeed(f"of {current_user.id}"))

    def second(_app: Flask, identity: Identity) -> None:
        identity.provides.add(Need("seen", len(identity.provides)))

    guarded = Guarded(make_site, handlers=(first, second))
    client = guarded.client()
    times, miss = guarded.ask(client)
    assert times == 2
    assert guarded.ask(client) == (0, miss)
    assert miss["user"] == "NoneType"


def test_custom_loader_and_saver_run_on_hits(guarded: Guarded) -> None:
    calls: list[str] = []

    class Badge(Identity):
        pass

    @guarded.principal.identity_loader
    def load() -> Identity:
        calls.append("load")
        return Badge("badge", "door")

    @guarded.principal.identity_saver
    def save(identity: Identity) -> None:
        calls.append(f"save {identity.id}")

    client = guarded.site.client("1")
    guarded.ask(client)
    calls.clear()
    times, hit = guarded.ask(client)
    assert (times, hit["class"], hit["needs"]) == (
        0,
        "Badge",
        [str(UserNeed("1")), str(RoleNeed("admin"))],
    )
    assert calls == ["load", "save badge"]


def test_session_is_saved_where_it_does_not_hold_the_identity_yet(guarded: Guarded) -> None:
    @guarded.principal.identity_loader
    def load() -> Identity:
        return Identity("badge", "door")

    client = guarded.site.client("1")
    client.get("/identity")
    with client.session_transaction() as data:
        assert data["identity.id"] == "badge"
        del data["identity.id"]
    guarded.ask(client)
    with client.session_transaction() as data:
        assert data["identity.id"] == "badge"


def test_hit_does_not_sign_an_unchanged_session_again(make_site: Make) -> None:
    lately, always = Guarded(make_site), Guarded(make_site, resign_interval=0)
    for guarded, signed in ((lately, False), (always, True)):
        client = guarded.client()
        for _ in range(2):
            seen = guarded.site.seen(client.get("/identity"))
            assert bool(seen["cookies"]) is signed
            assert seen["vary"] == "Cookie"


def test_skip_static_is_honoured(make_site: Make) -> None:
    guarded = Guarded(
        make_site, principal=lambda app: Principal(app, skip_static=True), static="off"
    )

    @guarded.site.app.get("/static/page")
    def page() -> str:
        return str(hasattr(g, "identity"))

    client = guarded.client()
    assert guarded.ask(client, "/static/page") == (0, "False")
    assert guarded.ask(client, "/identity")[0] == 1


def test_principal_without_sessions_identifies_by_its_own_loader(make_site: Make) -> None:
    guarded = Guarded(make_site, principal=lambda app: Principal(app, use_sessions=False))
    assert guarded.ask(guarded.client(), "/identity")[1]["class"] == "AnonymousIdentity"

    guarded = Guarded(make_site, principal=lambda app: Principal(app, use_sessions=False))
    guarded.principal.identity_loader(
        lambda: Identity(current_user.id) if current_user.is_authenticated else None
    )
    client = guarded.site.client("1")
    assert [guarded.ask(client, "/admin") for _ in range(3)] == [(1, "admin"), *[(0, "admin")] * 2]
    assert guarded.ask(guarded.site.client("2"), "/admin")[1] == "nobody"


def test_principal_installed_before_the_cache_is_restored_too(make_site: Make) -> None:
    guarded = Guarded(make_site, cached=False)
    cached = make_site()  # only for its cache class
    type(cached.cache)(guarded.site.app, excluded_paths=["/file*"])
    client = guarded.client()
    assert [guarded.ask(client, "/admin")[0] for _ in range(3)] == [1, 0, 0]


def test_user_logged_in_by_an_earlier_hook_gets_no_foreign_needs(make_site: Make) -> None:
    site = make_site()

    @site.app.before_request
    def su() -> None:
        if "X-Su" in request.headers:
            current_user.name
            flask_login.login_user(site.load(request.headers["X-Su"]))

    guarded = Guarded(lambda: site)
    client = guarded.client("1")
    assert [guarded.ask(client, "/admin") for _ in range(2)][1] == (0, "admin")
    answer = guarded.ask(client, "/admin", headers={"X-Su": "2"})
    assert answer == (1, "nobody")
    assert guarded.ask(guarded.client("2"), "/admin") == (1, "nobody")
    assert guarded.ask(guarded.client("1"), "/admin") == (0, "admin")


def test_asking_the_user_callback_for_somebody_else_moves_no_needs(make_site: Make) -> None:
    site = make_site()

    @site.app.before_request
    def look_up() -> None:
        if "X-Other" in request.headers:
            current_user.name
            site.manager.user_callback(request.headers["X-Other"])

    guarded = Guarded(lambda: site)
    guarded.principal.identity_loaders.clear()
    guarded.principal.identity_loader(lambda: Identity("everybody"))
    ann, bob = site.client("1"), site.client("2")
    for _ in range(2):
        assert guarded.ask(bob, "/admin", headers={"X-Other": "1"})[1] == "nobody"
        assert guarded.ask(ann, "/admin", headers={"X-Other": "2"})[1] == "admin"
        assert guarded.ask(ann, "/admin")[1] == "admin"
        assert guarded.ask(bob, "/admin")[1] == "nobody"


@pytest.mark.parametrize(("interval", "modified"), [(60, "False"), (0, "True")])
def test_hit_leaves_the_session_unmodified_while_its_cookie_is_young(
    make_site: Make, interval: int, modified: str
) -> None:
    site = make_site(resign_interval=interval)
    site.app.add_url_rule("/modified", view_func=lambda: str(session.modified))
    guarded = Guarded(lambda: site)
    assert guarded.ask(guarded.client(), "/modified")[1] == modified


def test_permission_on_an_excluded_path_is_found_out_when_it_is_asked(make_site: Make) -> None:
    guarded = Guarded(make_site)
    client = guarded.client()
    guarded.ask(client)
    for path in ("/file/admin", "/file/gone"):
        assert guarded.ask(client, path) == (0, "admin")
        assert guarded.ask(guarded.site.client(), path)[1] == "nobody"


def test_changed_identity_within_a_request_is_not_remembered_for_the_old(guarded: Guarded) -> None:
    client = guarded.client("1")
    guarded.ask(client)
    assert guarded.ask(client, "/enter/2")[0] == 1
    assert guarded.ask(client, "/admin") == (1, "nobody")
    assert guarded.ask(guarded.client("1"), "/admin") == (0, "admin")


def test_subclass_with_ways_of_its_own_is_left_alone(make_site: Make) -> None:
    class Own(Principal):
        def set_identity(self, identity: Identity) -> None:
            identity.provides.add(RoleNeed("own"))
            super().set_identity(identity)

    guarded = Guarded(make_site, principal=Own)
    client = guarded.client()
    for _ in range(3):
        times, answer = guarded.ask(client)
        assert (times, str(RoleNeed("own")) in answer["needs"]) == (1, True)
