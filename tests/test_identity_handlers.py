"""Identity handlers: only what they would give in any request is remembered."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask, g, request
from flask_login import current_user
from flask_principal import (
    Identity,
    Need,
    RoleNeed,
)
from guarded import Guarded
from sites import User

Make = Callable[..., Any]


class Nosy:
    """Handlers whose work can not be remembered, by the reason that is counted."""

    @staticmethod
    def live_needs(_app: Flask, identity: Identity) -> None:
        identity.provides.add(Need("page", User(current_user.id)))

    @staticmethod
    def own_attributes(_app: Flask, identity: Identity) -> None:
        identity.roles = list(current_user.roles)

    @staticmethod
    def reads_request(_app: Flask, identity: Identity) -> None:
        if current_user.is_authenticated and request.headers.get("X-Secret") == "s":
            identity.provides.add(RoleNeed("admin"))

    @staticmethod
    def leaves_behind(_app: Flask, identity: Identity) -> None:
        g.roles = list(current_user.roles)

    @staticmethod
    def renames(_app: Flask, identity: Identity) -> None:
        identity.id += current_user.id

    @staticmethod
    def replaces(_app: Flask, identity: Identity) -> None:
        current_user.id
        g.identity = Identity("another")

    @staticmethod
    def somebody_else(_app: Flask, identity: Identity) -> None:
        current_user.id
        identity.user = User("2")

    @staticmethod
    def writes_to_user(_app: Flask, identity: Identity) -> None:
        current_user.abilities = ["x"]


NOSY = {
    "live_needs": "needs are not plain",
    "own_attributes": "identity has attributes of its own",
    "reads_request": "handlers read the request",
    "leaves_behind": "handlers read the request",
    "renames": "handlers changed the identity",
    "replaces": "handlers changed the identity",
    "somebody_else": "identity.user is not the user",
    "writes_to_user": "handlers change the user",
}


@pytest.mark.parametrize(("name", "reason"), NOSY.items())
def test_what_can_not_be_remembered_is_asked_each_time(
    make_site: Make, caplog: pytest.LogCaptureFixture, name: str, reason: str
) -> None:
    guarded = Guarded(make_site, handlers=(getattr(Nosy, name),))
    client = guarded.client()
    caplog.clear()
    loads, _ = guarded.site.count(lambda: [guarded.ask(client) for _ in range(2)])
    assert [guarded.ask(client)[0] for _ in range(3)] == [1, 1, 1]
    assert loads == 1, "the user is remembered all the same"
    assert guarded.site.cache.stats().unstored == {reason: 5}
    assert len(caplog.records) == 1
    assert caplog.records[0].levelname == "WARNING"


def test_needs_the_handler_gives_by_request_reach_no_other_request(make_site: Make) -> None:
    guarded = Guarded(make_site, handlers=(Nosy.reads_request,))
    client = guarded.client()
    secret = {"headers": {"X-Secret": "s"}}
    assert guarded.ask(client, "/admin", **secret) == (1, "admin")
    assert guarded.ask(client, "/admin") == (1, "nobody")
    assert guarded.ask(client, "/admin", **secret) == (1, "admin")


def test_what_a_handler_reads_after_a_failed_look_up_is_noted_too(make_site: Make) -> None:
    site = make_site()
    load, fails = site.load, [True]

    @site.manager.user_loader
    def shaky(user_id: str) -> User | None:
        if fails:
            raise ConnectionError
        return load(user_id)

    def brave(_app: Flask, identity: Identity) -> None:
        try:
            current_user.id
        except ConnectionError:
            fails.clear()
        if request.headers.get("X-Secret") == "s":
            identity.provides.add(RoleNeed("admin"))
        current_user.id

    guarded = Guarded(lambda: site, handlers=(brave,))
    client = guarded.client()
    fails.append(True)
    assert guarded.ask(client, "/admin", headers={"X-Secret": "s"}) == (1, "admin")
    assert guarded.ask(client, "/admin") == (1, "nobody")


def test_users_by_key_have_only_needs_of_their_own(make_site: Make) -> None:
    guarded = Guarded(make_site)
    guarded.site.manager.request_loader(
        lambda request: guarded.site.load(request.headers.get("X-Key", ""))
    )
    guarded.principal.identity_loader(lambda: Identity("by key", "key"))
    client = guarded.site.client()
    for _ in range(2):
        assert guarded.ask(client, "/admin", headers={"X-Key": "1"}) == (1, "admin")
        assert guarded.ask(client, "/admin", headers={"X-Key": "2"}) == (1, "nobody")
        assert guarded.ask(client, "/admin") == (1, "nobody")


def test_fresh_path_asks_the_handlers_and_others_are_answered_from_what_they_said(
    make_site: Make,
) -> None:
    guarded = Guarded(make_site, fresh_paths=["/admin"])
    client = guarded.client()
    guarded.ask(client)
    guarded.site.users["1"]["roles"] = []  # told to nobody
    assert guarded.ask(client, "/file/admin") == (0, "admin")
    assert guarded.ask(client, "/admin") == (1, "nobody")
    assert guarded.ask(client, "/file/admin") == (0, "nobody")
