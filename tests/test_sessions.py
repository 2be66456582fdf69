"""Sessions: opened as late and written as seldom as the lane allows, otherwise Flask's own."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from weakref import ref

import pytest
from cachelib import FileSystemCache
from flask import Flask, flash, g, get_flashed_messages, request, session
from flask.sessions import SecureCookieSession, SecureCookieSessionInterface
from flask_login import current_user
from flask_principal import Identity, Principal, UserNeed, identity_loaded
from flask_session import Session as FlaskSession
from wire import (
    KEY,
    Answer,
    Clock,
    CountingInterface,
    Store,
    call,
    login_app,
    serializer_at,
    signed,
    with_cache,
)

from wsgi_usercache.lanes import Lane

ANN = {"_user_id": "ann", "_fresh": True}
LANES = {"excluded_paths": ["/bypass/*"], "fresh_paths": ["/fresh/*"]}
LANE_PREFIXES = {Lane.CACHED: "/cached", Lane.BYPASS: "/bypass", Lane.FRESH: "/fresh"}


def show(*values: object) -> str:
    return repr(values)


def change_nested() -> str:
    session["list"].append(3)
    return show(session.modified)


def change_nested_and_say_so() -> str:
    session["list"].append(3)
    session.modified = True
    return show(session["list"])


def make_permanent() -> str:
    session.permanent = True
    return show(session.permanent, session.modified)


def delete() -> str:
    del session["a"]
    return show(dict(session))


def merge() -> str:
    session.update({"b": 2}, c=(1, 2))
    return show(session.modified, sorted(session))


def flashing() -> str:
    flash("first")
    flash("second", "error")
    return show(get_flashed_messages(with_categories=True), session.modified)


def set_item() -> str:
    session["a"] = datetime(2024, 1, 2, tzinfo=UTC)
    return show(session["a"], session.modified, session.accessed, session.new)


def flags() -> str:
    return show(session.accessed, session.modified, session.new, session.permanent)


ACTS: dict[str, Callable[[], str]] = {
    "nothing": lambda: "",
    "flags": flags,
    "get": lambda: show(session.get("a"), session.get("nothing", 7)),
    "dict": lambda: show(dict(session), {**session}, len(session), "a" in session, bool(session)),
    "items": lambda: show(list(session.items()), list(session.keys()), list(session.values())),
    "equal": lambda: show(session == {"a": 1}, session == {"a": 1}, session != {}),
    "kind": lambda: show(isinstance(session, SecureCookieSession), isinstance(session, dict)),
    "missing": lambda: session["nothing"],  # type: ignore[no-any-return]
    "copy": lambda: show(session.copy(), type(session.copy())),
    "set": set_item,
    "delete": delete,
    "update": merge,
    "pop": lambda: show(session.pop("a", 5), session.modified, dict(session)),
    "pop missing": lambda: show(session.pop("nothing", 5), session.modified),
    "setdefault": lambda: show(session.setdefault("a", 5), session.modified),
    "setdefault new": lambda: show(session.setdefault("z", 5), session.modified),
    "popitem": lambda: show(session.popitem(), session.modified),
    "clear": lambda: show(session.clear(), session.modified),
    "permanent": make_permanent,
    "nested": change_nested,
    "nested, said": change_nested_and_say_so,
    "flash": flashing,
    "flashed": lambda: show(get_flashed_messages(), session.modified),
    "unserialisable": lambda: session.update(a=object()) or "",  # type: ignore[func-returns-value]
}

STARTS: dict[str, dict[str, Any] | None] = {
    "none": None,
    "empty": {},
    "some": {"a": 1, "list": [1, 2], "_flashes": [("message", "hi")]},
    "permanent": {"_permanent": True, "a": 1, "list": [1, 2]},
    "forged": {"a": 1},
}


def cookie_of(start: str) -> str | None:
    """The Cookie header of a browser that begins with this session, signed just now."""
    data = STARTS[start]
    key = "stranger" if start == "forged" else KEY
    return None if data is None else f"session={signed(data, key=key)}"


def acting_app(key: str | None = KEY) -> Flask:
    """Each act, at a path for each lane."""
    app = Flask(__name__, static_folder=None)
    app.secret_key = key

    def act(name: str) -> str:
        return ACTS[name]()

    for prefix in LANE_PREFIXES.values():
        app.add_url_rule(f"{prefix}/<name>", f"act{prefix}", act)
    return app


def written(answer: Answer, key: str = KEY) -> Any:
    """What the answer puts into the session cookie: its attributes, its payload decoded."""
    cookies = answer.all("Set-Cookie")
    if not cookies or not answer.cookie:
        return cookies
    attributes = [a for a in cookies[0].split("; ")[1:] if not a.startswith("Expires=")]
    payload = serializer_at(lambda: 0, key=key).loads(answer.cookie)
    return attributes, "Expires=" in cookies[0], payload, len(cookies)


@pytest.mark.parametrize("lane", LANE_PREFIXES)
@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("name", ACTS)
def test_on_each_lane_the_session_does_what_flask_does(name: str, start: str, lane: Lane) -> None:
    if lane is Lane.BYPASS and name == "nothing":
        return  # below: there it is left alone
    alone, cached = acting_app(), with_cache(acting_app(), resign_interval=0, **LANES)
    path = f"{LANE_PREFIXES[lane]}/{name}"
    cookie = cookie_of(start)
    expected = call(alone, path, cookie)
    for _ in range(2):
        answer = call(cached, path, cookie)
        assert (answer.status, answer.body) == (expected.status, expected.body)
        assert written(answer) == written(expected)
        assert answer.all("Vary") == expected.all("Vary")


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("name", ACTS)
def test_only_the_unchanged_is_not_signed_again(name: str, start: str) -> None:
    """With the default interval, where a cookie just signed would be written unchanged."""
    alone, cached = acting_app(), with_cache(acting_app(), **LANES)
    cookie = cookie_of(start)
    expected = call(alone, f"/cached/{name}", cookie)
    answer = call(cached, f"/cached/{name}", cookie)
    assert (answer.status, answer.body) == (expected.status, expected.body)
    assert answer.all("Vary") == expected.all("Vary")
    if answer.cookie is None and expected.cookie:
        begun = (cookie or "").removeprefix("session=")
        assert expected.cookie.partition(".")[0] == begun.partition(".")[0]
    else:
        assert written(answer) == written(expected)


@pytest.mark.parametrize("start", STARTS)
def test_on_bypass_an_untouched_session_is_left_alone(start: str) -> None:
    cached = with_cache(acting_app(), resign_interval=0, **LANES)
    answer = call(cached, "/bypass/nothing", cookie_of(start))
    assert (answer.all("Set-Cookie"), answer.all("Vary")) == ([], [])


@pytest.mark.parametrize("lane", LANE_PREFIXES)
@pytest.mark.parametrize("name", ["dict", "flags", "kind", "set", "pop", "flash", "clear"])
def test_without_a_key_the_session_is_flasks_null_session(name: str, lane: Lane) -> None:
    alone, cached = acting_app(None), with_cache(acting_app(None), **LANES)
    for app in (alone, cached):
        app.testing = True
    outcomes: list[object] = []
    for app in (alone, cached):
        try:
            answer = call(app, f"{LANE_PREFIXES[lane]}/{name}", cookie_of("some"))
            outcomes.append((answer.status, answer.body, answer.headers))
        except RuntimeError as error:
            outcomes.append(str(error))
    assert outcomes[0] == outcomes[1]
    assert isinstance(outcomes[1], str) == (name in ("set", "pop", "flash", "clear"))


# Cookies that change on every response


def asked(app: Flask, times: int, cookie: str) -> list[Answer]:
    """Ask *times* times, as a browser that keeps its cookie."""
    answers = []
    for _ in range(times):
        answers.append(call(app, cookie=f"session={cookie}"))
        assert answers[-1].body == "ann"
        cookie = answers[-1].cookie or cookie
    return answers


def principal_app(loads: list[str], signals: list[str]) -> Flask:
    app = login_app(loads)
    Principal(app)

    @identity_loaded.connect_via(app)
    def grant(_app: Flask, identity: Identity) -> None:
        signals.append(str(identity.id))
        identity.user = current_user
        identity.provides.add(UserNeed(current_user.get_id()))

    @app.get("/needs")
    def needs() -> str:
        return str(UserNeed("ann") in g.identity.provides)

    app.extensions["keep"] = grant
    return app


IDENTITY = {**ANN, "identity.id": "ann", "identity.auth_type": "password"}


@pytest.mark.parametrize("interval", [0, 60])
def test_permanent_sessions_hit_although_flask_writes_them_on_every_response(
    interval: float,
) -> None:
    permanent = signed({**ANN, "_permanent": True}, age=5)
    alone_loads: list[str] = []
    cookies = [a.cookie for a in asked(login_app(alone_loads), 3, permanent)]
    assert all(cookies)
    assert len(alone_loads) == 3

    loads: list[str] = []
    app = with_cache(login_app(loads), resign_interval=interval)
    answers = asked(app, 5, permanent)
    assert len(loads) == 1
    assert [bool(a.cookie) for a in answers] == [interval == 0] * 5


@pytest.mark.parametrize("interval", [0, 60])
def test_sessions_with_an_identity_hit_although_principal_saves_them_each_time(
    interval: float,
) -> None:
    start = signed(IDENTITY, age=5)
    alone_loads: list[str] = []
    alone_signals: list[str] = []
    alone = principal_app(alone_loads, alone_signals)
    assert all(a.cookie for a in asked(alone, 3, start))
    assert (len(alone_loads), len(alone_signals)) == (3, 3)

    loads: list[str] = []
    signals: list[str] = []
    app = with_cache(principal_app(loads, signals), resign_interval=interval)
    asked(app, 2, start)
    before = len(loads), len(signals)
    answers = asked(app, 5, start)
    assert (len(loads), len(signals)) == before
    assert [bool(a.cookie) for a in answers] == [interval == 0] * 5
    assert call(app, "/needs", f"session={start}").body == "True"


@pytest.mark.parametrize(
    ("interval", "lifetime", "age", "signs"),
    [
        (60, 10_000, 55, False),
        (60, 10_000, 61, True),
        (3600, 10_000, 990, False),  # a tenth of the lifetime is the most
        (3600, 10_000, 1001, True),
        (60, 3, 0, True),  # a tenth of it might have gone by already: dates have whole seconds
        (0, 10_000, 0, True),
    ],
)
@pytest.mark.parametrize("session_of", [{**ANN, "_permanent": True}, IDENTITY])
def test_an_unchanged_session_is_signed_again_after_the_interval(
    session_of: dict[str, Any], interval: float, lifetime: float, age: float, signs: bool
) -> None:
    app = principal_app([], [])
    app.config["PERMANENT_SESSION_LIFETIME"] = timedelta(seconds=lifetime)
    # A clock that stands at a fraction, so that a cookie signed now is surely older than nothing.
    stands = float(int(datetime.now().timestamp())) + 0.5
    with_cache(app, wall=lambda: stands, resign_interval=interval)
    old = serializer_at(lambda: stands - age).dumps(dict(sorted(session_of.items())))
    answer = call(app, cookie=f"session={old}")
    assert (answer.cookie is not None) == signs
    if answer.cookie:
        age_of = serializer_at(lambda: stands)
        assert age_of.loads(answer.cookie) == {**session_of}
        dates = [age_of.loads(each, return_timestamp=True)[1] for each in (old, answer.cookie)]
        assert dates[0] < dates[1] or age == 0


def test_a_session_is_signed_as_flask_does_when_the_clock_goes_back_in_its_request() -> None:
    app, clock = login_app([]), Clock()

    @app.after_request
    def turn_back(response: Any) -> Any:
        clock.now -= 100
        return response

    with_cache(app, wall=clock)
    assert call(app, cookie=f"session={signed({**ANN, '_permanent': True}, age=5)}").cookie


def test_an_interface_with_its_own_expiry_signs_as_flask_does() -> None:
    class Soon(SecureCookieSessionInterface):
        def get_expiration_time(self, app: Flask, session: Any) -> datetime:
            return datetime.now(UTC) + timedelta(seconds=20)

    app = login_app([])
    app.session_interface = Soon()
    with_cache(app)
    assert all(a.cookie for a in asked(app, 3, signed({**ANN, "_permanent": True})))


def test_a_session_changed_back_is_not_signed_again_and_a_changed_one_is() -> None:
    app = with_cache(acting_app(), **LANES)
    assert call(app, "/cached/nested", cookie_of("permanent")).cookie
    assert call(app, "/cached/set", cookie_of("permanent")).cookie
    assert not call(app, "/cached/permanent", cookie_of("permanent")).cookie


# Other session interfaces


@pytest.mark.parametrize(("name", "prefix"), [("get", "/bypass"), ("set", "/bypass")])
def test_on_bypass_another_interface_opens_at_the_first_touch(name: str, prefix: str) -> None:
    store = Store()
    app = acting_app()
    app.session_interface = store
    with_cache(app, **LANES)
    answer = call(app, f"{prefix}/{name}")
    assert (store.opened, store.saved) == (1, 1)
    assert answer.all("Vary") == ["Cookie"]
    assert bool(store.kept) == (name == "set")


def test_on_bypass_another_interface_is_neither_opened_nor_saved_untouched() -> None:
    store = Store()
    app = acting_app()
    app.session_interface = store
    with_cache(app, **LANES)
    answer = call(app, "/bypass/nothing", "session=s1")
    assert (store.opened, store.saved) == (0, 0)
    assert answer.all("Vary") == []
    call(app, "/cached/nothing")
    call(app, "/fresh/nothing")
    assert (store.opened, store.saved) == (2, 2)


def flask_session_app(folder: Path, cache: Callable[[Flask], object], *, after: bool) -> Flask:
    app = login_app([])
    app.config["SESSION_TYPE"] = "cachelib"
    app.config["SESSION_CACHELIB"] = FileSystemCache(str(folder))

    @app.get("/in")
    def log_in() -> str:
        session.update(ANN)
        return "in"

    @app.get("/bypass/nothing")
    def nothing() -> str:
        return "nothing"

    @app.get("/bypass/who")
    def who() -> str:
        return str(current_user.get_id())

    if after:
        cache(app)
        FlaskSession(app)
    else:
        FlaskSession(app)
        cache(app)
    return app


@pytest.mark.parametrize("after", [False, True])
def test_flask_session_works_installed_before_and_after(tmp_path: Path, after: bool) -> None:
    cache = lambda app: with_cache(app, excluded_paths=["/bypass/*"])  # noqa: E731
    app = flask_session_app(tmp_path / "with", cache, after=after)
    alone = flask_session_app(tmp_path / "alone", lambda app: app, after=after)
    told = []
    for each in (alone, app):
        cookie = call(each, "/in").cookie
        header = f"session={cookie}"
        answers = [call(each, path, header) for path in ("/", "/", "/bypass/who")]
        told.append([(a.status, a.body, bool(a.cookie), a.all("Vary")) for a in answers])
        assert len(str(cookie)) < 60  # an id, not the session itself
    assert told[0] == told[1]
    assert told[1][2][1] == "ann"
    untouched = call(app, "/bypass/nothing", header)
    assert (untouched.all("Set-Cookie"), untouched.all("Vary")) == ([], [])


def test_the_apps_interface_shows_through() -> None:
    app = acting_app()
    store = app.session_interface = Store()
    with_cache(app)
    call(app, "/cached/get")
    seen: Any = app.session_interface
    assert isinstance(seen, Store)
    assert isinstance(seen, SecureCookieSessionInterface)
    assert seen.colour == "green"
    seen.colour = "red"
    assert store.colour == "red"
    assert seen.get_cookie_name(app) == "session"
    with pytest.raises(AttributeError):
        seen.nothing


def test_a_replaced_interface_is_wrapped_again_and_a_returning_one_once() -> None:
    app = with_cache(acting_app(), **LANES)
    call(app, "/cached/get")
    ours: Any = app.session_interface
    for _ in range(3):
        store = app.session_interface = Store()
        call(app, "/bypass/nothing")
        call(app, "/bypass/get")
        assert store.opened == 1
        app.session_interface = ours
        call(app, "/bypass/get")
    assert type(app.session_interface.wrapped) is SecureCookieSessionInterface  # type: ignore[attr-defined]


def test_an_interface_that_learns_its_own_ways_later_is_asked() -> None:
    app = acting_app()
    app.session_interface = CountingInterface()
    with_cache(app)
    assert "1" in call(app, "/cached/get", cookie_of("some")).body
    app.session_interface.open_session = (  # type: ignore[method-assign]
        lambda app, request: SecureCookieSession({"a": "other"})
    )
    assert "other" in call(app, "/cached/get", cookie_of("some")).body


def test_a_method_replaced_in_flasks_own_class_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    app = with_cache(acting_app())
    monkeypatch.setattr(
        SecureCookieSessionInterface,
        "open_session",
        lambda self, app, request: SecureCookieSession({"a": "traced"}),
    )
    assert "traced" in call(app, "/cached/get", cookie_of("some")).body


def test_test_clients_and_their_session_transactions_work() -> None:
    app = with_cache(acting_app(), **LANES)
    client = app.test_client()
    for _ in range(2):  # before the app is wrapped, and after
        with client.session_transaction() as opened:
            opened["a"] = opened.get("a", 0) + 1
        assert client.get("/bypass/get").status_code == 200
    assert client.get("/bypass/get").text == "(2, 7)"
    with app.test_request_context("/bypass/get"):
        assert session.get("a") is None


# What outlives a request


@pytest.fixture
def no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("path", ["/", "/bypass/who", "/bypass/nothing"])
def test_a_request_and_its_user_die_with_their_answer(path: str) -> None:
    app = login_app([])
    alive: list[ref[Any]] = []

    @app.get("/bypass/who")
    def who() -> str:
        return str(current_user.get_id())

    @app.get("/bypass/nothing")
    def nothing() -> str:
        return "ann"

    @app.after_request
    def note(response: Any) -> Any:
        alive.append(ref(request._get_current_object()))  # type: ignore[attr-defined]
        if "nothing" not in path:
            alive.append(ref(current_user._get_current_object()))
        return response

    with_cache(app, excluded_paths=["/bypass/*"])
    for _ in range(2):
        assert call(app, path, f"session={signed(ANN)}").body == "ann"
    assert alive
    assert [each() for each in alive] == [None] * len(alive)
