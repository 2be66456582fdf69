"""Recording: answers that depend on the request are asked for in each, or told apart by `vary`."""

from __future__ import annotations

import copy
import json
import threading
from collections.abc import Callable
from typing import Any

import flask_security
import pytest
from flask import (
    Flask,
    Request,
    copy_current_request_context,
    current_app,
    flash,
    g,
    get_flashed_messages,
    request,
    session,
)
from flask_login import current_user
from flask_principal import Identity, Permission, Principal, RoleNeed, identity_loaded
from flask_security import Security
from flask_security.datastore import UserDatastore
from sites import Site, User

Make = Callable[..., Site]
A, B = {"X-Tenant": "a"}, {"X-Tenant": "b"}


def by_header() -> str:
    return request.headers["X-Tenant"]


def by_globals() -> str:
    return g.tenant


def tenants(make_site: Make, read: Callable[[], str], **options: Any) -> Site:
    """User 1 is the administrator of tenant a, and a guest at b."""
    site = make_site(**options)
    load = site.load

    @site.manager.user_loader
    def load_of_tenant(user_id: str) -> User | None:
        user = load(user_id)
        if user is not None:
            user.name = f"{user.name} of {read()}"
            user.roles = ["admin"] if read() == "a" else []
        return user

    @site.app.before_request
    def choose() -> None:
        g.tenant = request.headers.get("X-Tenant", "none")

    Principal(site.app)

    @identity_loaded.connect_via(site.app)
    def provide(_app: Flask, identity: Identity) -> None:
        for role in getattr(current_user, "roles", []):
            identity.provides.add(RoleNeed(role))

    site.receivers = provide  # type: ignore[attr-defined]  # signals hold it weakly

    @site.app.get("/enter")
    def enter() -> str:
        session["identity.id"], session["identity.auth_type"] = "1", None
        return ""

    @site.app.get("/admin")
    def admin() -> str:
        return "admin" if Permission(RoleNeed("admin")).can() else "guest"

    return site


READS = {"reads g.tenant": by_globals, "reads request.headers['X-Tenant']": by_header}


@pytest.mark.parametrize(("said", "read"), READS.items())
def test_loader_that_reads_the_tenant_is_asked_each_time_and_the_log_says_so_once(
    make_site: Make, caplog: pytest.LogCaptureFixture, said: str, read: Callable[[], str]
) -> None:
    site = tenants(make_site, read)
    client = site.client("1")
    site.loads.clear()
    names = [client.get("/who", headers=each).json["name"] for each in (A, B, A, A)]
    assert names == ["ann of a", "ann of b", "ann of a", "ann of a"]
    assert site.loads == ["1"] * 4
    assert site.cache.stats().unstored == {"reads the request": 4}
    messages = [record.getMessage() for record in caplog.records]
    assert len(messages) == 1
    assert f"the user loader {said}:" in messages[0]
    assert "USERCACHE_VARY" in messages[0]


@pytest.mark.parametrize("read", READS.values())
def test_vary_caches_each_tenant_and_keeps_their_roles_apart(
    make_site: Make, read: Callable[[], str]
) -> None:
    site = tenants(make_site, read, vary=read)
    client = site.client("1")
    client.get("/enter", headers=A)
    site.loads.clear()
    for _ in range(2):
        assert client.get("/admin", headers=A).text == "admin"
        assert client.get("/admin", headers=B).text == "guest"
        assert client.get("/who", headers=B).json["name"] == "ann of b"
    assert site.loads == ["1", "1"], "once for each tenant; /enter has no identity yet"
    site.users["1"]["name"] = "new"
    site.cache.invalidate("1")
    for headers, name in ((A, "new of a"), (B, "new of b"), (A, "new of a")):
        assert client.get("/who", headers=headers).json["name"] == name
    assert site.loads == ["1"] * 4


def test_vary_allows_to_read_what_it_read_and_nothing_else(make_site: Make) -> None:
    def read() -> str:
        return request.headers["X-Tenant"] if g.tenant else ""

    site = tenants(make_site, read, vary=by_header)
    client = site.client("1")
    site.loads.clear()
    for _ in range(3):
        client.get("/who", headers=A)
    assert site.loads == ["1"] * 3


def test_key_of_vary_is_not_mixed_with_an_app_that_reads_nothing(make_site: Make) -> None:
    site = make_site(vary=by_header)
    client = site.client("1")
    site.loads.clear()
    for headers in (A, B, A, B):
        client.get("/who", headers=headers)
    assert site.loads == ["1", "1"]


def broken() -> str:
    raise LookupError("which tenant?")


def unhashable() -> Any:
    return ["a"]


@pytest.mark.parametrize("vary", [lambda: None, broken, unhashable])
def test_vary_that_names_no_part_leaves_the_request_uncached(
    make_site: Make, vary: Callable[[], Any]
) -> None:
    site = make_site(vary=vary)
    client = site.client("1")
    site.loads.clear()
    assert [client.get("/who").json["name"] for _ in range(3)] == ["ann"] * 3
    assert site.loads == ["1"] * 3


def test_old_session_is_refused_though_the_entry_is_warm(site: Site) -> None:
    load = site.load

    @site.manager.user_loader
    def with_stamp(user_id: str) -> User | None:
        user = load(user_id)
        return user if user is not None and session.get("stamp") == user.stamp else None

    site.users["1"]["stamp"] = "old"
    mine, stolen = (with_session(site, _user_id="1", _fresh=True, stamp="old") for _ in "ab")
    assert [client.get("/who").json["id"] for client in (mine, stolen)] == ["1", "1"]
    site.users["1"]["stamp"] = "new"  # "log out everywhere", told to nobody
    with mine.session_transaction() as data:
        data["stamp"] = "new"
    for _ in range(2):
        assert mine.get("/who").json["id"] == "1"
        assert stolen.get("/who").json["id"] is None


def with_session(site: Site, **data: Any) -> Any:
    client = site.app.test_client()
    with client.session_transaction() as session:
        session.update(data)
    return client


TOUCHES: dict[str, Callable[[], object]] = {
    "request.host": lambda: request.host,
    "request.method": lambda: request.method,
    "request.environ": lambda: request.environ["REMOTE_ADDR"],
    "request.args": lambda: request.args.get("x"),
    "all arguments": lambda: dict(request.args),
    "request.cookies": lambda: "x" in request.cookies,
    "request.get_json": lambda: request.get_json(silent=True),
    "g.get": lambda: g.get("x"),
    "x in g": lambda: "x" in g,
    "all of g": lambda: list(g),
    "session": lambda: len(session),
    "session.permanent": lambda: session.permanent,
    "x in session": lambda: "x" in session,
    "set g": lambda: setattr(g, "x", 1),
    "g.setdefault": lambda: g.setdefault("x", 1),
    "g.pop": lambda: g.pop("x", None),
    "set session": lambda: session.update(x=1),
    "flash": lambda: flash("hello"),
    "session.modified": lambda: setattr(session, "modified", True),
}


@pytest.mark.parametrize("touch", TOUCHES.values(), ids=TOUCHES)
def test_whatever_a_loader_reads_or_leaves_behind_it_is_asked_each_time(
    site: Site, touch: Callable[[], object]
) -> None:
    load = site.load

    @site.manager.user_loader
    def nosy(user_id: str) -> User | None:
        touch()
        return load(user_id)

    client = with_session(site, _user_id="1", _fresh=True)
    for _ in range(3):
        assert client.get("/who").json["name"] == "ann"
    assert site.loads == ["1"] * 3
    assert site.cache.stats().unstored == {"reads the request": 3}


def test_loader_that_fails_fails_as_without_us_and_leaves_nothing_recording(site: Site) -> None:
    site.app.config["TESTING"] = False
    load, down = site.load, [True]

    @site.manager.user_loader
    def shaky(user_id: str) -> User | None:
        if down:
            raise ConnectionError
        return load(user_id)

    @site.app.errorhandler(ConnectionError)
    def unavailable(_error: Exception) -> tuple[str, int]:
        session["kind"] = type(request._get_current_object()).__name__
        return f"{type(g._get_current_object()).__name__} {session['kind']}", 503

    client = with_session(site, _user_id="1", _fresh=True)
    answer = client.get("/who")
    assert (answer.status_code, answer.text) == (503, "_AppCtxGlobals Request")
    down.clear()
    assert client.get("/who").json["name"] == "ann"


def test_two_threads_of_one_request_can_not_hide_what_the_loader_reads(site: Site) -> None:
    """One thread's run is on while the other begins its own; then the first reads the session."""
    load = site.load
    in_first, second_began = threading.Event(), threading.Event()
    threads: list[str] = []

    @site.manager.user_loader
    def reading(user_id: str) -> User | None:
        if site.racing:
            threads.append(threading.current_thread().name)
            if len(threads) == 1:
                in_first.set()
                assert second_began.wait(5)
                session.get("stamp")
            else:
                second_began.set()
        return load(user_id)

    @site.app.get("/both")
    def both() -> str:
        @copy_current_request_context
        def find_out(out: list[str]) -> None:
            out.append(current_user.name)

        names: list[str] = []
        one = threading.Thread(target=find_out, args=(names,), name="one")
        other = threading.Thread(
            target=copy_current_request_context(
                lambda: names.append(site.app.login_manager.user_callback("2").name)
            )
        )
        one.start()
        assert in_first.wait(5)
        other.start()
        one.join(5)
        other.join(5)
        return " ".join(sorted(names))

    site.racing = False  # type: ignore[attr-defined]
    client = with_session(site, _user_id="1", _fresh=True)
    site.racing = True  # type: ignore[attr-defined]
    assert client.get("/both").text == "ann bob"
    assert site.cache.stats().unstored == {"reads the request": 2}
    assert site.cache.stats().size == 0


class Account(User, flask_security.UserMixin):
    """A user of Flask-Security's."""

    fs_uniquifier = ""


class DictDatastore(UserDatastore):
    """Just enough of one for Flask-Security's own user loader."""

    def __init__(self, site: Site) -> None:
        super().__init__(Account, flask_security.RoleMixin)
        self.site = site

    def find_user(self, fs_uniquifier: str = "", **_more: Any) -> User | None:
        return self.site.load(fs_uniquifier)


def test_loader_of_flask_security_is_asked_each_time(
    make_site: Make, caplog: pytest.LogCaptureFixture
) -> None:
    settings = {"PASSWORD_SALT": "s", "PASSWORD_HASH": "plaintext", "USE_REGISTER_V2": True}
    site = make_site(config={f"SECURITY_{name}": value for name, value in settings.items()})
    Security(site.app, DictDatastore(site), register_blueprint=False)

    @site.app.get("/via")
    def via() -> str:
        return f"{current_user.name} {g.fs_authn_via}"

    client = with_session(site, _user_id="1", _fresh=True)
    assert [client.get("/via").text for _ in range(3)] == ["ann session"] * 3
    assert site.loads == ["1"] * 3
    said = [r.getMessage() for r in caplog.records if r.name == "wsgi_usercache"]
    assert len(said) == 1
    assert "leaves behind g.fs_authn_via, g.fs_paa" in said[0]


def copies() -> None:
    assert copy.copy(request.args) == copy.deepcopy(request.args) == request.args
    assert copy.copy(session) == session
    assert copy.deepcopy(g.flags) == g.flags


def types() -> None:
    assert isinstance(request.args, dict)
    assert isinstance(session, dict)


def whole_mappings() -> None:
    {**request.environ}
    for each in (request.environ, request.headers, g.flags, session, request.args):
        dict(each)


def special_methods() -> None:
    hash(request)
    assert request
    assert request == request
    assert g == g


def changes_of_flags() -> None:
    g.flags.pop("x", None)
    g.flags.setdefault("y", []).append(1)
    g.flags.update(z=1)


def changes_of_session() -> None:
    session.setdefault("list", []).append(1)
    session.permanent = True
    session.update(a=2)


def another_request() -> None:
    with current_app.test_request_context(base_url=request.url):
        assert request.url


# What an application's loader may do with what it finds. `json.dumps(session)` is not among
# them: Flask's own session can not be written so.
DEEDS: dict[str, Callable[[], object]] = {
    "flags as json": lambda: json.dumps(g.flags),
    "body as json": lambda: json.dumps(request.json),
    "flags and more": lambda: g.flags | {"a": 1},
    "flags are a dict": lambda: isinstance(g.flags, dict) or 1 / 0,
    "arguments as json": lambda: json.dumps(request.args),
    "arguments are equal": lambda: request.args == {} or 1 / 0,
    "types": types,
    "headers as text": lambda: "Host: " in str(request.headers) or 1 / 0,
    "arguments as text": lambda: f"{request.args!r}" == "ImmutableMultiDict([])" or 1 / 0,
    "whole mappings": whole_mappings,
    "cookies and more": lambda: request.cookies | {"a": 1},
    "session and more": lambda: session | {},
    "session as text": lambda: "_user_id" in repr(session) or 1 / 0,
    "arguments, copied": lambda: (request.args.to_dict(), request.args.copy()),
    "values and headers": lambda: (request.values.get("x"), list(request.headers)),
    "session, copied": lambda: json.dumps(dict(session)),
    "session, read": lambda: (session.get("a"), session.pop("zz", 0)),
    "special methods": special_methods,
    "a request of its own": lambda: Request(request.environ).url,
    "g, looked at": lambda: (vars(g), dir(g)),
    "g as text": lambda: "flask.g of" in repr(g) or 1 / 0,
    "request as text": lambda: "http://" in repr(request) or 1 / 0,
    "flags, changed": changes_of_flags,
    "flags, less": lambda: g.flags.pop("on"),
    "another request": another_request,
    "copies": copies,
    "messages": lambda: (flash("x"), get_flashed_messages()),
    "session, changed": changes_of_session,
    "request": lambda: (request.is_json, request.authorization, request.files, request.form),
}

TELL_NOTHING = (types, special_methods)  # of this request that is not so in each


@pytest.mark.parametrize("deed", [pytest.param(deed, id=name) for name, deed in DEEDS.items()])
def test_whatever_a_loader_does_with_a_request_it_fares_as_with_flask_alone(
    make_site: Make, deed: Callable[[], object]
) -> None:
    answers = []
    for cached in (True, False):
        site = make_site(cached=cached, config={"TESTING": False}, resign_interval=0.0)
        load = site.load

        @site.manager.user_loader
        def doing(user_id: str, load: Any = load) -> User | None:
            deed()
            return load(user_id)

        @site.app.post("/flags")
        def flags() -> dict[str, Any]:
            g.flags = {"on": 1}
            return {"name": current_user.name, "flags": g.flags, "session": dict(session)}

        client = with_session(site, _user_id="1", _fresh=True)
        answers.append([site.seen(client.post("/flags", json={"x": 1})) for _ in range(2)])
        if cached and deed not in TELL_NOTHING:
            assert site.cache.stats().unstored == {"reads the request": 2}
    assert answers[0] == answers[1]
    assert answers[0][0]["status"] == 200


def test_log_does_not_grow_with_what_loaders_read(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    load = site.load

    @site.manager.user_loader
    def stamped(user_id: str) -> User | None:
        session.get(f"stamp-{user_id}")
        return load(user_id)

    for number in range(150):
        with_session(site, _user_id=str(number), _fresh=True).get("/who")
    assert site.cache.stats().unstored == {"reads the request": 150}
    said = [r.getMessage() for r in caplog.records if r.name == "wsgi_usercache"]
    assert len(said) == len(set(said)) == 100
