"""Lanes: the first rule that matches, the same whether compiled or looked up one by one."""

from __future__ import annotations

import fnmatch
import re
from typing import Any

import flask
import pytest
from hypothesis import given
from hypothesis import strategies as st
from werkzeug.test import create_environ
from werkzeug.wsgi import get_path_info

from wsgi_usercache.lanes import Explanation, Lane, LaneRules, compile_patterns, path_of

_TEXT = st.text("/ab.*?[]!-é\n", max_size=8)
_PATHS = st.text("/ab.é-!*[\n", max_size=10).map(lambda text: "/" + text)
_PATTERNS = st.lists(
    _TEXT.map(lambda text: "/" + text)
    | _TEXT.map(lambda text: "*" + text)
    | st.sampled_from([re.compile(r"/a+"), re.compile(r"/.*\.b"), re.compile("/A", re.I)]),
    max_size=5,
)


class Static:
    """The static paths of an application, spelt out."""

    def __init__(self, **lanes: Lane) -> None:
        self.lanes = {f"/{name}": lane for name, lane in lanes.items()}

    def lane_for(self, path: str, environ: dict[str, Any]) -> Lane | None:
        return self.lanes.get(path)

    def explain(self, path: str, environ: dict[str, Any]) -> Explanation | None:
        lane = self.lanes.get(path)
        return None if lane is None else Explanation(lane, "static route 'it'")


def rules(fresh: Any = (), excluded: Any = (), static: Static | None = None) -> LaneRules:
    return LaneRules(compile_patterns(fresh), compile_patterns(excluded), static or Static())


def lane(rules: LaneRules, path: str, method: str = "GET") -> Lane:
    environ = create_environ("/", method=method)
    environ["PATH_INFO"] = path
    explanation = rules.explain(environ)
    assert rules.lane_for(environ) is explanation.lane
    assert explanation.reason
    return explanation.lane


def naive(patterns: list[Any], path: str) -> str | None:
    for pattern in patterns:
        if isinstance(pattern, re.Pattern):
            if pattern.fullmatch(path):
                return str(pattern.pattern)
        elif any(sign in pattern for sign in "*?["):
            if fnmatch.fnmatchcase(path, pattern):
                return str(pattern)
        elif pattern == path:
            return str(pattern)
    return None


@given(patterns=_PATTERNS, path=_PATHS)
def test_compiled_patterns_match_what_a_loop_over_them_matches(
    patterns: list[Any], path: str
) -> None:
    compiled = compile_patterns(patterns)
    assert compiled.matching(path) == naive(patterns, path)
    assert (path in compiled) is (naive(patterns, path) is not None)


@given(fresh=_PATTERNS, excluded=_PATTERNS, path=_PATHS, static=st.sampled_from([None, *Lane]))
def test_the_first_rule_that_matches_gives_the_lane(
    fresh: list[Any], excluded: list[Any], path: str, static: Lane | None
) -> None:
    known = Static(**({} if static is None else {path[1:]: static}))
    path = "/" + path.lstrip("/")
    static = known.lanes.get(path)
    if naive(fresh, path) is not None:
        expected = Lane.FRESH
    elif static is not None:
        expected = static
    else:
        expected = Lane.CACHED if naive(excluded, path) is None else Lane.BYPASS
    environ = {"PATH_INFO": path.encode().decode("latin-1"), "REQUEST_METHOD": "GET"}
    compiled = rules(fresh, excluded, known)
    assert compiled.lane_for(environ) is expected
    assert compiled.explain(environ).lane is expected


def test_fresh_comes_before_static_and_static_before_excluded() -> None:
    static = Static(a=Lane.SERVE, b=Lane.SERVE)
    compiled = rules(["/a"], ["/a", "/b", "/c"], static)
    assert [lane(compiled, f"/{name}") for name in "abcd"] == [
        Lane.FRESH,
        Lane.SERVE,
        Lane.BYPASS,
        Lane.CACHED,
    ]


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "POST", "get", "BREW"])
def test_only_get_and_head_are_served(method: str) -> None:
    expected = Lane.SERVE if method in ("GET", "HEAD") else Lane.BYPASS
    compiled = rules(static=Static(a=Lane.SERVE))
    environ = create_environ("/a")
    environ["REQUEST_METHOD"] = method
    assert compiled.lane_for(environ) is expected
    assert compiled.explain(environ).lane is expected


def test_patterns_hold_for_every_method_and_for_the_very_case() -> None:
    compiled = rules(["/admin/*"], ["/assets/*"])
    assert lane(compiled, "/assets/a", "POST") is Lane.BYPASS
    assert lane(compiled, "/Assets/a") is Lane.CACHED
    assert lane(compiled, "/admin/x/y", "DELETE") is Lane.FRESH


@pytest.mark.parametrize(
    ("pattern", "path", "matched"),
    [
        ("/static", "/static", True),
        ("/static", "/staticky", False),
        ("/static", "/static/a", False),
        ("/static/*", "/staticky/a", False),
        ("/static/*", "/static/", True),
        ("/static/*", "/static/a/b\n", True),
        ("/a.b", "/axb", False),
        ("/a?", "/a", False),
        ("/[ab]", "/b", True),
        ("/[!ab]", "/b", False),
        ("/a|/b*", "/b", False),
        (re.compile("/st"), "/static", False),
        (re.compile("/st|/static"), "/static", True),
    ],
)
def test_a_pattern_matches_the_whole_path(pattern: Any, path: str, matched: bool) -> None:
    assert lane(rules(excluded=[pattern]), path) is (Lane.BYPASS if matched else Lane.CACHED)


@pytest.mark.parametrize(
    "info",
    ["", "/", "a", "//a", "///a//b", "/a//b", "/%2e", "/caf\u00c3\u00a9", "/\u00ff", "/\x00"],
)
def test_the_path_is_the_one_flask_shows(info: str) -> None:
    environ = create_environ("/")
    environ["PATH_INFO"] = info
    assert path_of(environ) == flask.Request(environ).path
    assert get_path_info(environ).lstrip("/") == path_of(environ)[1:]


def test_a_path_that_no_server_may_send_breaks_nothing() -> None:
    assert path_of({"PATH_INFO": "/snow\u2603"}) == "/snow?"
    assert path_of({}) == "/"


def test_an_encoded_path_is_matched_decoded() -> None:
    environ = create_environ("/caf%C3%A9/%2e")
    assert rules(excluded=["/café/."]).lane_for(environ) is Lane.BYPASS


@pytest.mark.parametrize(
    "pattern", ["", "static/*", b"/static", None, 7, re.compile(b"/static"), ".css"]
)
def test_a_bad_pattern_is_refused_by_name(pattern: Any) -> None:
    with pytest.raises(ValueError, match=re.escape(f"excluded_paths: {pattern!r}")):
        compile_patterns(["/fine", pattern], setting="excluded_paths")


@pytest.mark.parametrize("patterns", ["/static/*", b"/static", re.compile("/static")])
def test_a_pattern_that_stands_for_a_list_is_refused(patterns: Any) -> None:
    with pytest.raises(ValueError, match="fresh_paths must be a list"):
        compile_patterns(patterns, setting="fresh_paths")


def test_an_explanation_names_the_rule() -> None:
    static = Static(s=Lane.SERVE)
    compiled = rules(["/x", "/f*"], [re.compile("/[0-9]+")], static)
    expected = {
        ("/fx", "GET"): "fresh_paths has '/f*'",
        ("/s", "GET"): "static route 'it'",
        ("/s", "PUT"): "static route 'it', left to Flask because the method is PUT",
        ("/7", "GET"): "excluded_paths has '/[0-9]+'",
        ("/", "GET"): "no pattern and no static route matches",
    }
    assert expected == {
        (path, method): compiled.explain(create_environ(path, method=method)).reason
        for path, method in expected
    }
