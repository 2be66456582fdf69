"""Static routes: served where that is what Flask would do, left to Flask on any doubt."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import flask
import flask_login
import flask_principal
import flask_sqlalchemy
import pytest
from flask import signals
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.test import Client, create_environ
from werkzeug.wrappers import Response

from wsgi_usercache.at_hand import AtHand
from wsgi_usercache.lanes import LANE, Lane, LaneRules, compile_patterns
from wsgi_usercache.middleware import Middleware
from wsgi_usercache.routes import StaticRoutes, is_wrapped
from wsgi_usercache.static import StaticFiles
from wsgi_usercache.statistics import Tally

Change = Callable[[flask.Flask], object]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("app", "reports"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.css").write_text(f"/* {name} */")
    return tmp_path


@pytest.fixture
def app(folder: Path) -> flask.Flask:
    app = flask.Flask("site", static_folder=str(folder / "app"), static_url_path="/static")
    app.register_blueprint(blueprint(folder))
    return app


def blueprint(folder: Path, **options: Any) -> flask.Blueprint:
    options = {"url_prefix": "/reports", "static_url_path": "files"} | options
    return flask.Blueprint("reports", "site", static_folder=str(folder / "reports"), **options)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Front:
    """*app* behind the middleware, as the extension puts it together."""

    def __init__(self, app: flask.Flask, mode: str = "auto", **options: Any) -> None:
        self.app = app
        self.clock = Clock()
        self.at_hand = AtHand()
        self.routes = StaticRoutes(
            app, mode, changed=self.at_hand.clear, clock=self.clock, **options
        )
        none = compile_patterns(())
        self.rules = LaneRules(none, none, self.routes)
        self.static = StaticFiles(
            self.routes.file_for, dropped=self.at_hand.clear, clock=self.clock
        )
        self.tallies = {lane: Tally() for lane in Lane}
        self.middleware = Middleware(app.wsgi_app, lambda _: self, clock=self.clock)

    def settled(self) -> Front:
        """The same once Flask has handled a request."""
        with self.app.test_request_context():
            signals.request_started.send(self.app)
        return self

    def lane(self, path: str, method: str = "GET", **environ: Any) -> Lane:
        """Return the lane, the same by each way to ask for it."""
        full = create_environ(path, method=method) | environ
        lane = self.rules.lane_for(full)
        assert self.rules.explain(full).lane is lane
        return lane

    def reason(self, path: str, method: str = "GET") -> str:
        return self.rules.explain(create_environ(path, method=method)).reason


def each_way(app: flask.Flask, mode: str = "auto", **options: Any) -> list[Front]:
    """Return a front whose routes may still grow, and one whose routes have settled."""
    return [Front(app, mode, **options), Front(app, mode, **options).settled()]


def test_stock_static_files_of_app_and_blueprints_are_served(
    app: flask.Flask, folder: Path
) -> None:
    outer = flask.Blueprint("outer", "site", url_prefix="/outer")
    outer.register_blueprint(blueprint(folder))
    app.register_blueprint(outer)
    app.register_blueprint(blueprint(folder), name="twice", url_prefix=None)
    for front in each_way(app):
        for path in ("/static/", "/reports/files/", "/outer/reports/files/"):
            assert front.lane(f"{path}a.css") is Lane.SERVE
            assert front.lane(f"{path}a.css", "HEAD") is Lane.SERVE
            assert front.lane(f"{path}a.css", "POST") is Lane.BYPASS
        for path in ("/", "/static", "/staticky/a.css", "/reports", "/reports/a.css", "/files/"):
            assert front.lane(path) is Lane.CACHED


def rest(path: str = "") -> str:
    return f"more specific: {path}"


def with_rules(app: flask.Flask) -> None:
    app.add_url_rule("/static/dyn.js", view_func=rest, endpoint="dyn")
    app.add_url_rule("/static/up", view_func=rest, endpoint="up", methods=["POST"])
    app.add_url_rule("/static/live", view_func=rest, endpoint="live", websocket=True)
    app.add_url_rule("/static/dir/", view_func=rest, endpoint="dir")
    app.add_url_rule("/<int:path>", view_func=rest, endpoint="number")


def test_a_more_specific_route_takes_its_path_out(app: flask.Flask) -> None:
    with_rules(app)
    upgrade = {"HTTP_UPGRADE": "websocket", "HTTP_CONNECTION": "Upgrade"}
    for front in each_way(app):
        for _ in range(2):
            assert front.lane("/static/dyn.js") is Lane.CACHED
            assert front.lane("/static/dir") is Lane.CACHED
            assert front.lane("/static/up", "POST") is Lane.CACHED
            assert front.lane("/static/up") is Lane.SERVE
            assert front.lane("/static/live") is Lane.SERVE
            assert front.lane("/static/live", **upgrade) is Lane.CACHED
            assert front.lane("/static/a.css", **upgrade) is Lane.CACHED


PATHS = [
    "/static/a.css",
    "//static/a.css",
    "/static//a.css",
    "/static/./a.css",
    "/static/x/../a.css",
    "/static/../app/a.css",
    "/static/%2e%2e/reports/a.css",
    "/static/a%2Ecss",
    "/static/a.css/",
    "/static/a.css%00",
    "/static/%ff",
    "/static/none.css",
    "/static/",
    "/static",
    "/Static/a.css",
    "/reports/files/a.css",
    "/reports//files/a.css",
    "/reports/files/../../static/a.css",
    "/static/dyn.js",
    "/static/dir",
    "/static/up",
    "/static/live",
    "/a.css",
    "/7",
    "/",
    "/prefix/static/a.css",
]


def answer(wsgi_app: Any, path: str, method: str, **headers: str) -> object:
    environ = create_environ(path, method=method, headers=headers)
    response = Client(wsgi_app, Response).open(environ, buffered=True)
    kept = [(k, v) for k, v in response.headers if k not in ("Date", "Expires")]
    return response.status, kept, response.data


def with_errors(app: flask.Flask) -> None:
    app.register_error_handler(416, lambda _: ("no such range, sorry", 416))
    app.register_error_handler(404, lambda _: ("no such page, sorry", 404))


@pytest.mark.parametrize("options", [{}, {"static_url_path": ""}, {"static_url_path": "/é"}])
@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "POST"])
@pytest.mark.parametrize("mounted", [False, True])
def test_every_path_answers_as_without_us(
    folder: Path, options: dict[str, str], method: str, mounted: bool
) -> None:
    app = flask.Flask("site", static_folder=str(folder / "app"), **options)
    app.register_blueprint(blueprint(folder))
    with_rules(app)
    with_errors(app)
    plain, front = app.wsgi_app, Front(app).middleware
    served = 0
    for path in PATHS * 2:
        for headers in ({}, {"Range": "bytes=1-3"}, {"Range": "bytes=999-"}):
            asked = {} if method == "HEAD" else headers  # a range is that of a GET
            expected = answer(under(plain, mounted), path, method, **asked)
            environ: dict[str, Any] = {}
            noting = under(lambda e, s, seen=environ: (front(e, s), seen.update(e))[0], mounted)
            assert answer(noting, path, method, **headers) == expected, path
            served += environ.get(LANE) is Lane.SERVE
    assert bool(served) is (method in ("GET", "HEAD"))


def under(wsgi_app: Any, mounted: bool) -> Any:
    return DispatcherMiddleware(wsgi_app, {"/prefix": wsgi_app}) if mounted else wsgi_app


def set_config(**config: Any) -> Change:
    return lambda app: app.config.update(config)


def hook(kind: str) -> Change:
    def noted(*_: object) -> None:
        """Stand in for a hook of the application."""

    return lambda app: getattr(app, kind)(noted)


def connect(signal: Any) -> Change:
    def noted(app: flask.Flask) -> object:
        app.extensions["listener"] = lambda *_, **__: None  # signals hold it weakly
        return signal.connect(app.extensions["listener"], app)

    return noted


def become(**members: Any) -> Change:
    def change(app: flask.Flask) -> None:
        app.__class__ = type("Site", (flask.Flask,), members)

    return change


def on_instance(name: str) -> Change:
    def change(app: flask.Flask) -> None:
        stock = getattr(app, name)
        setattr(app, name, lambda *args, **options: stock(*args, **options))

    return change


def overriding(name: str) -> Change:
    stock = getattr(flask.Flask, name)
    return become(**{name: lambda self, *args, **options: stock(self, *args, **options)})


GUARDS: dict[str, tuple[Change, str]] = {
    **{
        kind: (hook(kind), f"{name} has test_routes.hook.<locals>.noted")
        for kind, name in [
            ("before_request", "before_request"),
            ("after_request", "after_request"),
            ("teardown_request", "teardown_request"),
            ("teardown_appcontext", "teardown_appcontext"),
            ("url_value_preprocessor", "url_value_preprocessor"),
        ]
    },
    **{
        signal.name: (connect(signal), f"the signal {signal.name} goes to")
        for signal in (
            signals.request_started,
            signals.request_finished,
            signals.request_tearing_down,
            signals.appcontext_pushed,
            signals.appcontext_popped,
            signals.appcontext_tearing_down,
        )
    },
    **{
        f"overridden {name}": (overriding(name), f"Site.{name} is not Flask's own")
        for name in (
            "wsgi_app",
            "request_context",
            "app_context",
            "ensure_sync",
            "create_url_adapter",
            "preprocess_request",
            "full_dispatch_request",
            "dispatch_request",
            "finalize_request",
            "make_response",
            "process_response",
            "do_teardown_request",
            "do_teardown_appcontext",
        )
    },
    "on the instance": (on_instance("process_response"), "Flask.process_response is not"),
    "request_class": (become(request_class=type("R", (flask.Request,), {})), "request_class"),
    "response_class": (become(response_class=type("R", (flask.Response,), {})), "response_class"),
    "USE_X_SENDFILE": (set_config(USE_X_SENDFILE=True), "USE_X_SENDFILE is set"),
}


@pytest.mark.parametrize("guard", GUARDS)
def test_what_could_observe_or_forbid_a_file_leaves_it_to_flask(
    app: flask.Flask, guard: str, caplog: pytest.LogCaptureFixture
) -> None:
    change, said = GUARDS[guard]
    change(app)
    for front in each_way(app):
        caplog.clear()
        with caplog.at_level(logging.INFO, "wsgi_usercache"):
            for path in ("/static/a.css", "/reports/files/a.css") * 2:
                assert front.lane(path) is Lane.BYPASS
        assert said in front.reason("/static/a.css")
        assert [said in message for message in caplog.messages] == [True]
        assert "USERCACHE_STATIC" in caplog.messages[0]


@pytest.mark.parametrize("guard", GUARDS)
def test_serve_serves_all_the_same_and_warns_once(
    app: flask.Flask, guard: str, caplog: pytest.LogCaptureFixture
) -> None:
    change, said = GUARDS[guard]
    change(app)
    for front in each_way(app, "serve"):
        caplog.clear()
        for path in ("/static/a.css", "/reports/files/a.css") * 2:
            assert front.lane(path) is Lane.SERVE
        assert f"served although {said}" in front.reason("/static/a.css")
        assert [(r.levelname, said in r.message) for r in caplog.records] == [("WARNING", True)]


def test_a_blueprints_own_hooks_guard_only_its_files(app: flask.Flask, folder: Path) -> None:
    outer = flask.Blueprint("outer", "site", url_prefix="/outer")
    outer.before_request(lambda: None)
    outer.register_blueprint(blueprint(folder))
    app.register_blueprint(outer)
    for front in each_way(app):
        assert front.lane("/static/a.css") is Lane.SERVE
        assert front.lane("/reports/files/a.css") is Lane.SERVE
        assert front.lane("/outer/reports/files/a.css") is Lane.BYPASS


def test_the_known_harmless_hooks_guard_nothing(app: flask.Flask) -> None:
    app.config.update(SECRET_KEY="x", SQLALCHEMY_DATABASE_URI="sqlite://")
    flask_login.LoginManager(app)
    flask_principal.Principal(app)
    flask_sqlalchemy.SQLAlchemy(app)
    assert app.before_request_funcs[None]
    assert app.after_request_funcs[None]
    assert app.teardown_appcontext_funcs
    for front in each_way(app):
        assert front.lane("/static/a.css") is Lane.SERVE


def test_a_harmless_hook_that_was_overridden_guards(app: flask.Flask) -> None:
    class Login(flask_login.LoginManager):  # type: ignore[misc]
        def _update_remember_cookie(self, response: flask.Response) -> flask.Response:
            return response

    Login(app)
    assert Front(app).lane("/static/a.css") is Lane.BYPASS


def test_a_harmless_hook_that_was_decorated_guards(app: flask.Flask) -> None:
    login = flask_login.LoginManager()

    @functools.wraps(login._update_remember_cookie)
    def audited(response: flask.Response) -> flask.Response:
        return response

    app.after_request(audited)
    assert Front(app).lane("/static/a.css") is Lane.BYPASS


def test_a_hook_of_somebody_with_a_similar_name_guards(app: flask.Flask) -> None:
    def theirs() -> None:
        """Stand in for another package."""

    theirs.__module__ = "wsgi_usercache_extras.hooks"
    app.before_request(theirs)
    assert Front(app).lane("/static/a.css") is Lane.BYPASS


def test_a_listener_counts_from_the_moment_it_is_connected(app: flask.Flask) -> None:
    front = Front(app).settled()
    assert front.lane("/static/a.css") is Lane.SERVE
    with signals.request_started.connected_to(lambda *_: None, flask.Flask("other")):
        assert front.lane("/static/a.css") is Lane.SERVE
    with signals.request_started.connected_to(lambda *_: None, app):
        assert front.lane("/static/a.css") is Lane.BYPASS
    front.clock.now += 1
    assert front.lane("/static/a.css") is Lane.SERVE


def wrapped_view(app: flask.Flask) -> None:
    view = app.view_functions["static"]
    app.view_functions["static"] = lambda **values: view(**values)


def relative_folder(app: flask.Flask) -> None:
    app.root_path, app.static_folder = "", "app"


def view_for_users(app: flask.Flask) -> None:
    flask_login.LoginManager(app)
    app.view_functions["static"] = flask_login.login_required(app.view_functions["static"])


NOT_STOCK: dict[str, Change] = {
    "wrapped view": wrapped_view,
    "view for users only": view_for_users,
    "send_static_file": overriding("send_static_file"),
    "send_static_file on the instance": on_instance("send_static_file"),
    "get_send_file_max_age": overriding("get_send_file_max_age"),
    "another app's view": lambda app: app.view_functions.update(
        static=flask.Flask("other").send_static_file
    ),
    "folder gone": lambda app: setattr(app, "static_folder", None),
    "folder relative": lambda app: (
        setattr(app, "root_path", ""),
        setattr(app, "static_folder", "app"),
    ),
}


@pytest.mark.parametrize("kind", NOT_STOCK)
def test_a_view_that_is_not_stock_is_never_served(
    app: flask.Flask, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    NOT_STOCK[kind](app)
    for mode in ("auto", "serve", "bypass"):
        for front in each_way(app, mode):
            assert front.lane("/static/a.css") is Lane.BYPASS
            assert "left to Flask because" in front.reason("/static/a.css")
    assert "cannot serve" in caplog.text


def test_a_blueprints_overridden_view_is_never_served(app: flask.Flask, folder: Path) -> None:
    class Reports(flask.Blueprint):
        def get_send_file_max_age(self, filename: str | None) -> int:
            return 7

    app.register_blueprint(
        Reports("own", "site", static_folder=str(folder / "reports"), url_prefix="/own")
    )
    for front in each_way(app, "serve"):
        assert front.lane("/own/reports/a.css") is Lane.BYPASS
        assert front.lane("/static/a.css") is Lane.SERVE


def test_an_apps_own_maximum_age_concerns_its_blueprints_too(app: flask.Flask) -> None:
    overriding("get_send_file_max_age")(app)
    for front in each_way(app, "serve"):
        assert front.lane("/reports/files/a.css") is Lane.BYPASS


def test_another_method_of_a_blueprint_is_not_its_stock_view(folder: Path) -> None:
    class Reports(flask.Blueprint):
        def download(self, filename: str) -> str:
            return f"made for you: {filename}"

    reports = Reports("reports", "site", static_folder=str(folder / "reports"))
    app = flask.Flask("site", static_folder=None)
    app.add_url_rule("/d/<path:filename>", endpoint="static", view_func=reports.download)
    for front in each_way(app, "serve"):
        assert front.lane("/d/a.css") is Lane.BYPASS


def test_being_installed_ourselves_is_no_guard(app: flask.Flask) -> None:
    app.wsgi_app = Front(app).middleware  # type: ignore[method-assign]
    for front in each_way(app):
        assert front.lane("/static/a.css") is Lane.SERVE


def test_a_rule_with_more_than_a_filename_is_left_to_its_view(folder: Path) -> None:
    app = flask.Flask("site", static_folder=None)
    app.register_blueprint(blueprint(folder, url_prefix="/<tenant>"))
    app.register_blueprint(
        blueprint(folder), name="de", url_prefix="/de", url_defaults={"lang": "de"}
    )
    for front in each_way(app, "serve"):
        assert front.lane("/acme/files/a.css") is Lane.BYPASS
        assert front.lane("/de/files/a.css") is Lane.BYPASS


def test_the_apps_own_view_on_another_route_is_served(folder: Path) -> None:
    app = flask.Flask("site", static_folder=None)
    app.static_folder = str(folder / "app")
    app.add_url_rule("/f/<path:filename>", endpoint="static", view_func=app.send_static_file)
    for front in each_way(app):
        assert front.lane("/f/a.css") is Lane.SERVE


def test_a_view_that_only_happens_to_be_called_static_is_none(app: flask.Flask) -> None:
    pages = flask.Blueprint("pages", "site")
    pages.add_url_rule("/static/about/<word>", endpoint="static", view_func=rest)
    app.register_blueprint(pages)
    app.add_url_rule("/static/more/<filename>", endpoint="ecstatic", view_func=rest)
    for front in each_way(app):
        assert front.lane("/static/about/us") is Lane.CACHED
        assert front.lane("/static/more/us") is Lane.CACHED


@pytest.mark.parametrize("settled", [False, True])
def test_bypass_and_off_say_it_outright(app: flask.Flask, settled: bool) -> None:
    for mode, lane in (("bypass", Lane.BYPASS), ("off", Lane.CACHED)):
        front = Front(app, mode)
        if settled:
            front.settled()
        assert front.lane("/static/a.css") is lane
    assert "USERCACHE_STATIC" in Front(app, "bypass").reason("/static/a.css")


def test_a_reason_names_the_route(app: flask.Flask) -> None:
    assert Front(app).reason("/reports/files/a.css") == (
        "stock static route 'reports.static' (/reports/files/<path:filename>)"
    )
    app.before_request(rest)
    assert Front(app).reason("/static/a.css") == (
        "stock static route 'static' (/static/<path:filename>), left to Flask because "
        "before_request has test_routes.rest"
    )


def test_what_is_registered_before_the_first_request_counts(
    app: flask.Flask, folder: Path
) -> None:
    front = Front(app)
    assert front.lane("/static/a.css") is Lane.SERVE
    assert front.lane("/late/files/a.css") is Lane.CACHED
    app.register_blueprint(blueprint(folder), name="late", url_prefix="/late")
    assert front.lane("/late/files/a.css") is Lane.SERVE
    app.before_request(rest)
    front.settled()
    assert front.lane("/static/a.css") is Lane.BYPASS


def test_a_view_replaced_after_the_first_request_is_noticed(app: flask.Flask) -> None:
    front = Front(app).settled()
    assert front.lane("/static/a.css") is Lane.SERVE
    stock = app.view_functions["static"]
    wrapped_view(app)
    front.clock.now += 1
    assert front.lane("/static/a.css") is Lane.BYPASS
    app.view_functions["static"] = stock
    front.clock.now += 1
    assert front.lane("/static/a.css") is Lane.SERVE


def test_a_middleware_between_us_and_flask_leaves_files_to_it(app: flask.Flask) -> None:
    for front in each_way(app, wrapped_wsgi_app=True):
        assert front.lane("/static/a.css") is Lane.BYPASS
    for front in each_way(app, "serve", wrapped_wsgi_app=True):
        assert front.lane("/static/a.css") is Lane.SERVE


def test_only_the_apps_own_method_is_not_wrapped(app: flask.Flask) -> None:
    assert not is_wrapped(app, app.wsgi_app)
    assert is_wrapped(app, flask.Flask("other").wsgi_app)
    assert is_wrapped(app, lambda environ, start: app.wsgi_app(environ, start))
    assert is_wrapped(app, app.__call__)


@pytest.mark.parametrize(
    ("setting", "seconds"), [(None, None), (0, 0), (60, 60), (timedelta(minutes=2), 120)]
)
def test_the_maximum_age_is_read_as_flask_reads_it(
    app: flask.Flask, setting: Any, seconds: int | None
) -> None:
    for front in each_way(app):
        app.config["SEND_FILE_MAX_AGE_DEFAULT"] = 7
        assert front.routes.file_for(create_environ("/static/a.css")).max_age == 7
        app.config["SEND_FILE_MAX_AGE_DEFAULT"] = setting
        front.clock.now += 1
        assert front.routes.file_for(create_environ("/static/a.css")).max_age == seconds


def test_hosts_are_matched_as_flask_matches_them(folder: Path) -> None:
    app = flask.Flask(
        "site",
        static_folder=str(folder / "app"),
        static_host="cdn.test",
        static_url_path="/static",
        host_matching=True,
    )
    for front in each_way(app):
        for _ in range(2):
            assert front.lane("/static/a.css", HTTP_HOST="cdn.test") is Lane.SERVE
            assert front.lane("/static/a.css", HTTP_HOST="www.test") is Lane.CACHED


def test_subdomains_are_matched_as_flask_matches_them(folder: Path) -> None:
    app = flask.Flask("site", static_folder=None, subdomain_matching=True)
    app.config["SERVER_NAME"] = "example.test"
    app.register_blueprint(blueprint(folder), subdomain="cdn")
    path = "/reports/files/a.css"
    for front in each_way(app):
        for _ in range(2):
            assert front.lane(path, HTTP_HOST="cdn.example.test") is Lane.SERVE
            assert front.lane(path, HTTP_HOST="www.example.test") is Lane.CACHED


def test_an_untrusted_host_gets_no_file(app: flask.Flask) -> None:
    app.config["TRUSTED_HOSTS"] = ["good.test"]
    for front in each_way(app, "serve"):
        for _ in range(2):
            assert front.lane("/static/a.css", HTTP_HOST="good.test") is Lane.SERVE
            assert front.lane("/static/a.css", HTTP_HOST="evil.test") is Lane.CACHED


def test_a_converter_that_needs_a_request_breaks_nothing(folder: Path) -> None:
    class Language(flask.Flask.url_map_class.default_converters["default"]):  # type: ignore[misc]
        def to_python(self, value: str) -> str:
            return str(flask.session["language"])

    app = flask.Flask("site", static_folder=str(folder / "app"), static_url_path="")
    app.url_map.converters["lang"] = Language
    app.add_url_rule("/<lang:path>", view_func=rest)
    for front in each_way(app):
        assert front.lane("/de") is Lane.CACHED
        assert front.lane("/x/a.css") is Lane.SERVE
