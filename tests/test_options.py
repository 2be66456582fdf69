"""Options: a wrong one is told at construction, with the setting and the value."""

from __future__ import annotations

import re
from typing import Any

import pytest
from flask import Flask

from wsgi_usercache import UserCache, UserCacheMiddleware
from wsgi_usercache.options import Options, read

WRONG: list[tuple[str, Any]] = [
    ("enabled", "false"),
    ("enabled", None),
    ("ttl", 0),
    ("ttl", -1.5),
    ("ttl", None),
    ("ttl", "30"),
    ("ttl", True),
    ("ttl", float("nan")),
    ("ttl", float("inf")),
    ("ttl", 10**400),
    ("maxsize", 0),
    ("maxsize", -1),
    ("maxsize", 10.0),
    ("maxsize", True),
    ("maxsize", None),
    ("excluded_paths", "/assets/*"),
    ("excluded_paths", 7),
    ("excluded_paths", None),
    ("excluded_paths", [7]),
    ("excluded_paths", ["assets"]),
    ("excluded_paths", [""]),
    ("excluded_paths", [b"/assets"]),
    ("excluded_paths", [re.compile(rb"/assets")]),
    ("excluded_paths", re.compile("/assets")),
    ("excluded_paths", iter(["/assets"])),
    ("fresh_paths", "/admin"),
    ("fresh_paths", ["admin"]),
    ("static", "yes"),
    ("static", None),
    ("static", ["auto"]),
    ("load", "roles"),
    ("load", b"roles"),
    ("load", [7]),
    ("load", ["roles."]),
    ("load", [".roles"]),
    ("load", ["roles..abilities"]),
    ("load", [""]),
    ("load", None),
    ("load", iter(["roles"])),
    ("volatile", "last_seen"),
    ("volatile", ["last seen"]),
    ("exclude", ["password-hash"]),
    ("exclude", [None]),
    ("vary", "tenant"),
    ("vary", ["tenant"]),
    ("session", object()),
    ("session", "db.session"),
    ("user_class", "User"),
    ("user_class", object()),
    ("resign_interval", -1),
    ("resign_interval", float("nan")),
    ("resign_interval", float("inf")),
    ("resign_interval", "60"),
    ("resign_interval", False),
    ("backend", "redis"),
    ("backend", None),
    ("backend", ["process"]),
]
RIGHT: list[tuple[str, Any]] = [
    ("enabled", False),
    ("ttl", 1),
    ("ttl", 0.001),
    ("maxsize", 1),
    ("static", "auto"),
    ("static", "serve"),
    ("static", "bypass"),
    ("static", "off"),
    ("vary", lambda: "tenant"),
    ("vary", None),
    ("session", lambda: None),
    ("session", None),
    ("user_class", Flask),
    ("user_class", None),
    ("resign_interval", 0),
    ("backend", "process"),
]


def named(name: str, value: Any) -> str:
    """The setting and then the value, or the wrong one of its items."""
    items = list(value) if isinstance(value, (list, tuple)) and value else [value]
    return f"USERCACHE_{name.upper()}.*({'|'.join(re.escape(repr(x)) for x in (value, *items))})"


def tell(name: str, value: Any) -> str:
    return f"{name}={value if isinstance(value, (str, float)) else type(value).__name__}"


IDS = [tell(*pair) for pair in WRONG]


@pytest.mark.parametrize(("name", "value"), WRONG, ids=IDS)
def test_a_wrong_argument_is_told_where_it_is_written(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=named(name, value)):
        UserCache(**{name: value})


@pytest.mark.parametrize(("name", "value"), WRONG, ids=IDS)
def test_a_wrong_setting_is_told_when_the_cache_is_installed(name: str, value: Any) -> None:
    app = Flask(__name__)
    app.config[f"USERCACHE_{name.upper()}"] = value
    with pytest.raises(ValueError, match=named(name, value)):
        UserCache().init_app(app)
    with pytest.raises(ValueError, match=named(name, value)):
        UserCacheMiddleware(app.wsgi_app, app)
    assert "user_cache" not in app.extensions


def test_what_is_wrong_in_a_list_is_named_itself() -> None:
    with pytest.raises(ValueError, match="USERCACHE_LOAD has 'b c', which"):
        read({}, {"load": ["a", "b c"]})


def test_an_unknown_argument_is_named_with_its_value_and_those_there_are() -> None:
    with pytest.raises(ValueError, match=r"unknown option tll = 5;.*\bttl\b.*\bvary\b"):
        UserCache(tll=5)


def test_an_unknown_setting_is_named_with_its_value() -> None:
    with pytest.raises(ValueError, match="unknown option USERCACHE_TLL = 5"):
        UserCache().init_app(configured(USERCACHE_TLL=5))


def test_all_unknown_options_are_named_at_once() -> None:
    with pytest.raises(ValueError, match="option USERCACHE_A = 1, b = 2;"):
        read({"USERCACHE_A": 1}, {"b": 2})


def test_settings_of_others_are_nobody_s_business() -> None:
    assert read({"USERCACHE": 1, "CACHE_TTL": 0, "SECRET_KEY": None}, {}).ttl == 30.0


@pytest.mark.parametrize(("name", "value"), RIGHT)
def test_a_right_option_is_taken_as_it_is(name: str, value: Any) -> None:
    assert getattr(read({}, {name: value}), name) == value
    assert getattr(read({f"USERCACHE_{name.upper()}": value}, {}), name) == value


@pytest.mark.parametrize("name", ["load", "volatile", "exclude"])
@pytest.mark.parametrize("kind", [list, tuple, set, frozenset])
def test_names_are_taken_from_any_collection(name: str, kind: Any) -> None:
    assert getattr(read({}, {name: kind(["User.roles"])}), name) == ("User.roles",)
    assert getattr(read({}, {name: kind()}), name) == ()


def test_paths_are_compiled() -> None:
    options = read({"USERCACHE_FRESH_PATHS": ["/admin/*", re.compile(r"/\d+")]}, {})
    assert "/admin/users" in options.fresh_paths
    assert "/77" in options.fresh_paths
    assert "/77" not in options.excluded_paths


def test_options_do_not_change_once_they_are_read() -> None:
    with pytest.raises(AttributeError):
        Options().ttl = 5  # type: ignore[misc]


def configured(**config: Any) -> Flask:
    app = Flask(__name__)
    app.config.update(config)
    return app


def chosen_by(app: Flask) -> str:
    """Which pattern the installed cache has, by the lane of a path."""
    cache = app.extensions["user_cache"]
    lanes = {name: cache.explain(f"/{name}").lane for name in ("setting", "early", "late")}
    return next(name for name, lane in lanes.items() if lane == "bypass")


def test_a_setting_is_read_when_the_cache_is_installed() -> None:
    app = configured(USERCACHE_EXCLUDED_PATHS=["/setting"])
    UserCache().init_app(app)
    app.config["USERCACHE_EXCLUDED_PATHS"] = ["/late"]
    assert chosen_by(app) == "setting"


def test_an_argument_wins_over_a_setting() -> None:
    app = configured(USERCACHE_EXCLUDED_PATHS=["/setting"])
    UserCache(app, excluded_paths=["/early"])
    assert chosen_by(app) == "early"
    app = configured(USERCACHE_EXCLUDED_PATHS=["/setting"])
    UserCacheMiddleware(app.wsgi_app, app, excluded_paths=["/early"])
    assert chosen_by(app) == "early"


def test_an_argument_of_init_app_wins_over_one_of_the_constructor_for_this_app_only() -> None:
    cache = UserCache(excluded_paths=["/early"])
    apps = [configured(USERCACHE_EXCLUDED_PATHS=["/setting"]) for _ in range(2)]
    cache.init_app(apps[0], excluded_paths=["/late"])
    cache.init_app(apps[1])
    assert [chosen_by(app) for app in apps] == ["late", "early"]
