"""Whatever guards a static file, alone: the answer and what it observed are Flask's own."""

from __future__ import annotations

import logging
from functools import partial
from pathlib import Path
from typing import Any

import flask
import pytest
from flask import signals
from guard_table import GUARDS
from guards import APP, BLUEPRINT, SIGNALS, Alone, Site, behind, listening, overriding, write_files

from wsgi_usercache import Lane

PLACES = [APP, BLUEPRINT]
ME = {"Authorization": "Basic bWU6c2VjcmV0", "X-User": "me"}
OTHER = {"Authorization": "Basic bWU6d3Jvbmc="}
LATER = {"If-Modified-Since": "Fri, 01 Jan 2100 00:00:00 GMT"}
PART, NO_PART = {"Range": "bytes=1-3"}, {"Range": "bytes=999-"}

Asked = tuple[str, str, dict[str, str]]

PAGE: Asked = ("", "GET", {})
FILE: Asked = ("a.css", "GET", {})
HEAD: Asked = ("a.css", "HEAD", {})
NONE: Asked = ("none.css", "GET", {})
NONE_HEAD: Asked = ("none.css", "HEAD", {})

CONDITIONS = [("a.css", "GET", each) for each in (LATER, PART, NO_PART)]
CONDITIONS += [(*each[:2], each[2] | ME) for each in CONDITIONS]

SEQUENCES: dict[str, list[Asked]] = {
    "first": [FILE],
    "first, HEAD": [HEAD, FILE],
    "first, missing": [NONE, NONE_HEAD, FILE],
    "in a row": [*[FILE] * 3, *[HEAD] * 2, *[NONE] * 2, NONE_HEAD, FILE, ("b.css", "GET", {})],
    "after a page": [PAGE, FILE, FILE, HEAD, NONE, PAGE, NONE_HEAD, FILE],
    "by somebody": [("a.css", "GET", ME), FILE, ("a.css", "HEAD", ME), ("a.css", "GET", OTHER)],
    "with conditions": CONDITIONS,
}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_files(tmp_path_factory.mktemp("site"))


@pytest.mark.parametrize("name", GUARDS)
def test_a_guard_answers_and_observes_as_in_front_of_flask_alone(root: Path, name: str) -> None:
    guard = GUARDS[name]
    alone = Alone(root, guard.change)
    for place in PLACES:
        lane = Lane.BYPASS if place in guard.places else Lane.SERVE
        for title in SEQUENCES if lane is Lane.BYPASS else ("in a row", "with conditions"):
            site = Site(root, guard.change, front=behind)
            for file, method, headers in SEQUENCES[title]:
                path = f"{place}{file}" if file else "/"
                expected, observed = alone.ask(path, method, **headers)
                site.seen.clear()
                answer = site.ask(path, method, **headers)
                assert answer.all == expected.all, (title, path)
                assert guard.seen(site.seen) == guard.seen(observed), (title, path)
                if file == "a.css":
                    assert answer.lane is lane, (title, path)


@pytest.mark.parametrize("name", GUARDS)
def test_a_guard_observes_something_or_shows(root: Path, name: str) -> None:
    guard = GUARDS[name]
    for place in guard.places:
        alone, bare = Site(root, guard.change), Site(root)
        differs = [
            alone.ask(f"{place}{file}", method).all != bare.ask(f"{place}{file}", method).all
            for file, method, _ in (FILE, HEAD)
        ]
        assert all(differs) or len(alone.seen) >= 2


@pytest.mark.parametrize("name", GUARDS)
def test_what_is_explained_is_what_happens(root: Path, name: str) -> None:
    guard = GUARDS[name]
    site = Site(root, guard.change, front=behind)
    for place in PLACES * 2:
        for method in ("GET", "HEAD"):
            said = site.cache.explain(f"{place}a.css", method)
            assert said.lane is site.ask(f"{place}a.css", method).lane
            assert said == site.cache.explain(f"{place}a.css", method)
            if place in guard.places:
                assert f"left to Flask because {guard.said}" in said.reason
                assert said.lane is Lane.BYPASS
            else:
                assert said.reason.startswith("stock static route")
                assert "because" not in said.reason
                assert said.lane is Lane.SERVE


def log_of(site: Site, caplog: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    """Return what is logged while files are asked for, as level and message."""
    caplog.clear()
    with caplog.at_level(logging.INFO, "wsgi_usercache"):
        for file, method, _ in (FILE, HEAD, NONE, FILE):
            for place in PLACES:
                site.ask(f"{place}{file}", method)
                site.cache.explain(f"{place}{file}")
    ours = [record for record in caplog.records if record.name == "wsgi_usercache"]
    return [(record.levelname, record.getMessage()) for record in ours]


@pytest.mark.parametrize("name", GUARDS)
def test_one_line_says_what_stands_in_the_way_and_which_setting_it_is(
    root: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    guard = GUARDS[name]
    lines = log_of(Site(root, guard.change, front=behind), caplog)
    assert [level for level, _ in lines] == ["INFO"]
    assert f"left to Flask because {guard.said}" in lines[0][1]
    assert "USERCACHE_STATIC" in lines[0][1]


@pytest.mark.parametrize("name", GUARDS)
def test_serve_warns_once_and_serves_what_has_a_stock_view(
    root: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    guard = GUARDS[name]
    site = Site(root, guard.change, front=partial(behind, static="serve"))
    lines = log_of(site, caplog)
    how = "Static files are served although" if guard.is_stock else "'serve' cannot serve:"
    assert [level for level, _ in lines] == ["WARNING"]
    assert f"{how} {guard.said}" in lines[0][1]
    alone, bare = Site(root, guard.change), Site(root)
    for place in PLACES:
        is_served = guard.is_stock or place not in guard.places
        for file, method, _ in (FILE, HEAD, FILE):
            said = site.cache.explain(f"{place}{file}", method)
            answer = site.ask(f"{place}{file}", method)
            as_if = bare if is_served else alone
            assert answer.all == as_if.ask(f"{place}{file}", method).all
            assert answer.lane is said.lane is (Lane.SERVE if is_served else Lane.BYPASS)
            hindered = place in guard.places
            assert (guard.said in said.reason) is hindered
            assert ("served although" in said.reason) is (hindered and guard.is_stock)


@pytest.mark.parametrize("signal", SIGNALS, ids=lambda signal: signal.name)
def test_listeners_to_another_app_hinder_nothing(root: Path, signal: Any) -> None:
    other = flask.Flask("other")
    change = listening(signal, lambda _: other)
    site, alone = Site(root, change, front=behind), Site(root)
    for place in PLACES:
        for _ in range(2):
            answer = site.ask(f"{place}a.css")
            assert answer.all == alone.ask(f"{place}a.css").all
            assert answer.lane is Lane.SERVE
    assert not site.seen


@pytest.mark.parametrize("signal", SIGNALS, ids=lambda signal: signal.name)
def test_listeners_to_every_app_hinder(root: Path, signal: Any) -> None:
    site, alone = Site(root, front=behind), Site(root)
    for each in (site, alone):
        with signal.connected_to(lambda *_, each=each, **__: each.saw(signal.name)):
            assert each.ask(f"{APP}a.css").status == "200 OK"
    assert site.seen == alone.seen != []


def test_a_listener_to_errors_hinders_nothing(root: Path) -> None:
    site = Site(root, listening(signals.got_request_exception), front=behind)
    for _ in range(2):
        assert site.ask(f"{APP}a.css").lane is Lane.SERVE


def test_what_an_app_does_before_its_wsgi_app_is_done_for_files_as_well(root: Path) -> None:
    change = overriding("__call__")
    site, alone = Site(root, change, front=behind), Site(root, change)
    for place in PLACES:
        for file, method, headers in SEQUENCES["in a row"]:
            answer = site.ask(f"{place}{file}", method, **headers)
            assert answer.all == alone.ask(f"{place}{file}", method, **headers).all
    assert site.seen == alone.seen != []
