"""How many connections does a crowd need whose views are slow, on a real PostgreSQL?

The complaint is a connection that is kept, idle in transaction, for as long as a view takes. For
the moment between the SELECT and the ROLLBACK of a load a connection is idle in transaction too,
and how long that moment is depends on who has the processor: no limit in seconds tells the two
apart. So rows of any age count where no load can be under way, that is, where everybody is
remembered or stands in a call that hangs; and where loads are under way each view says whether its
request has kept a connection.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from pool.connections import EXHAUSTED, MOST, Look, Watch, watched
from pool.crowd import (
    FETCHING,
    Answer,
    Crowd,
    crowd,
    hanging_call,
    page_with_assets,
    seconds,
    slow_view,
    statuses,
)
from pool.server import Server, gunicorn
from waiting import until

pytest_plugins = ["postgres"]

PEOPLE = 140  # more than the server has threads, so that none of these is ever without work
HANGING = 80  # fewer, so that somebody can still ask how many there are
LOOKS = 20
ASSETS = 24
OFF: dict[str, Any] = {"USERCACHE_ENABLED": False}
ON: dict[str, Any] = {"USERCACHE_TTL": 600.0}  # seconds; nobody is loaded again meanwhile
WITH_ROLES: dict[str, Any] = {**ON, "USERCACHE_LOAD": ["roles"]}


@dataclass(frozen=True, slots=True)
class Bench:
    """A server, those who are logged in there, and who looks at its connections."""

    server: Server
    crowd: Crowd
    watch: Watch

    @property
    def time_outs(self) -> int:
        """Requests that failed for want of a connection."""
        return self.server.log().count(EXHAUSTED)


@dataclass(frozen=True, slots=True)
class Phase:
    """What came of one visit of everybody, and what it cost."""

    answers: list[Answer]
    looks: list[Look]
    counts: dict[str, Any]  # at its end
    spent: dict[str, int]  # in it

    @property
    def most_idle(self) -> int:
        """How many connections were idle in transaction at once."""
        return max(look.rows for look in self.looks)

    def __str__(self) -> str:
        longest = max(look.seconds for look in self.looks)
        return (
            f"{len(self.answers)} requests, {statuses(self.answers)[500]} failed;"
            f" {self.spent['checkouts']} connections taken"
            f" (until now at most {self.counts['most_at_once']} at once),"
            f" at most {self.most_idle} idle in transaction, up to {longest:.2f} s"
            f" ({len(self.looks)} looks);"
            f" views p50 {seconds(self.answers, 0.5):.2f} s,"
            f" p95 {seconds(self.answers, 0.95):.2f} s"
        )


Start = Callable[..., Bench]


@pytest.fixture
def start(database: sa.URL, tmp_path: Path) -> Iterator[Start]:
    """Starts it with so many people, who have all just logged in; the rest is configuration."""
    with ExitStack() as stack:

        def start(people: int, config: dict[str, Any]) -> Bench:
            url = database.render_as_string(hide_password=False)
            config = {"SQLALCHEMY_DATABASE_URI": url, "PEOPLE": people, **config}
            server = stack.enter_context(gunicorn(tmp_path, **config))
            everybody = stack.enter_context(crowd(server.port, people))
            everybody.log_in()
            return Bench(server, everybody, stack.enter_context(watched(database)))

        yield start


def phase(bench: Bench, visit: Any) -> Phase:
    before = bench.server.counts()
    with bench.watch.looking() as looks:
        answers = bench.crowd.visit(visit)
    after = bench.server.counts()
    names = ("checkouts", "loads", "views", "views_with_connection", "hits", "misses", "served")
    spent = {name: after.get(name, 0) - before.get(name, 0) for name in names}
    return Phase(answers, looks, after, spent)


def test_without_the_cache_slow_views_keep_connections_until_others_fail(start: Start) -> None:
    bench = start(PEOPLE, OFF)
    phases = [phase(bench, slow_view), phase(bench, page_with_assets)]
    for name, each in zip(("slow views", "pages with assets"), phases, strict=True):
        print(f"\nwithout, {name}: {each}")
    failed = sum(statuses(each.answers)[500] for each in phases)
    assert failed > 0  # usually 15 to 45; with calls that hang, it is exact
    assert failed == bench.time_outs
    assert all(each.most_idle > MOST // 2 for each in phases)
    assert all(each.spent["views_with_connection"] == each.spent["views"] for each in phases)


def test_with_the_cache_slow_views_keep_no_connection_from_a_cold_start_on(start: Start) -> None:
    bench = start(PEOPLE, ON)
    cold, warm = phase(bench, slow_view), phase(bench, page_with_assets)
    print(f"\nwith, slow views, nobody remembered: {cold}\nwith, pages with assets: {warm}")
    assert statuses(cold.answers) == {200: PEOPLE}
    assert cold.spent["loads"] == cold.spent["misses"] == cold.spent["views"] == PEOPLE
    assert cold.spent["checkouts"] <= 2 * PEOPLE  # the loader's, and the identity handler's
    assert cold.spent["views_with_connection"] == 0
    assets = PEOPLE // FETCHING * ASSETS
    assert statuses(warm.answers) == {200: PEOPLE + assets}
    assert (warm.spent["hits"], warm.spent["served"]) == (PEOPLE, assets)
    assert (warm.spent["loads"], warm.spent["checkouts"], warm.most_idle) == (0, 0, 0)
    assert (bench.time_outs, warm.counts["out"], warm.counts["unstored"]) == (0, 0, {})


def test_without_the_cache_calls_that_hang_keep_every_connection(start: Start) -> None:
    bench = start(HANGING, OFF)
    with hanging(bench) as counts:
        assert counts["calls"] == counts["out"] == MOST
        assert {bench.watch.look().rows for _ in range(LOOKS)} == {MOST}
    assert statuses(bench.crowd.answers) == {200: MOST, 500: HANGING - MOST}
    assert bench.time_outs == HANGING - MOST


@pytest.mark.parametrize(("config", "each"), [(ON, 2), (WITH_ROLES, 1)], ids=["", "roles"])
def test_with_the_cache_calls_that_hang_keep_no_connection(
    start: Start, config: dict[str, Any], each: int
) -> None:
    bench = start(HANGING, config)
    before = bench.server.counts()
    with hanging(bench) as counts:
        assert counts["calls"] == HANGING
        assert counts["out"] == 0
        assert {bench.watch.look().rows for _ in range(LOOKS)} == {0}
    assert statuses(bench.crowd.answers) == {200: HANGING}
    assert counts["loads"] == HANGING
    assert counts["checkouts"] - before["checkouts"] <= each * HANGING


@contextmanager
def hanging(bench: Bench) -> Iterator[dict[str, Any]]:
    """Everybody is in the middle of a call, or was sent away with an error."""

    def counts() -> dict[str, Any] | None:
        counts = bench.server.counts()
        ended = len(bench.crowd.answers)
        return counts if counts.get("calls", 0) + ended == HANGING else None

    with ThreadPoolExecutor(1) as thread:
        asking = thread.submit(bench.crowd.visit, hanging_call)
        try:
            yield until(counts, "all calls hang")
        finally:
            bench.server.answer_calls()
        asking.result()
