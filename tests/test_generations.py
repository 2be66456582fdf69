"""Generations: one contract, whatever the reach of the numbers."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from forking import in_child

from wsgi_usercache.generations import EVERYBODY, SLOTS, Generations, slot_of
from wsgi_usercache.generations.host import HostGenerations
from wsgi_usercache.generations.process import ProcessGenerations
from wsgi_usercache.generations.reach import generations_of

SETTLE = 10.0


class Clock:
    """A clock that stands until it is told otherwise."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def of_process(clock: Clock, tmp_path: Path) -> Generations:
    return ProcessGenerations(settle=SETTLE, clock=clock)


def of_host(clock: Clock, tmp_path: Path) -> Generations:
    return HostGenerations(
        lambda: tmp_path / "state",
        settle=SETTLE,
        clock=clock,
        clock_ns=lambda: round(clock.now * 1e9),
    )


@pytest.fixture(params=[of_process, of_host], ids=["process", "host"])
def generations(
    request: pytest.FixtureRequest, clock: Clock, tmp_path: Path
) -> Iterator[Generations]:
    made: Generations = request.param(clock, tmp_path)
    yield made
    made.close()


def test_a_number_stays_as_long_as_nothing_changes(generations: Generations) -> None:
    before = generations.current((1, EVERYBODY))
    assert 0 not in before
    generations.bump((2,))
    assert generations.current((1, EVERYBODY)) == before


def test_a_change_stores_a_number_that_never_occurred_before(generations: Generations) -> None:
    seen = {generations.current((7,))[0]}
    for turn in range(50):
        if turn % 2:
            generations.bump((7, 8))
        else:
            generations.changing((7,)).changed()
        number = generations.current((7,))[0]
        assert number not in seen
        assert number
        seen.add(number)


def test_numbers_are_answered_in_the_order_of_the_question(generations: Generations) -> None:
    generations.bump((3,))
    generations.bump((4,))
    three, four = generations.current((3,)), generations.current((4,))
    assert three != four
    assert generations.current((4, 3, 4)) == four + three + four
    assert generations.current(()) == ()


def test_everybody_is_one_slot_of_its_own(generations: Generations) -> None:
    assert EVERYBODY == SLOTS
    before = generations.current((0, SLOTS - 1, EVERYBODY))
    generations.bump((EVERYBODY,))
    after = generations.current((0, SLOTS - 1, EVERYBODY))
    assert after[:2] == before[:2]
    assert after[2] != before[2]


def test_what_changed_before_a_moment_has_not_changed_since(generations: Generations) -> None:
    generations.bump((1,))
    generations.changing((2,)).changed()
    moment = generations.moment()
    assert generations.unchanged_since(moment, (1, 2, 3))
    assert generations.unchanged_since(moment, ())


@pytest.mark.parametrize("how", ["bump", "changed", "lost"])
def test_what_changed_after_a_moment_has_changed_since(
    generations: Generations, clock: Clock, how: str
) -> None:
    generations.bump((1, 2))
    moment = generations.moment()
    if how == "bump":
        generations.bump((1,))
    else:
        getattr(generations.changing((1,)), how)()
    assert how == "lost" or generations.unchanged_since(moment, (2,))
    clock.now += SETTLE if how == "lost" else 0
    assert not generations.unchanged_since(moment, (1,))
    assert not generations.unchanged_since(moment, (2, 1))


def test_what_is_being_changed_counts_as_changed_since(generations: Generations) -> None:
    generations.bump((1,))
    moment = generations.moment()
    fence = generations.changing((1,))
    assert not generations.unchanged_since(moment, (1,))
    fence.unchanged()
    assert generations.unchanged_since(moment, (1,))


def test_nobody_can_rely_on_a_slot_while_its_mark_stands(generations: Generations) -> None:
    before = generations.current((1, 2))
    fence = generations.changing((1,))
    assert generations.current((1, 2)) == (0, before[1])
    fence.changed()
    after = generations.current((1, 2))
    assert after[0] not in (0, before[0])
    assert after[1] == before[1]


def test_a_change_that_was_not_made_leaves_the_number_as_it_was(generations: Generations) -> None:
    before = generations.current((1,))
    changes = generations.changes
    generations.changing((1,)).unchanged()
    assert generations.current((1,)) == before
    assert generations.changes == changes


@pytest.mark.parametrize("first", ["changed", "unchanged"])
@pytest.mark.parametrize("second", ["changed", "unchanged"])
def test_a_slot_two_are_changing_is_free_once_both_are_through(
    generations: Generations, first: str, second: str
) -> None:
    before = generations.current((5,))
    one, other = generations.changing((5, 6)), generations.changing((5,))
    getattr(one, first)()
    assert generations.current((5,)) == (0,)
    assert generations.current((6,)) != (0,)
    getattr(other, second)()
    after = generations.current((5,))
    assert after != (0,)
    assert (after == before) == (first == second == "unchanged")


def test_one_who_names_a_slot_twice_changes_it_once(generations: Generations) -> None:
    other = generations.changing((5,))
    generations.changing((5, 5)).changed()
    assert generations.current((5,)) == (0,)
    other.unchanged()
    assert generations.current((5,)) != (0,)


def test_a_bump_does_not_take_a_mark_away(generations: Generations) -> None:
    fence = generations.changing((5,))
    generations.bump((5,))
    assert generations.current((5,)) == (0,)
    fence.unchanged()
    assert generations.current((5,)) != (0,)


def test_the_marks_of_a_lost_change_stand_until_it_is_settled(
    generations: Generations, clock: Clock
) -> None:
    before = generations.current((5,))
    generations.changing((5,)).lost()
    assert generations.current((5,)) == (0,)
    clock.now += SETTLE - 0.1
    assert generations.current((5,)) == (0,)
    clock.now += 0.2
    after = generations.current((5,))
    assert after not in ((0,), before)
    clock.now += SETTLE
    assert generations.current((5,)) == after


def test_a_lost_change_settles_only_its_own_mark(generations: Generations, clock: Clock) -> None:
    other = generations.changing((5,))
    generations.changing((5,)).lost()
    later = generations.changing((5,))
    clock.now += SETTLE
    assert generations.current((5,)) == (0,)
    later.lost()
    other.changed()
    assert generations.current((5,)) == (0,)
    clock.now += SETTLE
    assert generations.current((5,)) != (0,)


def test_changes_that_were_made_are_counted(generations: Generations, clock: Clock) -> None:
    before = generations.changes
    generations.bump((1, 2, 3))
    generations.changing((1, 2)).changed()
    generations.changing((1,)).unchanged()
    assert generations.changes == before + 2
    generations.changing((1,)).lost()
    clock.now += SETTLE
    generations.current((1,))
    assert generations.changes == before + 3


def test_no_change_of_many_threads_is_lost(generations: Generations) -> None:
    before = generations.changes
    start = threading.Barrier(8)

    def change() -> None:
        start.wait()
        for _ in range(300):
            generations.bump((5,))
            generations.changing((5, 6)).changed()

    threads = [threading.Thread(target=change) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert generations.changes == before + 8 * 600
    assert 0 not in generations.current((5, 6))


def test_a_forked_child_goes_on_after_the_first_use(generations: Generations) -> None:
    generations.bump((5,))
    before = generations.current((5,))

    def change_in_child() -> bool:
        generations.bump((5,))
        return generations.current((5,)) not in (before, (0,))

    assert in_child(change_in_child) == "True"


def test_a_number_does_not_come_back_when_changes_meet() -> None:
    # One change stores its number twice, another change comes in between.
    generations = ProcessGenerations()
    stored, go_on = threading.Event(), threading.Event()

    def slots() -> Iterator[int]:
        yield 5
        stored.set()
        go_on.wait()
        yield 5

    one = threading.Thread(target=lambda: generations.bump(slots()))
    other = threading.Thread(target=lambda: generations.bump((5,)))
    one.start()
    stored.wait()
    between = generations.current((5,))
    other.start()
    other.join(0.1)  # if it could come in between, it would be through by now
    go_on.set()
    one.join()
    other.join()
    assert generations.current((5,)) != between


SLOT_NAMES = ("user:1", "user:ä", "table:roles", "")


def test_a_name_has_the_same_slot_in_every_process() -> None:
    code = f"from wsgi_usercache.generations import slot_of; print(*map(slot_of, {SLOT_NAMES!r}))"
    for seed in ("1", "2"):
        environ = {**os.environ, "PYTHONHASHSEED": seed}
        run = subprocess.run(
            [sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=True
        )
        assert run.stdout.split() == [str(slot_of(name)) for name in SLOT_NAMES]


def test_slots_are_within_the_table_and_spread_over_it() -> None:
    slots = [slot_of(f"user:{number}") for number in range(2000)]
    assert 0 <= min(slots) <= max(slots) < SLOTS
    assert len(set(slots)) > 1900


def test_all_apps_of_a_process_share_their_numbers() -> None:
    made = generations_of("process")
    assert made is generations_of("process")


def test_a_child_settles_what_others_were_changing_when_it_was_forked() -> None:
    # The thread that raised the mark is not in the child and will never take it down there.
    generations = generations_of("process")
    before = generations.current((5,))
    raised, done = threading.Event(), threading.Event()

    def change() -> None:
        fence = generations.changing((5,))
        raised.set()
        done.wait()
        fence.unchanged()

    thread = threading.Thread(target=change)
    thread.start()
    raised.wait()

    def child() -> object:
        fresh = generations.changing((6,))
        fresh.unchanged()
        return generations.current((5, 6))

    try:
        assert in_child(child) == str((0, *generations.current((6,))))
    finally:
        done.set()
        thread.join()
    assert generations.current((5,)) == before


@pytest.mark.parametrize("end", ["changed", "unchanged", "lost"])
def test_the_marks_a_child_inherits_come_down_once(clock: Clock, end: str) -> None:
    generations = ProcessGenerations(settle=SETTLE, clock=clock)
    before = generations.current((5,))
    fence, of_another_thread = generations.changing((5,)), generations.changing((5,))

    def child() -> object:
        generations.after_fork()
        getattr(fence, end)()
        mine = generations.changing((5,))
        seen = [generations.current((5,)) == (0,)]
        clock.now += SETTLE
        seen.append(generations.current((5,)) == (0,))  # that of the child's own change
        mine.unchanged()
        seen.append(generations.current((5,)) in ((0,), before))
        return seen

    assert in_child(child) == "[True, True, False]"
    fence.unchanged()
    of_another_thread.unchanged()
    assert generations.current((5,)) == before


def test_a_lock_held_while_forking_does_not_stop_the_child() -> None:
    # A thread is inside the lock, held up by the slots it is given, while this one forks.
    generations = generations_of("process")
    inside, leave = threading.Event(), threading.Event()

    def slots() -> Iterator[int]:
        inside.set()
        leave.wait()
        yield 5

    thread = threading.Thread(target=lambda: generations.bump(slots()))
    thread.start()
    inside.wait()

    def child() -> str:
        generations.bump((5,))
        return "free"

    try:
        assert in_child(child) == "free"
    finally:
        leave.set()
        thread.join()
