"""A change in one worker is seen by the next request in all of them: asked of real servers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from random import Random
from time import monotonic
from typing import Any

import pytest
from consistency import server as servers
from consistency.faults import POINTS
from consistency.traffic import Size, Traffic, own_things

WORKERS = 4
SETTLE = 1.0  # seconds; as long as a test can wait
PATIENCE = 20.0  # seconds

BOUNDED, SOAK = Size(reads=800, changes=40), Size(reads=40_000, changes=2_000)

soak = pytest.mark.soak
sizes = pytest.mark.parametrize(
    "size", [pytest.param(BOUNDED, id="bounded"), pytest.param(SOAK, id="soak", marks=soak)]
)
worker_classes = pytest.mark.parametrize("worker_class", ["sync", "gthread", "gevent"])
# Where a server is started for little else, one class will do in everyday runs.
one_worker_class = pytest.mark.parametrize(
    "worker_class",
    ["gthread", pytest.param("sync", marks=soak), pytest.param("gevent", marks=soak)],
)

Start = Callable[..., Traffic]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts both; keywords are gunicorn's settings, `config` is the application's."""
    with ExitStack() as stack:

        def start(size: Size, *, config: Any = None, **settings: Any) -> Traffic:
            config = {"USERCACHE_BACKEND": "host", "USERCACHE_SETTLE": SETTLE, **(config or {})}
            settings = {"workers": WORKERS, "preload_app": False, **settings}
            server = stack.enter_context(servers.gunicorn(tmp_path, settings, **config))
            script = stack.enter_context(servers.script(tmp_path, **config))
            return Traffic(server, script, tmp_path, size)

        yield start


@sizes
@pytest.mark.parametrize("preload", [False, True], ids=["", "preload"])
@worker_classes
def test_no_answer_is_older_than_a_change_that_had_returned(
    start: Start, worker_class: str, preload: bool, size: Size
) -> None:
    traffic = start(size, worker_class=worker_class, preload_app=preload)
    report = traffic.run()
    print(f"{worker_class}{' preload' if preload else ''}: {report}")
    assert report.stale == ()
    assert traffic.failures == []
    assert report.hit_rate > 0.5
    assert len({read.pid for read in traffic.reads}) >= WORKERS


@sizes
@one_worker_class
def test_the_same_traffic_finds_many_stale_answers_where_workers_do_not_meet(
    start: Start, worker_class: str, size: Size
) -> None:
    traffic = start(size, worker_class=worker_class, config={"USERCACHE_BACKEND": "process"})
    report = traffic.run()
    print(f"{worker_class}, backend process: {report}")
    assert len(report.stale) > report.changes
    assert traffic.failures == []


@sizes
@one_worker_class
def test_workers_killed_at_random_leave_no_stale_answer_behind(
    start: Start, worker_class: str, size: Size
) -> None:
    traffic = start(size, worker_class=worker_class)
    random = Random(worker_class)
    kills: list[float] = []

    def kill(turn: int) -> None:
        kills.append(monotonic())
        traffic.server.kill_worker(random.choice(traffic.server.workers()))

    report = traffic.run(kill, times=size.changes // 8)
    print(f"{worker_class}, {len(kills)} killed: {report}")
    assert report.stale == ()
    for failure in traffic.failures:
        assert any(failure.sent < kill + 0.5 and kill < failure.failed for kill in kills), failure


@one_worker_class
def test_a_worker_killed_in_the_middle_of_a_change_leaves_no_stale_answer_behind(
    start: Start, worker_class: str
) -> None:
    traffic = start(Size(reads=200, changes=10), worker_class=worker_class)
    traffic.run()
    for turn, point in enumerate(POINTS):
        user, aspect = own_things(0)[turn]
        until_all_hit(traffic, user)  # each has an answer that must not be given again
        before = traffic.in_database(user, aspect)
        traffic.by_server(user, aspect, X_Kill_At=point)
        assert len(traffic.failures) == turn + 1, f"nobody died at {point!r}"
        made = traffic.in_database(user, aspect) - before
        assert made == (0 if point == "marked" else 1)
        seconds = until_all_hit(traffic, user)
        print(f"{worker_class}, killed when {point}: in use again after {seconds:.1f} s")
        assert SETTLE <= seconds < SETTLE + 5.0
    assert traffic.report().stale == ()


def until_all_hit(traffic: Traffic, user: int) -> float:
    """Ask for *user* until all workers answer from memory; the seconds that took."""
    began = monotonic()
    hits: dict[int, bool] = {}
    while not all(hits.get(pid) for pid in traffic.server.workers()):
        assert monotonic() < began + PATIENCE, "some worker does not remember"
        read = traffic.read(user)
        assert read is not None
        hits[read.pid] = not read.loads
    return monotonic() - began


@one_worker_class
def test_a_graceful_reload_changes_nothing_for_clients(start: Start, worker_class: str) -> None:
    traffic = start(BOUNDED, worker_class=worker_class)
    report = traffic.run(lambda _: traffic.server.reload(), times=1)
    print(f"{worker_class}, reloaded: {report}")
    assert report.stale == ()
    assert traffic.failures == []
    assert len({read.pid for read in traffic.reads}) > WORKERS


@one_worker_class
def test_workers_that_end_after_max_requests_change_nothing_for_clients(
    start: Start, worker_class: str
) -> None:
    limits = {"max_requests": 100, "max_requests_jitter": 50}
    traffic = start(BOUNDED, worker_class=worker_class, **limits)
    report = traffic.run()
    print(f"{worker_class}, max_requests: {report}")
    assert report.stale == ()
    assert traffic.failures == []
    assert len({read.pid for read in traffic.reads}) > WORKERS


# Not gthread: SQLite's own locks, held by another thread at the moment of the fork, make the child
# hang now and then with nothing but SQLAlchemy in the process (7 of 1,145 forks, tried).
@pytest.mark.parametrize("worker_class", ["sync", pytest.param("gevent", marks=pytest.mark.soak)])
def test_a_change_made_by_a_forked_child_of_a_worker_is_seen(
    start: Start, worker_class: str
) -> None:
    traffic = start(Size(reads=400, changes=20), worker_class=worker_class)
    traffic.write = "fork"
    report = traffic.run()
    print(f"{worker_class}, forks: {report}")
    assert report.stale == ()
    assert traffic.failures == []


def test_the_threads_of_waitress_and_a_script_agree(tmp_path: Path) -> None:
    config = {"USERCACHE_BACKEND": "host"}
    with (
        servers.waitress(tmp_path, **config) as server,
        servers.script(tmp_path, **config) as script,
    ):
        traffic = Traffic(server, script, tmp_path, BOUNDED)
        report = traffic.run()
    print(f"waitress: {report}")
    assert report.stale == ()
    assert traffic.failures == []
    assert report.hit_rate > 0.5
