"""Odd hooks, views and folders: what can not be told is left to Flask, and nothing fails."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import flask
import pytest
from guards import APP, BLUEPRINT, Change, Site, Time, become, behind, marked, write_files
from werkzeug.local import LocalProxy

from wsgi_usercache import Lane

PLACES = (APP, BLUEPRINT)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_files(tmp_path_factory.mktemp("site"))


def check(root: Path, change: Change, lanes: tuple[Lane, ...]) -> None:
    """All is as with Flask alone, and the files of both places take these *lanes*."""
    for page in ((), ("/",)):
        site, alone = Site(root, change, front=behind), Site(root, change)
        for path in page:
            assert site.ask(path).all == alone.ask(path).all
        for place, lane in zip(PLACES, lanes, strict=True):
            for method in ("GET", "HEAD", "GET"):
                answer = site.ask(f"{place}a.css", method)
                assert answer.all == alone.ask(f"{place}a.css", method).all
                assert answer.lane is lane
            assert site.cache.explain(f"{place}a.css").lane is lane
        assert site.seen == alone.seen
        assert len(site.kept) == len(alone.kept)


class Noting:
    """A hook that is an object, or has one."""

    def __init__(self, site: Site) -> None:
        self.saw = site.saw

    def __call__(self) -> None:
        self.saw("object")

    def method(self) -> None:
        self.saw("method")


def compiled(site: Site) -> Any:
    """Return a function that belongs to no module, as generators of code make them."""
    names: dict[str, Any] = {"site": site}
    exec("def hook():\n    site.saw('compiled')", names)
    return names["hook"]


def coroutine(site: Site) -> Any:
    async def hook() -> None:
        site.saw("coroutine")

    return hook


def like_ours(hook: Any) -> Any:
    hook.__module__, hook.__qualname__ = "wsgi_usercache.attaching", "Attachment.put"
    return hook


HOOKS: dict[str, Callable[[Site], Any]] = {
    "object": Noting,
    "method": lambda site: Noting(site).method,
    "partial": lambda site: functools.partial(site.saw, "partial"),
    "built in": lambda site: functools.partial(site.kept.append, None),
    "built-in method": lambda site: site.kept.reverse,
    "lambda": lambda site: lambda: site.saw("lambda"),
    "coroutine": coroutine,
    "function named like ours": lambda site: like_ours(lambda: site.saw("function")),
    "object named like ours": lambda site: like_ours(Noting(site)),
    "compiled": compiled,
}


@pytest.mark.parametrize("name", HOOKS)
def test_any_callable_may_be_a_hook(root: Path, name: str) -> None:
    check(
        root, lambda site: site.app.before_request(HOOKS[name](site)), (Lane.BYPASS, Lane.BYPASS)
    )


def of_another_app(site: Site) -> None:
    other = flask.Flask("other", static_folder=site.root / "reports", static_url_path="/static")
    site.kept.append(other)
    site.app.view_functions["static"] = other.view_functions["static"]


def chosen(site: Site) -> None:
    """Have a view that is there only while a request is answered."""
    view = site.app.view_functions["static"]

    def choose() -> Any:
        assert flask.request.endpoint == "static"
        return view

    site.app.view_functions["static"] = LocalProxy(choose)


def test_a_view_that_can_not_be_looked_at_breaks_nothing(
    root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    site, alone = Site(root, chosen, front=behind), Site(root, chosen)
    for path in ("/", f"{APP}a.css", f"{BLUEPRINT}a.css", "/", f"{APP}a.css"):
        answer = site.ask(path)
        assert answer.all == alone.ask(path).all
        assert answer.status == "200 OK"
        assert path != f"{APP}a.css" or answer.lane is not Lane.SERVE
    assert [record.levelname for record in caplog.records] == ["ERROR"]


def of_another_blueprint(site: Site) -> None:
    other = flask.Blueprint("other", "site", static_folder=site.root / "app")
    site.register().view_functions["outer.reports.static"] = other.send_static_file


def of_another_app_bound(site: Site) -> None:
    site.app.view_functions["static"] = flask.Flask(
        "other", static_folder=site.root / "reports"
    ).send_static_file


@pytest.mark.parametrize("change", [of_another_app, of_another_app_bound])
def test_another_apps_view_sends_its_own_files(root: Path, change: Change) -> None:
    check(root, change, (Lane.BYPASS, Lane.SERVE))


def test_another_blueprints_view_sends_its_own_files(root: Path) -> None:
    site, alone = (Site(root, of_another_blueprint, front=front) for front in (behind, None))
    for _ in range(2):
        assert site.ask(f"{BLUEPRINT}b.css").body == alone.ask(f"{BLUEPRINT}b.css").body != b""
        assert site.ask(f"{BLUEPRINT}b.css").all == alone.ask(f"{BLUEPRINT}b.css").all


def folder(end: Callable[[], str]) -> Change:
    """Have the end of the app's folder chosen each time it is asked for."""
    stock = flask.Flask.static_folder.fget  # type: ignore[attr-defined]  # a property
    return lambda site: become(site.app, static_folder=property(lambda app: stock(app) + end()))


FOLDERS: dict[str, Change] = {
    "by the request": folder(lambda: flask.request.args.get("in", "")),
    "only in requests": folder(lambda: "/none" if flask.has_request_context() else ""),
    "there is none": lambda site: become(
        site.app, has_static_folder=property(lambda _: not flask.has_request_context())
    ),
}


@pytest.mark.parametrize("name", FOLDERS)
def test_a_folder_chosen_for_each_request_is_left_to_flask(root: Path, name: str) -> None:
    check(root, FOLDERS[name], (Lane.BYPASS, Lane.SERVE))


class Own(flask.Flask):
    def process_response(self, response: flask.Response) -> flask.Response:
        return marked(super().process_response(response))


class Answering(flask.Flask):
    def __getattribute__(self, name: str) -> Any:
        if name == "process_response":
            return lambda response: marked(flask.Flask.process_response(self, response))
        return super().__getattribute__(name)


def passed(site: Site, response: flask.Response) -> flask.Response:
    return marked(flask.Flask.process_response(site.app, response))


APPS: dict[str, Change] = {
    "subclass": lambda site: setattr(site.app, "__class__", Own),
    "__getattribute__": lambda site: setattr(site.app, "__class__", Answering),
    "partial": lambda site: setattr(site.app, "process_response", functools.partial(passed, site)),
    "another method": lambda site: setattr(site.app, "process_response", site.app.make_response),
}


@pytest.mark.parametrize("name", APPS)
def test_a_method_is_flasks_own_only_in_its_own_place(root: Path, name: str) -> None:
    def change(site: Site) -> None:
        APPS[name](site)

    check(root, change, (Lane.BYPASS, Lane.BYPASS))


#: What a tracer may put in Flask's own classes.
PATCHED = [
    (flask.Flask, "process_response"),
    (flask.Flask, "dispatch_request"),
    (flask.Flask, "send_static_file"),
    (flask.Blueprint, "send_static_file"),
]


@pytest.mark.parametrize(("kind", "name"), PATCHED)
def test_a_patch_of_flasks_own_class_guards(
    root: Path, monkeypatch: pytest.MonkeyPatch, kind: type, name: str
) -> None:
    stock = getattr(kind, name)
    monkeypatch.setattr(kind, name, lambda *args, **values: marked(stock(*args, **values)))
    place = APP if kind is flask.Flask else BLUEPRINT
    site, alone = Site(root, front=behind), Site(root)
    for _ in range(2):
        assert site.ask(f"{place}a.css").all == alone.ask(f"{place}a.css").all


def test_an_own_class_of_g_guards(root: Path) -> None:
    def change(site: Site) -> None:
        def made() -> Any:
            site.saw("made")
            return flask.Flask.app_ctx_globals_class()

        site.app.app_ctx_globals_class = made  # type: ignore[assignment]

    check(root, change, (Lane.BYPASS, Lane.BYPASS))


class Tenants(flask.Flask.url_map_class):
    """A map of rules of which some are those of the tenant that a header names."""

    def bind_to_environ(self, environ: Any, *args: Any, **options: Any) -> Any:
        tenant = environ.get("HTTP_X_TENANT", "")
        return super().bind_to_environ(environ, **{**options, "subdomain": tenant})


def test_a_map_of_the_apps_own_matches_each_request(root: Path) -> None:
    def change(site: Site) -> None:
        site.app.url_map.__class__ = Tenants
        path = "/static/<path:filename>"
        site.app.add_url_rule(path, "own", lambda filename: "acme's", subdomain="acme")

    site, alone = Site(root, change, front=Time().behind), Site(root, change)
    for tenant in ("", "", "acme", "acme", "nobody", "") * 2:
        asked = {"X-Tenant": tenant}
        assert site.ask(f"{APP}a.css", **asked).all == alone.ask(f"{APP}a.css", **asked).all
