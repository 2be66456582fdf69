"""What comes to guard files while they are already being served, and when that is honoured."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import flask
import pytest
from flask.sessions import SecureCookieSessionInterface
from guard_table import GUARDS, count, mark, refuse, send_another
from guards import APP, BLUEPRINT, SIGNALS, Site, Time, behind_login, write_files

from wsgi_usercache import Lane

Make = Callable[..., Site]

INTERVAL = 1.0  # seconds; USERCACHE_CHECK_INTERVAL's default


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_files(tmp_path_factory.mktemp("site"))


@pytest.fixture
def clock() -> Time:
    return Time()


@pytest.fixture
def make(root: Path, clock: Time) -> Make:
    return lambda change=None: Site(root, change, front=clock.behind)


def served(site: Site) -> int:
    return int(site.cache.stats().served)


def serve(site: Site) -> None:
    """Have the files of both places served, and at hand."""
    before = served(site)
    for place in (APP, BLUEPRINT):
        for method in ("GET", "GET", "HEAD"):
            assert site.ask(f"{place}a.css", method).lane is Lane.SERVE
    assert served(site) == before + 6


def is_late(name: str) -> bool:
    """Whether that can come late: a blueprint's own hooks are set up before it is registered."""
    blueprints = "_app_", "app_url", "of reports", "of outer", "middleware"
    return not any(part in name for part in blueprints) and name != "wsgi_app"


#: Set up as Flask allows it until it has handled a request; and listeners, at any time.
_SET_UP = ("its view", "the signal", "before", "after", "url", "teardown")
AT_ONCE = [name for name in GUARDS if is_late(name) and GUARDS[name].said.startswith(_SET_UP)]
IN_A_WHILE = [name for name in GUARDS if is_late(name) and name not in AT_ONCE]


def check(root: Path, site: Site, name: str) -> None:
    """A guard that came is honoured by the very next request for its files."""
    guard, before = GUARDS[name], served(site)
    alone = Site(root, guard.change)
    for each in (site, alone):
        each.seen.clear()
    for place in guard.places:
        for method in ("GET", "HEAD", "GET"):
            answer = site.ask(f"{place}a.css", method)
            assert answer.all == alone.ask(f"{place}a.css", method).all
            assert answer.lane is Lane.BYPASS
            assert guard.said in site.cache.explain(f"{place}a.css", method).reason
    assert guard.seen(site.seen) == guard.seen(alone.seen)
    assert served(site) == before


@pytest.mark.parametrize("name", AT_ONCE)
def test_what_is_set_up_before_flasks_first_request_counts_at_once(
    root: Path, make: Make, name: str
) -> None:
    site = make()
    serve(site)
    GUARDS[name].change(site)
    check(root, site, name)


@pytest.mark.parametrize("is_settled", [False, True])
@pytest.mark.parametrize("name", IN_A_WHILE)
def test_what_else_is_changed_counts_after_the_interval(
    root: Path, make: Make, clock: Time, name: str, is_settled: bool
) -> None:
    site = make()
    if is_settled:
        site.ask("/")
    serve(site)
    GUARDS[name].change(site)
    clock.now += INTERVAL
    check(root, site, name)


@pytest.mark.parametrize("name", IN_A_WHILE)
def test_what_else_is_changed_before_flasks_first_request_counts_from_then_on(
    root: Path, make: Make, name: str
) -> None:
    site = make()
    serve(site)
    GUARDS[name].change(site)
    site.ask("/")
    check(root, site, name)


@pytest.mark.parametrize("signal", SIGNALS, ids=lambda signal: signal.name)
def test_a_listener_that_comes_later_counts_at_once(root: Path, make: Make, signal: Any) -> None:
    site = make()
    site.ask("/")
    serve(site)
    GUARDS[signal.name].change(site)
    check(root, site, signal.name)


@pytest.mark.parametrize("signal", SIGNALS, ids=lambda signal: signal.name)
def test_a_listener_that_has_left_hinders_no_longer(make: Make, clock: Time, signal: Any) -> None:
    site = make()
    with signal.connected_to(lambda *_, **__: None, site.app):
        assert site.ask(f"{APP}a.css").lane is Lane.BYPASS
    clock.now += INTERVAL
    serve(site)


#: Appended by hand where Flask refuses to be set up any more.
BY_HAND: dict[str, tuple[str, Callable[..., Any]]] = {
    "before_request: refuse, of app": ("before_request_funcs", refuse),
    "before_request: count, of app": ("before_request_funcs", count),
    "after_request: mark, of app": ("after_request_funcs", mark),
    "teardown_request: count, of app": ("teardown_request_funcs", count),
    "url_value_preprocessor: send_another, of app": ("url_value_preprocessors", send_another),
}


@pytest.mark.parametrize("name", BY_HAND)
def test_a_hook_appended_by_hand_after_a_page_counts_after_the_interval(
    root: Path, make: Make, clock: Time, name: str
) -> None:
    site = make()
    site.ask("/")
    serve(site)
    with pytest.raises(AssertionError, match="already handled its first request"):
        GUARDS[name].change(site)
    table, hook = BY_HAND[name]

    def noted(*args: Any) -> Any:
        return hook(site, *args)

    noted.__qualname__, noted.__module__ = "hooked.<locals>.change.<locals>.noted", "guards"
    getattr(site.app, table).setdefault(None, []).append(noted)
    clock.now += INTERVAL
    check(root, site, name)


@pytest.mark.parametrize("endpoint", ["static", "outer.reports.static"])
def test_a_view_replaced_after_a_page_counts_after_the_interval(
    root: Path, make: Make, clock: Time, endpoint: str
) -> None:
    site = make()
    site.ask("/")
    serve(site)
    behind_login(endpoint)(site)
    clock.now += INTERVAL
    check(root, site, f"login on {endpoint}")


def test_what_is_gone_hinders_no_longer(make: Make, clock: Time) -> None:
    site = make(GUARDS["before_request: refuse, of app"].change)
    assert site.ask(f"{APP}a.css").status == "403 FORBIDDEN"
    site.app.before_request_funcs[None].clear()
    clock.now += INTERVAL
    serve(site)


def test_a_blueprint_registered_late_has_its_own_guards(make: Make, root: Path) -> None:
    site = make()
    serve(site)
    late = flask.Blueprint("late", "site", url_prefix="/late", static_folder=root / "reports")
    late.before_request(lambda: ("not for you", 403))
    site.app.register_blueprint(late)
    assert site.ask("/late/reports/a.css").status == "403 FORBIDDEN"
    assert site.ask(f"{APP}a.css").lane is Lane.SERVE


@pytest.mark.parametrize(
    ("endpoint", "seconds"),
    [
        ("new", 0.0),
        ("page", INTERVAL),
    ],
)
def test_a_rule_that_comes_late_takes_its_path_out(
    make: Make, clock: Time, endpoint: str, seconds: float
) -> None:
    site = make()
    serve(site)
    site.app.add_url_rule(f"{APP}a.css", endpoint, site.app.view_functions["page"])
    clock.now += seconds
    assert site.ask(f"{APP}a.css").body == b"a page"


def test_hooks_that_were_given_a_new_place_are_watched_there(
    root: Path, make: Make, clock: Time
) -> None:
    site = make()
    serve(site)
    site.app.before_request_funcs = defaultdict(list, site.app.before_request_funcs)
    for _ in range(2):
        clock.now += INTERVAL
        serve(site)
    GUARDS["before_request: refuse, of app"].change(site)
    clock.now += INTERVAL
    check(root, site, "before_request: refuse, of app")


@pytest.mark.parametrize("name", AT_ONCE)
def test_what_is_set_up_long_after_the_first_file_counts_after_the_interval(
    root: Path, make: Make, clock: Time, name: str
) -> None:
    site = make()
    for _ in range(3):
        serve(site)
        clock.now += 0.7 * INTERVAL
    GUARDS[name].change(site)
    clock.now += INTERVAL
    check(root, site, name)


def test_a_request_that_was_not_dispatched_settles_nothing(make: Make) -> None:
    class Broken(SecureCookieSessionInterface):
        def open_session(self, app: flask.Flask, request: flask.Request) -> None:
            raise OSError("the store is down")

    site = make()
    site.app.session_interface = Broken()
    assert site.ask("/").status == "500 INTERNAL SERVER ERROR"
    serve(site)
    site.app.before_request(lambda: ("not for you", 403))
    site.app.session_interface = SecureCookieSessionInterface()
    assert site.ask(f"{APP}a.css").status == "403 FORBIDDEN"
