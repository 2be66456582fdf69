"""Identities: who joins whose load, played by hand; loader calls are counted."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import cachetools
import pytest
from flask import Flask
from flask_caching import Cache
from forking import in_child
from sources import PATIENCE, TTL, Ours, Source, name

from wsgi_usercache.generations import slot_of
from wsgi_usercache.identities import IdentityCache, Loaded


@pytest.fixture
def ours() -> Ours:
    return Ours()


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(64) as threads:
        yield threads


class OfCachetools:
    """The usual answer: a decorated loader, entries deleted by hand."""

    def __init__(self) -> None:
        self.source = Source()
        self.kept: Any = cachetools.TTLCache(100, TTL)
        condition = threading.Condition()
        self.get = cachetools.cached(self.kept, condition=condition)(self.source.load)

    def invalidate(self, user: str = "1") -> None:
        with self.get.cache_condition:
            self.kept.pop(self.get.cache_key(user), None)


class OfFlaskCaching:
    """The other usual answer: a memoized loader."""

    def __init__(self) -> None:
        self.source = Source()
        self.app = Flask("peer")
        self.cache = Cache(self.app, config={"CACHE_TYPE": "SimpleCache"})

        @self.cache.memoize(int(TTL))
        def load(user: str) -> Any:
            return self.source.load(user)

        self.memoized = load

    def get(self, user: str = "1") -> Any:
        with self.app.app_context():
            return self.memoized(user)

    def invalidate(self, user: str = "1") -> None:
        with self.app.app_context():
            self.cache.delete_memoized(self.memoized, user)


def late_reader(cache: Any, pool: ThreadPoolExecutor) -> tuple[Any, Any]:
    """What a reader gets who starts after `invalidate()` returned, while a load begun before it
    still hangs (None if he hangs with it); and what the next one gets, after that load's end."""
    cache.source.held = {1}
    leader = pool.submit(cache.get, "1")
    assert cache.source.running.wait(PATIENCE)
    cache.source.values["1"] = "new"
    cache.invalidate("1")
    late = pool.submit(cache.get, "1")
    try:
        answer = late.result(0.5 if not isinstance(cache, Ours) else PATIENCE / 2)
    except TimeoutError:
        answer = None
    finally:
        cache.source.let_go.set()
    assert leader.result(PATIENCE) == "old"
    late.result(PATIENCE)
    return answer, cache.get("1")


def test_who_starts_after_invalidate_does_not_join_a_load_begun_before_it(
    ours: Ours, pool: ThreadPoolExecutor
) -> None:
    assert late_reader(ours, pool) == ("new", "new")
    assert ours.source.calls == 2
    assert ours.cache.counts["waits"] == 0
    assert ours.cache.unstored == {"changed during the load": 1}


@pytest.mark.parametrize("peer", [OfCachetools, OfFlaskCaching])
def test_the_usual_answers_fail_the_same_test(peer: Any, pool: ThreadPoolExecutor) -> None:
    assert late_reader(peer(), pool) != ("new", "new")


def test_nobody_joins_a_load_while_a_mark_stands(ours: Ours, pool: ThreadPoolExecutor) -> None:
    fence = ours.generations.changing((slot_of(name("1")),))
    ours.source.held = {1}
    leader = pool.submit(ours.get)
    assert ours.source.running.wait(PATIENCE)
    assert ours.get() == "old"
    assert ours.source.calls == 2
    assert ours.cache.counts["waits"] == 0
    ours.source.let_go.set()
    leader.result(PATIENCE)
    fence.unchanged()


def test_clear_drops_what_is_under_way_as_well(ours: Ours, pool: ThreadPoolExecutor) -> None:
    ours.source.held = {1}
    leader = pool.submit(ours.get)
    assert ours.source.running.wait(PATIENCE)
    ours.source.values["1"] = "new"
    ours.cache.clear()
    assert ours.get() == "new"  # without waiting for the leader
    ours.cache.clear()
    ours.source.let_go.set()
    assert leader.result(PATIENCE) == "old"
    assert len(ours.cache) == 0
    assert ours.get() == "new"
    assert ours.source.calls == 3


def test_those_who_know_the_same_names_in_another_order_share_a_load(
    pool: ThreadPoolExecutor,
) -> None:
    # Equal sets may be walked in different orders.
    orders = [("roles", "teams"), ("teams", "roles")]
    ours = Ours(known=lambda: orders.pop())
    ours.generations.bump((slot_of("roles"),))
    ours.source.held = {1}
    leader = pool.submit(ours.get)
    assert ours.source.running.wait(PATIENCE)
    waiting = threading.Event()
    follower = pool.submit(ours.get, may_wait=lambda: waiting.set() or True)
    assert waiting.wait(PATIENCE)
    ours.source.let_go.set()
    assert {leader.result(PATIENCE), follower.result(PATIENCE)} == {"old"}
    assert ours.source.calls == 1


def test_who_waited_for_a_load_longer_than_ttl_loads_anew(pool: ThreadPoolExecutor) -> None:
    ours = Ours()
    ours.source.held = {1}
    leader = pool.submit(ours.get)
    assert ours.source.running.wait(PATIENCE)
    waiting = threading.Event()
    follower = pool.submit(ours.get, may_wait=lambda: waiting.set() or True)
    assert waiting.wait(PATIENCE)
    ours.source.values["1"] = "new"  # told nobody
    ours.clock.now += TTL + 1
    ours.source.let_go.set()
    assert leader.result(PATIENCE) == "old"
    assert follower.result(PATIENCE) == "new"


def test_64_threads_asking_for_one_cold_user_load_him_once(
    ours: Ours, pool: ThreadPoolExecutor
) -> None:
    ours.source.held = {1}
    arrived = threading.Semaphore(0)

    def may_wait() -> bool:
        arrived.release()
        return True

    leader = pool.submit(ours.get)
    assert ours.source.running.wait(PATIENCE)
    others = [pool.submit(ours.get, may_wait=may_wait) for _ in range(63)]
    assert all(arrived.acquire(timeout=PATIENCE) for _ in others)
    ours.source.let_go.set()
    assert {thread.result(PATIENCE) for thread in (leader, *others)} == {"old"}
    assert ours.source.calls == 1
    assert ours.cache.counts["waits"] == 63
    assert ours.cache.counts["loads"] == 1
    assert ours.cache.counts["misses"] == 64


def test_a_load_that_fails_frees_those_who_wait_and_each_loads_for_itself(
    ours: Ours, pool: ThreadPoolExecutor
) -> None:
    ours.source.held = {1}
    arrived = threading.Semaphore(0)

    def fail() -> Loaded:
        ours.source.load()
        raise LookupError("no database")

    leader = pool.submit(ours.entry_of, load=fail)
    assert ours.source.running.wait(PATIENCE)
    others = [pool.submit(ours.get, may_wait=lambda: arrived.release() is None) for _ in range(3)]
    assert all(arrived.acquire(timeout=PATIENCE) for _ in others)
    ours.source.let_go.set()
    with pytest.raises(LookupError):
        leader.result(PATIENCE)
    assert [thread.result(PATIENCE) for thread in others] == ["old"] * 3
    assert ours.source.calls == 4
    assert ours.get() == "old"
    assert ours.source.calls == 4


def test_five_requests_that_hold_the_connections_of_a_pool_do_not_wait(
    ours: Ours, pool: ThreadPoolExecutor
) -> None:
    # The leader waits for a connection; if they waited for him, nobody would ever move.
    ours.source.held = {1}
    leader = pool.submit(ours.get)
    assert ours.source.running.wait(PATIENCE)
    holders = [pool.submit(ours.get, may_wait=lambda: False) for _ in range(5)]
    assert [thread.result(PATIENCE) for thread in holders] == ["old"] * 5
    assert not leader.done()
    ours.source.let_go.set()
    leader.result(PATIENCE)
    assert ours.cache.counts["waits"] == 0


def test_who_has_waited_long_enough_loads_for_himself(pool: ThreadPoolExecutor) -> None:
    ours = Ours(wait=0.01)
    ours.source.held = {1}
    leader = pool.submit(ours.get)
    assert ours.source.running.wait(PATIENCE)
    assert ours.get() == "old"
    assert ours.source.calls == 2
    assert ours.cache.counts["waits"] == 1
    assert not leader.done()
    ours.source.let_go.set()
    leader.result(PATIENCE)


def test_a_refresh_never_joins_but_others_may_join_its_load(
    ours: Ours, pool: ThreadPoolExecutor
) -> None:
    ours.get()
    ours.get(refresh=True)
    assert ours.source.calls == 2  # an entry does not keep it from loading
    ours.invalidate()
    ours.source.held = {3, 4}
    leader = pool.submit(ours.get)
    assert ours.source.running.wait(PATIENCE)
    ours.source.running.clear()
    refresh = pool.submit(ours.get, refresh=True)
    assert ours.source.running.wait(PATIENCE)
    arrived = threading.Event()
    other = pool.submit(ours.get, may_wait=lambda: arrived.set() or True)
    assert arrived.wait(PATIENCE)
    ours.source.let_go.set()
    assert {thread.result(PATIENCE) for thread in (leader, refresh, other)} == {"old"}
    assert ours.source.calls == 4
    assert ours.cache.counts["waits"] == 1


def test_who_looked_just_before_a_load_landed_takes_what_it_brought(
    ours: Ours, pool: ThreadPoolExecutor
) -> None:
    ours.source.held = {1}
    leader = pool.submit(ours.get)
    assert ours.source.running.wait(PATIENCE)
    looked, go_on, current = threading.Event(), threading.Event(), ours.generations.current

    def paused(slots: Any) -> Any:
        ours.generations.current = current  # type: ignore[method-assign]  # once is enough
        looked.set()
        assert go_on.wait(PATIENCE)
        return current(slots)

    ours.generations.current = paused  # type: ignore[method-assign]
    late = pool.submit(ours.get)
    assert looked.wait(PATIENCE)  # it found nothing, and reads the numbers now
    ours.source.let_go.set()
    assert leader.result(PATIENCE) == "old"
    go_on.set()
    assert late.result(PATIENCE) == "old"
    assert ours.source.calls == 1


TABLES = frozenset({"table:role", "table:post"})


def resting_on_roles(ours: Ours) -> Any:
    value = ours.source.load()
    return Loaded(value, value, frozenset({"table:role"}))


@pytest.mark.parametrize(("table", "waits"), [("table:post", 1), ("table:role", 0)])
def test_a_table_written_meanwhile_counts_only_if_users_are_made_of_it(
    pool: ThreadPoolExecutor, table: str, waits: int
) -> None:
    ours = Ours(known=lambda: TABLES)
    ours.entry_of(load=lambda: resting_on_roles(ours))
    ours.invalidate()
    ours.source.held = {2}
    leader = pool.submit(ours.entry_of, load=lambda: resting_on_roles(ours))
    assert ours.source.running.wait(PATIENCE)
    ours.generations.bump((slot_of(table),))
    arrived = threading.Event()
    late = pool.submit(
        ours.entry_of,
        load=lambda: resting_on_roles(ours),
        may_wait=lambda: arrived.set() or True,
    )
    if waits:
        assert arrived.wait(PATIENCE)
    else:
        late.result(PATIENCE)
    ours.source.let_go.set()
    leader.result(PATIENCE)
    late.result(PATIENCE)
    assert ours.cache.counts["waits"] == waits
    assert ours.source.calls == 3 - waits


def test_what_a_load_brought_is_not_taken_by_who_read_newer_numbers_of_it(
    pool: ThreadPoolExecutor,
) -> None:
    ours = Ours(known=lambda: TABLES)  # nobody knows yet that users are made of roles
    ours.source.held = {1}
    leader = pool.submit(ours.entry_of, load=lambda: resting_on_roles(ours))
    assert ours.source.running.wait(PATIENCE)
    ours.generations.bump((slot_of("table:role"),))
    arrived = threading.Event()
    late = pool.submit(
        ours.entry_of,
        load=lambda: resting_on_roles(ours),
        may_wait=lambda: arrived.set() or True,
    )
    assert arrived.wait(PATIENCE)
    ours.source.let_go.set()
    leader.result(PATIENCE)
    late.result(PATIENCE)
    assert ours.source.calls == 2


def test_a_load_that_asks_for_its_own_user_does_not_wait_for_itself(ours: Ours) -> None:
    seen = []

    def load() -> Loaded:
        seen.append(ours.get())
        return ours.load()

    entry, _ = ours.entry_of(load=load)
    assert entry is not None
    assert seen == ["old"]
    assert ours.cache.counts["waits"] == 0


def test_a_load_that_has_landed_does_not_stand_in_the_way_of_the_next(
    ours: Ours, pool: ThreadPoolExecutor
) -> None:
    ours.get()
    ours.clock.now += TTL
    ours.source.held = {2}
    leader = pool.submit(ours.get)
    assert ours.source.running.wait(PATIENCE)
    waiting = threading.Event()
    follower = pool.submit(ours.get, may_wait=lambda: waiting.set() or True)
    assert waiting.wait(PATIENCE)
    ours.source.let_go.set()
    assert {leader.result(PATIENCE), follower.result(PATIENCE)} == {"old"}
    assert ours.source.calls == 2


def test_loads_of_different_users_do_not_wait_for_each_other(
    ours: Ours, pool: ThreadPoolExecutor
) -> None:
    ours.source.held = {1}
    leader = pool.submit(ours.get)
    assert ours.source.running.wait(PATIENCE)
    ours.source.values["2"] = "two"
    assert pool.submit(ours.get, "2").result(PATIENCE) == "two"
    ours.source.let_go.set()
    leader.result(PATIENCE)


def test_a_forked_child_with_a_cache_of_its_own_does_not_join_its_parents_loads(
    ours: Ours, pool: ThreadPoolExecutor
) -> None:
    ours.source.held = {1}
    leader = pool.submit(ours.get)
    assert ours.source.running.wait(PATIENCE)

    def child() -> object:
        cache = IdentityCache(ours.generations, ttl=TTL, maxsize=1)
        entry, loaded = cache.get_or_load("1", name("1"), lambda: Loaded("mine", "mine"))
        return entry and entry.frozen, loaded and loaded.user

    assert in_child(child) == "('mine', 'mine')"
    ours.source.let_go.set()
    assert leader.result(PATIENCE) == "old"
