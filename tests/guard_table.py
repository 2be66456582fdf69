"""All that keeps a static file from being served before Flask, each thing alone."""

from __future__ import annotations

import functools
from base64 import b64decode
from dataclasses import dataclass
from typing import Any

import flask
from guards import (
    APP,
    BLUEPRINT,
    SIGNALS,
    Change,
    Site,
    become,
    behind_login,
    below,
    hooked,
    listening,
    marked,
    on_instance,
    overriding,
)

#: Those of Flask's methods that a request for a file passes.
WAY = (
    "wsgi_app",
    "request_context",
    "app_context",
    "create_url_adapter",
    "full_dispatch_request",
    "preprocess_request",
    "dispatch_request",
    "ensure_sync",
    "finalize_request",
    "make_response",
    "process_response",
    "do_teardown_request",
    "do_teardown_appcontext",
)
_ASKED_BY_US = "create_url_adapter"
_BELOW = "another WSGI middleware stands between the cache and Flask"


@dataclass(frozen=True)
class Guard:
    """What stands around the files of *places*. *said* is how that is told."""

    change: Change
    said: str
    places: tuple[str, ...] = (APP, BLUEPRINT)
    is_stock: bool = True  # the view is Flask's own, so static="serve" can serve
    is_asked_by_us: bool = False  # to find out which rule answers a path

    def seen(self, seen: list[Any]) -> list[Any]:
        """Return what was *seen* of a request, but how often if we may have asked, too."""
        return [*dict.fromkeys(seen)] if self.is_asked_by_us else seen


def count(site: Site, *args: object) -> None:
    site.saw("hook", *map(repr, args))


def refuse(site: Site) -> tuple[str, int]:
    site.saw("refused")
    return "not for you", 403


def ask_password(site: Site) -> flask.Response | None:
    """Do as Flask-HTTPAuth does, for each request."""
    given = flask.request.authorization
    site.saw("authorization", given and given.username)
    if given is None or given.password != "secret":
        return flask.Response("who?", 401, {"WWW-Authenticate": "Basic realm=site"})
    return None


def send_another(site: Site, endpoint: str | None, values: dict[str, Any] | None) -> None:
    site.saw("values", endpoint, repr(values))
    if values and values.get("filename") == "b.css":
        values["filename"] = "a.css"


def mark(site: Site, response: flask.Response) -> flask.Response:
    site.saw("response", response.status)
    return marked(response)


def basic_auth(site: Site, wsgi_app: Any) -> Any:
    def middleware(environ: dict[str, Any], start_response: Any) -> Any:
        given = environ.get("HTTP_AUTHORIZATION", "").partition("Basic ")[2]
        site.saw("middleware", environ["PATH_INFO"], given)
        if b64decode(given) != b"me:secret":
            start_response("401 UNAUTHORIZED", [("WWW-Authenticate", "Basic realm=site")])
            return [b"who?"]
        return wsgi_app(environ, start_response)

    return middleware


def add_header(site: Site, wsgi_app: Any) -> Any:
    def middleware(environ: dict[str, Any], start_response: Any) -> Any:
        def start(status: str, headers: list[tuple[str, str]], *error: Any) -> Any:
            site.saw("start", status)
            return start_response(status, [*headers, ("X-Guard", "was here")], *error)

        return wsgi_app(environ, start)

    return middleware


def own_request(site: Site) -> None:
    class Request(flask.Request):
        def __init__(self, environ: Any, *args: Any, **options: Any) -> None:
            site.saw("request", environ["PATH_INFO"])
            super().__init__(environ, *args, **options)

        def close(self) -> None:
            site.saw("closed")
            super().close()

    site.app.request_class = Request


def own_response(site: Site) -> None:
    class Response(flask.Response):
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            self.headers["X-Guard"] = "was here"

    site.app.response_class = Response


def max_age(of: str, *, by_subclass: bool) -> Change:
    def change(site: Site) -> None:
        def seven(*args: Any) -> int:
            site.saw("max age", args[-1])
            return 7

        thing = getattr(site, of)
        if by_subclass:
            become(thing, get_send_file_max_age=seven)
        else:
            thing.get_send_file_max_age = seven

    return change


def _hooks() -> dict[str, Guard]:
    """Return hooks of the app, of a blueprint, of the one around it, of a blueprint for all."""
    guards: dict[str, Guard] = {}
    for kind, hook in [
        ("before_request", refuse),
        ("before_request", count),
        ("before_request", ask_password),
        ("url_value_preprocessor", send_another),
        ("after_request", mark),
        ("teardown_request", count),
    ]:
        said = f"{kind} has guards.hooked.<locals>.change.<locals>.noted"
        for of in ("app", "reports", "outer"):
            places = (APP, BLUEPRINT) if of == "app" else (BLUEPRINT,)
            guards[f"{kind}: {hook.__name__}, of {of}"] = Guard(
                hooked(kind, hook, of), said, places
            )
        first, _, rest = kind.partition("_")
        for_all = "app_url_value_preprocessor" if first == "url" else f"{first}_app_{rest}"
        guards[f"{for_all}: {hook.__name__}"] = Guard(hooked(for_all, hook, "reports"), said)
    return guards


def _views() -> dict[str, Guard]:
    guards: dict[str, Guard] = {}
    for endpoint, places in [("static", (APP,)), ("outer.reports.static", (BLUEPRINT,))]:
        for name, change, said in [
            ("", behind_login(endpoint), "guards.behind_login.<locals>.change.<locals>.decorated"),
            (", wraps", behind_login(endpoint, functools.wraps), ""),
        ]:
            guards[f"login on {endpoint}{name}"] = Guard(
                change, f"its view {said}", places, is_stock=False
            )
    return guards


def _ways() -> dict[str, Guard]:
    guards: dict[str, Guard] = {}
    for name in WAY:
        said = _BELOW if name == "wsgi_app" else f"OwnFlask.{name} is not Flask's own"
        asked = name == _ASKED_BY_US
        guards[name] = Guard(overriding(name), said, is_asked_by_us=asked)
        if name != "wsgi_app":
            guards[f"{name}, on the instance"] = Guard(
                on_instance(name), f"Flask.{name} is not Flask's own", is_asked_by_us=asked
            )
    return guards


def _files() -> dict[str, Guard]:
    guards: dict[str, Guard] = {}
    for of, kind, places in [("app", "Flask", (APP,)), ("reports", "Blueprint", (BLUEPRINT,))]:
        for by, own in [(True, "Own"), (False, "")]:
            send = overriding if by else on_instance
            said = f"{own}{kind}.send_static_file is not Flask's own"
            if of == "reports":  # what is registered is the other one already
                said = f"its view guards.{send.__name__}."
            name = f"of {of}, by {'subclass' if by else 'instance'}"
            guards[f"send_static_file {name}"] = Guard(
                send("send_static_file", of), said, places, is_stock=False
            )
            guards[f"max age {name}"] = Guard(
                max_age(of, by_subclass=by),
                f"{own}{kind}.get_send_file_max_age is not Flask's own",
                # For a blueprint that has none, the app is asked.
                places if of == "reports" else (APP, BLUEPRINT),
                is_stock=False,
            )
    return guards


GUARDS: dict[str, Guard] = {
    **_hooks(),
    "teardown_appcontext": Guard(
        hooked("teardown_appcontext", count),
        "teardown_appcontext has guards.hooked.<locals>.change.<locals>.noted",
    ),
    **{s.name: Guard(listening(s), f"the signal {s.name} goes to guards.") for s in SIGNALS},
    **_views(),
    **_files(),
    **_ways(),
    "middleware: basic auth": Guard(below(basic_auth), _BELOW),
    "middleware: header": Guard(below(add_header), _BELOW),
    "request_class": Guard(own_request, "request_class is not Flask's own", is_asked_by_us=True),
    "response_class": Guard(own_response, "response_class is not Flask's own"),
    "USE_X_SENDFILE": Guard(
        lambda site: site.app.config.update(USE_X_SENDFILE=True), "USE_X_SENDFILE is set"
    ),
}
