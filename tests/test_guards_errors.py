"""A range that can not be had: the app's own answers to errors are given, else Flask's."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import flask
import pytest
from guards import APP, BLUEPRINT, Alone, Change, Site, Time, become, behind, write_files
from werkzeug.exceptions import HTTPException, RequestedRangeNotSatisfiable

from wsgi_usercache import Lane

BOTH = (APP, BLUEPRINT)
NO_PART, PART = {"Range": "bytes=999-"}, {"Range": "bytes=1-3"}


@dataclass(frozen=True)
class Answers:
    """What answers the errors of the files of *places*."""

    change: Change
    places: tuple[str, ...] = BOTH


def handled(kind: Any, of: str = "app", register: str = "register_error_handler") -> Change:
    """Have an error handler registered, which leaves its mark."""

    def change(site: Site) -> None:
        def handler(error: Exception) -> tuple[str, int, dict[str, str]]:
            site.saw("handler", type(error).__name__)
            return f"no, {of} says", 418, {"X-Handler": of}

        thing = getattr(site, of)
        if register == "register_error_handler":
            thing.register_error_handler(kind, handler)
        else:
            getattr(thing, register)(kind)(handler)

    return change


def answering(name: str, *, by_subclass: bool = True) -> Change:
    """Have one of Flask's methods answer errors, and note what it is asked."""

    def change(site: Site) -> None:
        def method(*args: Any) -> Any:
            site.saw(name, type(args[-1]).__name__)
            return flask.Response("no", 418)

        if by_subclass:
            become(site.app, **{name: method})
        else:
            setattr(site.app, name, method)

    return change


def trapping(site: Site) -> None:
    become(site.app, trap_http_exception=lambda _, error: error.code == 416)


def trap(site: Site) -> None:
    site.app.config["TRAP_HTTP_EXCEPTIONS"] = True


def also(*changes: Change) -> Change:
    return lambda site: [change(site) for change in changes]


#: Kinds of errors that a range which can not be had is one of.
KINDS = {
    "416": 416,
    "its class": RequestedRangeNotSatisfiable,
    "HTTPException": HTTPException,
    "Exception": Exception,
}
OWN: dict[str, Answers] = {
    **{f"{name} of the app": Answers(handled(kind)) for name, kind in KINDS.items()},
    **{
        f"{name} of {of}": Answers(handled(kind, of), (BLUEPRINT,))
        for name, kind in KINDS.items()
        for of in ("reports", "outer")
    },
    **{
        f"{name} by a blueprint for all": Answers(handled(kind, "reports", "app_errorhandler"))
        for name, kind in KINDS.items()
    },
    "ValueError, then Exception": Answers(also(handled(ValueError), handled(Exception))),
    "TRAP_HTTP_EXCEPTIONS": Answers(trap),
    "TRAP_HTTP_EXCEPTIONS and Exception": Answers(also(trap, handled(Exception))),
    "trap_http_exception": Answers(trapping),
    **{
        f"{name}, by {'subclass' if by else 'instance'}": Answers(answering(name, by_subclass=by))
        for name in ("handle_http_exception", "handle_user_exception")
        for by in (True, False)
    },
}
NOT_OWN: dict[str, Change] = {
    "nothing": lambda site: None,
    "404": handled(404),
    "500": handled(500),
    "ValueError": handled(ValueError),
    "LookupError of reports": handled(LookupError, "reports"),
    "404 of outer": handled(404, "outer"),
    "TRAP_BAD_REQUEST_ERRORS": lambda site: site.app.config.update(TRAP_BAD_REQUEST_ERRORS=True),
    "PROPAGATE_EXCEPTIONS": lambda site: site.app.config.update(PROPAGATE_EXCEPTIONS=True),
    "handle_exception": answering("handle_exception"),
}
#: What is asked before.
BEFORE: dict[str, list[tuple[str, dict[str, str]]]] = {
    "nothing": [],
    "the file": [("a.css", {})] * 2,
    "a part": [("a.css", PART)],
    "a missing one": [("none.css", {})],
}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_files(tmp_path_factory.mktemp("site"))


def check(root: Path, change: Change, own: tuple[str, ...]) -> None:
    """All is as with Flask alone, which refuses ranges by itself for the places in *own*."""
    alone = Alone(root, change)
    for place in BOTH:
        for before in BEFORE.values():
            site = Site(root, change, front=behind)
            asked = [*before, *[("a.css", NO_PART)] * 3, ("a.css", PART), ("a.css", {})]
            for file, headers in asked:
                answer, seen = alone.ask(f"{place}{file}", **headers)
                site.seen.clear()
                ours = site.ask(f"{place}{file}", **headers)
                assert (ours.all, site.seen) == (answer.all, seen)
                is_own = file == "none.css" or (headers is NO_PART and place in own)
                assert ours.lane is (Lane.BYPASS if is_own else Lane.SERVE)


@pytest.mark.parametrize("name", OWN)
def test_an_answer_of_the_apps_own_is_given(root: Path, name: str) -> None:
    check(root, OWN[name].change, OWN[name].places)


@pytest.mark.parametrize("name", NOT_OWN)
def test_without_one_flasks_answer_is_given_before_flask(root: Path, name: str) -> None:
    check(root, NOT_OWN[name], ())


@pytest.mark.parametrize("name", OWN)
def test_each_of_them_shows(root: Path, name: str) -> None:
    for place in OWN[name].places:
        own, bare = Site(root, OWN[name].change), Site(root)
        assert own.ask(f"{place}a.css", **NO_PART).all != bare.ask(f"{place}a.css", **NO_PART).all


#: What is there at first, and what comes when a range has been refused.
LATE: dict[str, tuple[Change, Change]] = {
    "the first handler": (NOT_OWN["nothing"], handled(416)),
    "after another code": (handled(404), handled(416)),
    "Exception after 404": (handled(404), handled(Exception)),
    "Exception after ValueError": (handled(ValueError), handled(Exception)),
}


@pytest.mark.parametrize("name", LATE)
def test_a_handler_that_comes_before_flasks_first_request_answers_at_once(
    root: Path, name: str
) -> None:
    first, late = LATE[name]
    site, alone = Site(root, first, front=Time().behind), Site(root, also(first, late))
    assert site.ask(f"{APP}a.css", **NO_PART).lane is Lane.SERVE
    late(site)
    for _ in range(2):
        assert site.ask(f"{APP}a.css", **NO_PART).all == alone.ask(f"{APP}a.css", **NO_PART).all
