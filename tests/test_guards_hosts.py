"""Who asks for which host: a file for a trusted one, Flask's refusal for any other."""

from __future__ import annotations

from functools import partial
from itertools import permutations
from pathlib import Path
from typing import Any

import flask
import pytest
from guards import APP, BLUEPRINT, Answer, Site, Time, write_files
from werkzeug.test import create_environ

from wsgi_usercache import Lane

TRUSTED = ["good.test", ".example.org", "127.0.0.1", "[::1]"]
GOOD = [
    "good.test",
    "good.test:8080",
    "example.org",
    "www.example.org",
    "a.b.example.org:80",
    "127.0.0.1:5000",
]
EVIL = [
    "evil.test",
    "evil.test:80",
    "good.test.evil.test",
    "badexample.org",
    "www.good.test",
    "good.test:0",
    "good.test:x",
    "good.test@evil.test",
    "",
    "good.test evil.test",
]
PLACES = (APP, BLUEPRINT)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_files(tmp_path_factory.mktemp("site"))


def trust(site: Site) -> None:
    site.app.config["TRUSTED_HOSTS"] = TRUSTED


def ask(
    site: Site, host: str | None, place: str = APP, method: str = "GET", **more: str
) -> Answer:
    environ: dict[str, Any] = create_environ(f"{place}a.css", method=method) | more
    if host is None:
        del environ["HTTP_HOST"]
    else:
        environ["HTTP_HOST"] = host
    return site.answer(environ)


@pytest.mark.parametrize("static", ["auto", "serve"])
@pytest.mark.parametrize("place", PLACES)
def test_files_are_served_to_trusted_hosts_only_in_every_order(
    root: Path, place: str, static: str
) -> None:
    alone = Site(root, trust)
    for order in permutations(["good.test", "evil.test", "www.example.org:8080", ""]):
        site = Site(root, trust, front=partial(Time().behind, static=static))
        for host in order * 2:
            answer = ask(site, host, place)
            assert answer.all == ask(alone, host, place).all, (order, host)
            assert (answer.lane is Lane.SERVE) is (host in ("good.test", "www.example.org:8080"))


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("place", PLACES)
def test_every_host_is_judged_as_flask_judges_it_while_a_file_is_at_hand(
    root: Path, place: str, method: str
) -> None:
    site, alone = Site(root, trust, front=Time().behind), Site(root, trust)
    for host in [*GOOD, *EVIL, *GOOD]:
        for _ in range(3):
            answer = ask(site, host, place, method)
            assert answer.all == ask(alone, host, place, method).all, host
            assert answer.status == ("200 OK" if host in GOOD else "400 BAD REQUEST")
            assert (answer.lane is Lane.SERVE) is (host in GOOD)
            lane = site.cache.explain(f"{place}a.css", method, host).lane
            assert (lane is Lane.SERVE) is (host in GOOD)


def test_without_a_host_the_servers_name_is_judged(root: Path) -> None:
    site, alone = Site(root, trust, front=Time().behind), Site(root, trust)
    for server in ("good.test", "evil.test", "www.example.org") * 2:
        for host in (None, "good.test", None):
            asked = {"SERVER_NAME": server, "SERVER_PORT": "8000"}
            answer = ask(site, host, **asked)
            assert answer.all == ask(alone, host, **asked).all
            is_good = host is not None or server != "evil.test"
            assert (answer.lane is Lane.SERVE) is is_good


def test_more_hosts_than_are_remembered_are_judged_all_the_same(root: Path) -> None:
    site, alone = Site(root, trust, front=Time().behind), Site(root, trust)
    for number in range(40):
        for host in (f"{number}.example.org", f"{number}.evil.test", "x" * 2000, "good.test"):
            assert ask(site, host).all == ask(alone, host).all


#: Flask refuses these whomever it trusts.
UNSPEAKABLE = ["a..b", ".a", f"{'x' * 64}.test"]


@pytest.mark.parametrize("host", UNSPEAKABLE)
def test_a_host_that_is_none_is_refused_though_the_file_is_at_hand(root: Path, host: str) -> None:
    site, alone = Site(root, front=Time().behind), Site(root)
    for _ in range(2):  # it is at hand after the second
        assert ask(site, "good.test").lane is Lane.SERVE
    for _ in range(2):
        assert ask(site, host).all == ask(alone, host).all


@pytest.mark.parametrize("host", UNSPEAKABLE)
def test_a_host_that_is_none_hinders_nobody_else(root: Path, host: str) -> None:
    site, alone = Site(root, front=Time().behind), Site(root)
    assert ask(site, host).all == ask(alone, host).all
    assert ask(site, "good.test").lane is Lane.SERVE


def test_a_ports_host_is_another_one(root: Path) -> None:
    def app(folder: Path) -> flask.Flask:
        return flask.Flask(
            "site",
            static_folder=folder / "app",
            static_url_path="/static",
            static_host="cdn.test",
            host_matching=True,
        )

    site, alone = Site(root), Site(root)
    site.app, alone.app = app(root), app(root)
    Time().behind(site.app)
    for scheme in ("https", "http", "https"):
        for host in ("cdn.test:443", "cdn.test:80", "cdn.test", None) * 2:
            for port in ("80", "443", "8080"):
                asked = {"wsgi.url_scheme": scheme, "SERVER_NAME": "cdn.test", "SERVER_PORT": port}
                assert ask(site, host, **asked).all == ask(alone, host, **asked).all


@pytest.mark.parametrize("static", ["auto", "serve"])
def test_a_request_class_that_trusts_hosts_is_asked_for_each(root: Path, static: str) -> None:
    def change(site: Site) -> None:
        site.app.request_class = type("Own", (flask.Request,), {"trusted_hosts": TRUSTED})

    site, alone = (
        Site(root, change, front=front) for front in (partial(Time().behind, static=static), None)
    )
    for host in ("good.test", "evil.test") * 3:
        answer = ask(site, host)
        assert answer.all == ask(alone, host).all
        assert (answer.lane is Lane.SERVE) is (static == "serve" and host == "good.test")
