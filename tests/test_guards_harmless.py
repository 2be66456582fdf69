"""Well-known extensions leave files to be served as Flask alone serves them without; what only
looks like their hooks does not."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import flask
import pytest
from flask_wtf import CSRFProtect
from guard_libraries import DISGUISES, HOOKS, LIBRARIES, METHODS, VARY, hooks_of, wtf
from guards import APP, BLUEPRINT, Change, Site, behind, write_files
from sqlalchemy import event
from sqlalchemy.pool import Pool
from werkzeug.test import Client, TestResponse

from wsgi_usercache import Lane

PLACES = (APP, BLUEPRINT)
COOKIES = frozenset({"Vary", "Set-Cookie"})


@pytest.fixture(autouse=True)
def closed_databases() -> Iterator[None]:
    """No connection outlives its test: who finds it later takes it for his own."""
    opened: list[Any] = []

    def note(connection: Any, _record: object) -> None:
        opened.append(connection)

    event.listen(Pool, "connect", note)
    yield
    event.remove(Pool, "connect", note)
    for connection in opened:
        connection.close()


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_files(tmp_path_factory.mktemp("site"))


def shown(answer: TestResponse, but: frozenset[str] = frozenset()) -> object:
    """Return what a client sees, *but* these headers and what tells the time of day."""
    headers = [pair for pair in answer.headers if pair[0] not in but | {"Date"}]
    return answer.status, headers, answer.data


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("name", LIBRARIES)
def test_files_beside_an_extension_are_served_as_without_it(
    root: Path, name: str, place: str
) -> None:
    library = LIBRARIES[name]
    site = Site(root, library.change, front=behind)
    clients = [Client(each.app) for each in (site, Site(root), Site(root, library.change))]
    assert site.cache.explain(f"{place}a.css").lane is Lane.SERVE
    added: set[str] = set()
    for page in ("/", "/enter", "/", "/enter"):
        before = site.cache.stats().served
        for method in ("GET", "HEAD", "GET"):
            ours, bare, alone = (
                each.open(f"{place}a.css", method=method, buffered=True) for each in clients
            )
            assert shown(ours) == shown(bare)
            assert shown(ours) == shown(alone, COOKIES)
            assert set(alone.headers.getlist("Vary")) <= {"Cookie"}
            added |= COOKIES & {key for key, _ in alone.headers}
        assert site.cache.stats().served == before + 3
        for each in clients:
            each.open(page, buffered=True)
        ours, _, alone = (each.open(f"{place}none.css", buffered=True) for each in clients)
        assert shown(ours, COOKIES) == shown(alone, COOKIES)
    assert added == library.adds
    assert site.cache.explain(f"{place}a.css").reason.startswith("stock static route")


def check(root: Path, change: Change, *, status: int = 200, sees: bool = True) -> None:
    """What is not known to be harmless is honoured, at first and later."""
    for page in (None, "/"):
        site, alone = Site(root, change, front=behind), Site(root, change)
        for place in PLACES:
            for method in ("GET", "HEAD", "GET"):
                ours, theirs = (
                    Client(each.app).open(f"{place}a.css", method=method, buffered=True)
                    for each in (site, alone)
                )
                assert shown(ours, VARY) == shown(theirs, VARY)
                assert ours.status_code == status
            if page is not None:
                for each in (site, alone):
                    Client(each.app).open(page, buffered=True)
        assert site.seen == alone.seen
        assert bool(site.seen) is sees
        assert site.cache.stats().served == 0
        assert site.cache.explain(f"{APP}a.css").lane is Lane.BYPASS


@pytest.mark.parametrize("disguise", DISGUISES)
@pytest.mark.parametrize("name", HOOKS)
def test_what_looks_like_a_harmless_hook_guards(root: Path, name: str, disguise: str) -> None:
    setting_up, table = HOOKS[name]

    def change(site: Site) -> None:
        setting_up(site)
        hooks = hooks_of(site.app, table)
        hooks[0] = DISGUISES[disguise](hooks[0], site.saw)

    check(root, change)


def plain(_stock: Callable[..., Any]) -> Callable[[Any], Any]:
    return lambda method: method


@pytest.mark.parametrize("by_instance", [False, True])
@pytest.mark.parametrize("wraps", [plain, functools.wraps])
@pytest.mark.parametrize("name", METHODS)
def test_a_subclass_that_does_it_in_its_own_way_guards(
    root: Path, name: str, wraps: Callable[..., Any], by_instance: bool
) -> None:
    kind, method, setting_up = METHODS[name]
    stock = getattr(kind, method)

    def change(site: Site) -> None:
        @wraps(stock)
        def own(*args: Any, **options: Any) -> Any:
            site.saw("its own way")
            return stock(*args, **options)

        def install(self: Any, *args: Any, **options: Any) -> None:
            setattr(self, method, functools.partial(own, self))
            kind.__init__(self, *args, **options)

        members = {"__init__": install} if by_instance else {method: own}
        setting_up(site, type("Own", (kind,), members))

    check(root, change)


@pytest.mark.parametrize("wraps", [plain, functools.wraps])
@pytest.mark.parametrize("name", METHODS)
def test_a_patch_of_the_librarys_own_class_guards(
    root: Path, monkeypatch: pytest.MonkeyPatch, name: str, wraps: Callable[..., Any]
) -> None:
    kind, method, setting_up = METHODS[name]
    stock = getattr(kind, method)

    @wraps(stock)
    def patched(*args: Any, **options: Any) -> Any:
        flask.current_app.extensions["site"].saw("patched")
        return stock(*args, **options)

    def change(site: Site) -> None:
        site.app.extensions["site"] = site
        setting_up(site, kind)

    monkeypatch.setattr(kind, method, patched)
    check(root, change)


def test_a_subclass_of_the_check_guards(root: Path) -> None:
    class Own(CSRFProtect):  # type: ignore[misc]
        def _is_exempt(self) -> bool:
            flask.abort(403)

    check(root, lambda site: wtf(site, Own), status=403, sees=False)


def test_a_check_replaced_afterwards_guards(root: Path) -> None:
    def change(site: Site) -> None:
        wtf(site)
        site.app.extensions["csrf"].protect = lambda apply_exemptions: site.saw("checked")

    check(root, change)


@pytest.mark.parametrize("methods", [["GET", "HEAD", "POST"], {"GET", "HEAD"}])
def test_a_check_of_reads_guards(root: Path, methods: Any) -> None:
    def change(site: Site) -> None:
        site.app.config["WTF_CSRF_METHODS"] = methods
        wtf(site)

    check(root, change, status=400, sees=False)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_check_of_one_kind_of_reads_guards(root: Path, method: str) -> None:
    def change(site: Site) -> None:
        site.app.config["WTF_CSRF_METHODS"] = [method]
        wtf(site)

    site, alone = Site(root, change, front=behind), Site(root, change)
    for asked in ("GET", "HEAD") * 2:
        answer = site.ask(f"{APP}a.css", asked)
        assert answer.all == alone.ask(f"{APP}a.css", asked).all
        assert answer.status == ("400 BAD REQUEST" if asked == method else "200 OK")
        assert answer.lane is Lane.BYPASS


def test_a_check_that_is_off_or_of_writes_hinders_nothing(root: Path) -> None:
    for config in ({"WTF_CSRF_ENABLED": False}, {"WTF_CSRF_CHECK_DEFAULT": False}, {}):

        def change(site: Site, config: dict[str, bool] = config) -> None:
            site.app.config.update(config)
            CSRFProtect(site.app).exempt(site.reports)

        site = Site(root, change, front=behind)
        site.app.secret_key = "secret"
        for place in PLACES:
            assert site.ask(f"{place}a.css").lane is Lane.SERVE
            answer = site.ask(f"{place}a.css", "POST")
            assert answer.all == Site(root, change).ask(f"{place}a.css", "POST").all
