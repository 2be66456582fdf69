"""The host backend in one process: what is done to its file, and what it says about it."""

from __future__ import annotations

import logging
import os
import resource
import shutil
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from members import POINTS, SECOND, SETTLE, Gone, Member

from wsgi_usercache.generations import EVERYBODY, SLOTS
from wsgi_usercache.generations.host import HostGenerations
from wsgi_usercache.generations.layout import CLOSED, COLUMNS, SIZE
from wsgi_usercache.generations.state_file import Claim, StateFile
from wsgi_usercache.generations.worker import CROWD, RETRY

STANDS = round(SETTLE * SECOND)


class Time:
    """The clocks, which stand until they are told otherwise."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.wall = 1_700_000_000 * SECOND
        self.meanwhile: list[Callable[[], object]] = []  # what happens while a column is taken
        self.while_settling: list[Callable[[], object]] = []  # ... while marks are looked after

    def steady(self) -> float:
        return self.now

    def steady_ns(self) -> int:
        while self.while_settling:
            self.while_settling.pop()()
        return round(self.now * SECOND)

    def wall_ns(self) -> int:
        while self.meanwhile:
            self.meanwhile.pop()()
        return self.wall


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"


@pytest.fixture
def make(state: Path, time: Time) -> Iterator[Callable[[], HostGenerations]]:
    """Generations at the same file; each is to the others as another process."""
    made: list[HostGenerations] = []

    def generations(path: Path = state) -> HostGenerations:
        made.append(
            HostGenerations(
                lambda: path,
                settle=SETTLE,
                clock=time.steady,
                clock_ns=time.steady_ns,
                wall_ns=time.wall_ns,
            )
        )
        return made[-1]

    yield generations
    for each in made:
        each.close()


@pytest.fixture
def one(make: Make) -> HostGenerations:
    return make()


@pytest.fixture
def other(make: Make) -> HostGenerations:
    return make()


Make = Callable[..., HostGenerations]


def remove(state: Path) -> None:
    state.unlink()


def rename_over(state: Path) -> None:
    # By a copy of what it was: the numbers that stood then stand there again.
    shutil.copy(state, f"{state}.copy")
    os.replace(f"{state}.copy", state)


def move_away(state: Path) -> None:
    state.rename(f"{state}.moved")


def empty(state: Path) -> None:
    os.truncate(state, 0)


def halve(state: Path) -> None:
    os.truncate(state, SIZE // 2)


def cut_the_head(state: Path) -> None:
    os.truncate(state, 11)


def lengthen(state: Path) -> None:
    with state.open("ab") as file:
        file.write(b"more")


def make_anew_in_place(state: Path) -> None:
    # As another process does that found it cut, before anybody else looked.
    os.truncate(state, 0)
    StateFile(state, mode=0o600)


def let_others_read(state: Path) -> None:
    state.chmod(0o644)


HARM = [
    remove, rename_over, move_away, empty, halve, cut_the_head, lengthen, make_anew_in_place,
    let_others_read,
]  # fmt: skip


@pytest.mark.parametrize("harm", HARM)
def test_after_the_file_was_harmed_what_was_loaded_before_is_never_good_again(
    one: HostGenerations,
    other: HostGenerations,
    state: Path,
    harm: Callable[[Path], None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    before = one.current((1, 2, EVERYBODY))
    other.bump((5,))
    harm(state)
    assert one.current((1, 2, EVERYBODY)) == (0, 0, 0)
    after = one.current((1, 2, EVERYBODY))
    assert 0 not in after
    assert not set(after) & set(before)
    other.bump((1,))
    assert one.current((1, 2))[0] not in (0, after[0])
    assert one.current((1, 2))[1] == after[1]
    by_one = [record.levelno for record in caplog.records]
    assert by_one == [logging.ERROR, logging.WARNING] * 2  # out and in again, each of the two
    assert all(str(state) in record.getMessage() for record in caplog.records)
    caplog.clear()
    state.unlink()
    assert one.current((1,)) == (0,)
    assert one.current((1,)) not in ((0,), after[:1])
    assert len(caplog.records) == 2


@pytest.mark.parametrize("harm", HARM)
def test_a_change_is_told_in_the_file_that_is_there_when_it_is_over(
    one: HostGenerations, make: Make, time: Time, state: Path, harm: Callable[[Path], None]
) -> None:
    before_harm = one.current((1, 2))
    fence = one.changing((1,))
    harm(state)
    newcomer = make()
    before = newcomer.current((1, 2))
    fence.changed()
    newcomer.current((1, 2))
    time.now += SETTLE  # the mark may have been copied with the file, and be nobody's in it
    after = newcomer.current((1, 2))
    assert after[0] not in (0, before[0], before_harm[0])
    assert after[1] == before[1]


@pytest.mark.parametrize("harm", HARM)
def test_the_marks_of_a_change_are_put_up_in_the_file_that_is_there(
    one: HostGenerations, make: Make, state: Path, harm: Callable[[Path], None]
) -> None:
    one.bump((1,))
    harm(state)
    newcomer = make()
    newcomer.current((1, 2))
    fence = one.changing((1,))
    assert newcomer.current((1,)) == (0,)
    fence.unchanged()
    assert 0 not in newcomer.current((1, 2))


def test_a_change_under_way_is_marked_in_a_file_that_comes_meanwhile(
    one: HostGenerations, make: Make, state: Path
) -> None:
    fence, second = one.changing((1, 2)), one.changing((2,))
    remove(state)
    one.current((1,))
    one.current((1,))  # by now it has opened the new one
    newcomer = make()
    assert newcomer.current((1, 2)) == (0, 0)
    fence.changed()
    assert newcomer.current((1,)) != (0,)
    assert newcomer.current((2,)) == (0,)
    second.changed()
    assert 0 not in newcomer.current((1, 2))


def test_a_file_replaced_in_the_middle_of_a_change_gets_the_number_too(
    one: HostGenerations, other: HostGenerations, time: Time, state: Path
) -> None:
    seen: list[tuple[int, ...]] = []
    one.current((1,))
    time.meanwhile = [lambda: seen.append(other.current((1, 2))), state.unlink]
    one.bump((1,))
    after = other.current((1, 2))
    assert after[0] not in (0, seen[-1][0])
    assert after[1] == seen[-1][1]


def test_who_finds_a_lost_file_opened_anew_leaves_it_open(
    one: HostGenerations, time: Time, state: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before = one.current((1,))

    def lose_and_open() -> None:
        state.unlink()
        assert one.current((1,)) == (0,)
        assert one.current((1,)) not in ((0,), before)

    time.meanwhile = [lose_and_open]
    one.bump((1,))
    assert one.current((1,)) not in ((0,), before)
    assert [record.levelno for record in caplog.records] == [logging.ERROR, logging.WARNING]


@pytest.mark.parametrize("word", [CLOSED, b"garbage!", b"userca02", bytes(8)])
def test_a_file_that_was_closed_or_overwritten_is_left_alone_until_it_is_replaced(
    one: HostGenerations,
    time: Time,
    state: Path,
    word: bytes,
    caplog: pytest.LogCaptureFixture,
) -> None:
    before = one.current((1,))
    good = state.read_bytes()[:8]
    write_word(state, word)
    assert one.current((1,)) == (0,)
    if word != bytes(8):  # that is one whose making was broken off
        for _ in range(20):
            assert one.current((1,)) == (0,)
            time.now += RETRY
        assert [record.levelno for record in caplog.records] == [logging.ERROR]
        assert state.read_bytes()[:8] == word
        write_word(state, good)
    after = one.current((1,))
    assert after not in ((0,), before)
    assert [record.levelno for record in caplog.records] == [logging.ERROR, logging.WARNING]


def write_word(state: Path, word: bytes) -> None:
    with state.open("r+b") as file:
        file.write(word)


def test_readers_do_not_try_again_before_it_is_time(
    one: HostGenerations, time: Time, state: Path
) -> None:
    state.mkdir()
    assert one.current((1,)) == (0,)
    state.rmdir()
    assert one.current((1,)) == (0,)
    assert not state.exists()
    time.now += RETRY
    assert one.current((1,)) != (0,)


def test_a_writer_tries_at_once(one: HostGenerations, make: Make, state: Path) -> None:
    state.mkdir()
    assert one.current((1,)) == (0,)
    state.rmdir()
    reader = make()
    before = reader.current((1,))
    one.bump((1,))
    assert reader.current((1,)) not in ((0,), before)


@pytest.mark.parametrize("change", ["bump", "changed", "lost"])
def test_a_change_nobody_could_be_told_of_is_told_as_soon_as_there_is_a_file(
    one: HostGenerations, make: Make, time: Time, state: Path, tmp_path: Path, change: str
) -> None:
    reader = make()
    before = reader.current((1, 2))
    state.rename(tmp_path / "kept")
    state.mkdir()
    if change == "bump":
        one.bump((1,))
    else:
        getattr(one.changing((1,)), change)()
    state.rmdir()
    (tmp_path / "kept").rename(state)
    assert reader.current((1, 2)) == before  # which nobody can help
    time.now += RETRY
    one.current((7,))
    time.now += SETTLE  # those of the lost one
    after = reader.current((1, 2))
    assert after[0] not in (0, before[0])
    assert after[1] == before[1]
    state.chmod(0o640)
    one.current((1,))
    one.current((1,))  # it has opened the file once more
    assert make().current((1, 2)) == after  # that it was told is not told again


def test_numbers_do_not_repeat_when_the_clock_goes_back(make: Make, time: Time) -> None:
    seen = set()
    for _ in range(3):
        for generations in (make(), make()):
            for _ in range(3):
                generations.bump((1,))
                number = generations.current((1,))[0]
                assert number not in seen
                seen.add(number)
        time.wall -= 3600 * SECOND


def test_a_later_owner_of_a_column_does_not_repeat_the_numbers_of_the_former(
    make: Make, time: Time
) -> None:
    reader, seen = make(), set()
    for _ in range(5):
        owner = make()
        for _ in range(3):
            owner.bump((1,))
            seen.add(reader.current((1,)))
        owner.close()
        time.wall -= 1  # it stands, or goes back a little
    assert len(seen) == 15


def test_a_broken_table_of_last_numbers_breaks_nothing(
    one: HostGenerations, other: HostGenerations, state: Path
) -> None:
    before = one.current((1,))
    with state.open("r+b") as file:
        file.seek(3072)
        file.write(b"\xff" * 1024)
    other.bump((1,))
    assert one.current((1,)) not in ((0,), before)


@pytest.fixture
def all_taken(state: Path) -> Iterator[list[Claim]]:
    """Every column there is for life, held by somebody else."""
    file = StateFile(state, mode=0o600)
    claims = [claim for column in range(CROWD) if (claim := file.claim(column)) is not None]
    assert len(claims) == CROWD == COLUMNS - 1
    yield claims
    for claim in claims:
        claim.release()


def test_who_gets_no_column_tells_all_the_same_and_says_so_once(
    all_taken: list[Claim], one: HostGenerations, other: HostGenerations, time: Time,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    before = other.current((1, 2, 3))
    for _ in range(3):
        one.bump((1,))
    after = other.current((1, 2, 3))
    assert after[0] not in (0, before[0])
    fence = one.changing((2,))
    assert one.current((2, 3)) == other.current((2, 3)) == (0, before[2])
    fence.changed()
    time.now += SETTLE - 0.001
    assert other.current((2, 3)) == (0, before[2])  # it can not take down what is not its own
    time.now += 0.001
    after = other.current((2, 3))
    assert after[0] not in (0, before[1])
    assert after[1] == before[2]
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    assert "127 processes" in caplog.text


def test_the_change_of_who_gets_no_column_is_seen_however_long_it_took(
    all_taken: list[Claim], one: HostGenerations, other: HostGenerations, time: Time
) -> None:
    fence = one.changing((2,))
    time.now += SETTLE
    before = other.current((2,))
    assert before != (0,)
    fence.changed()
    assert other.current((2,)) not in ((0,), before)


def test_who_got_no_column_takes_the_next_that_is_free(
    all_taken: list[Claim], one: HostGenerations, other: HostGenerations,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    one.bump((1,))
    all_taken.pop().release()
    before = other.current((1, 2))
    fence = one.changing((2,))
    fence.unchanged()
    assert other.current((1, 2)) == before
    all_taken.pop().release()
    other.bump((1,))
    assert len(caplog.records) == 1


def test_a_stopped_holder_of_the_crowds_column_holds_nobody_up(
    all_taken: list[Claim], one: HostGenerations, other: HostGenerations, state: Path
) -> None:
    held = StateFile(state, mode=0o600).claim(CROWD)
    assert held is not None
    before = other.current((1,))
    fence = one.changing((1,))
    between = other.current((1,))
    assert between not in ((0,), before)  # at least nothing loaded before is used
    fence.changed()
    assert other.current((1,)) not in ((0,), between)
    held.release()


def test_a_process_without_descriptors_left_tells_all_the_same(
    state: Path, other: HostGenerations
) -> None:
    before = other.current((1, 2))
    writer = Member(state)
    try:
        assert writer.ask("current", 1) != (0,)
        writer.ask("limit", resource.RLIMIT_NOFILE, 3)
        writer.ask("bump", 1)
        after = other.current((1, 2))
        assert after[0] not in (0, before[0])
        writer.ask("changing", "a", 2)
        writer.ask("end", "a", "changed")
        assert other.current((2,)) not in ((0,), before[1:])
    finally:
        writer.end()


def test_a_process_that_may_write_no_more_stops_using_the_file(
    state: Path, other: HostGenerations
) -> None:
    other.current((1,))
    writer = Member(state)
    try:
        assert writer.ask("current", 1) != (0,)
        writer.ask("limit", resource.RLIMIT_FSIZE, 4096)
        writer.ask("bump", 1)
        assert writer.ask("current", 1) == (0,)
        assert writer.ask("current", 1, now=100 * SECOND) == (0,)
        before = other.current((1,))
        writer.ask("limit", resource.RLIMIT_FSIZE, resource.RLIM_INFINITY)
        assert writer.ask("current", 1, now=200 * SECOND) != (0,)
        assert other.current((1,)) not in ((0,), before)
    finally:
        writer.end()


def test_a_full_disk_is_noticed_when_the_file_is_made(
    make: Make, time: Time, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(disk)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if mount.returncode:
        pytest.skip(f"this machine mounts nothing for tests: {mount.stderr.strip()}")
    try:
        generations = make(disk / "state")
        for _ in range(5):
            assert generations.current((1,)) == (0,)
            generations.bump((1,))
            generations.changing((1,)).changed()
            time.now += RETRY
        assert [record.levelno for record in caplog.records] == [logging.ERROR]
        subprocess.run(["mount", "-o", "remount,size=20m", str(disk)], check=True)
        assert generations.current((1,)) != (0,)
        assert len(caplog.records) == 2
        generations.close()
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)


def test_a_file_one_may_not_open_any_more_is_left_by_who_has_it_open(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root may become somebody else")
    tmp_path.chmod(0o755)
    for parent in tmp_path.parents:
        if parent.stat().st_mode & 0o005 != 0o005 and parent.owner() == "root":
            parent.chmod(0o755)
    place = tmp_path / "place"
    place.mkdir()
    os.chown(place, 65534, 65534)
    state = place / "state"
    somebody = Member(state, before=lambda: os.setuid(65534))
    try:
        before = somebody.ask("current", 1)
        assert before != (0,)
        state.chmod(0)
        for now in (10, 20, 30):
            assert somebody.ask("current", 1, now=now * SECOND) == (0,)
        state.chmod(0o600)
        place.chmod(0)
        assert somebody.ask("current", 1, now=40 * SECOND) == (0,)
        place.chmod(0o755)
        assert somebody.ask("current", 1, now=45 * SECOND) != (0,)
        os.chown(state, 0, -1)  # it is somebody else's now
        assert somebody.ask("current", 1, now=50 * SECOND) == (0,)
        os.chown(state, 65534, -1)
        after = somebody.ask("current", 1, now=60 * SECOND)
        assert after not in ((0,), before)
    finally:
        somebody.end()


def test_threads_read_on_while_the_file_comes_and_goes(
    make: Make, state: Path, time: Time
) -> None:
    generations, stop = make(), threading.Event()
    failed: list[BaseException] = []
    numbers: list[set[int]] = []

    def read() -> None:
        seen: set[int] = set()
        numbers.append(seen)
        try:
            while not stop.is_set():
                seen.update(generations.current((1, 2)))
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=read) for _ in range(6)]
    for thread in threads:
        thread.start()
    before = len(os.listdir("/proc/self/fd"))
    decoys = []
    for _ in range(200):
        generations.current((1,))
        state.unlink(missing_ok=True)
        # What takes a number that was closed too early is read in the file's place.
        decoys.append(os.open("/dev/zero", os.O_RDONLY))
        generations.bump((1,))
        time.now += 1.0
    stop.set()
    for thread in threads:
        thread.join()
    for decoy in decoys:
        os.fstat(decoy)  # none was closed in the file's place
        os.close(decoy)
    assert not failed
    assert len(os.listdir("/proc/self/fd")) <= before + 2


def test_a_thousand_openings_leave_no_descriptor(
    one: HostGenerations, make: Make, state: Path
) -> None:
    one.bump((1,))
    before = len(os.listdir("/proc/self/fd"))
    for number in range(1000):
        if number % 10 == 0:
            state.unlink()
            one.bump((1,))
        elif number % 10 == 1:
            one.close()
        else:
            state.chmod(0o600 | number % 2)
        one.current((1,))
        one.changing((2,)).changed()
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_look_up_costs_two_system_calls_and_one_for_each_number(
    tmp_path: Path, state: Path
) -> None:
    strace = shutil.which("strace")
    if strace is None or subprocess.run([strace, "true"], capture_output=True).returncode:
        pytest.skip("this machine has no strace(1), or lets it trace nothing")
    code = f"""
import os
from pathlib import Path
from wsgi_usercache.generations.host import HostGenerations
generations = HostGenerations(lambda: Path({str(state)!r}))
fence = generations.changing((9,))
fence.changed()
slots = (1, 2, {EVERYBODY})
generations.current(slots)
os.write(1, b"from here")
for _ in range(100):
    generations.current(slots)
os.write(1, b"to here")
"""
    calls = tmp_path / "calls"
    subprocess.run(
        [strace, "-o", str(calls), sys.executable, "-c", code], check=True, capture_output=True
    )
    lines = calls.read_text().splitlines()
    first, last = (number for number, line in enumerate(lines) if "write(1, " in line)
    counts = Counter(line.partition("(")[0] for line in lines[first + 1 : last])
    stats = sum(count for name, count in counts.items() if "stat" in name)
    assert counts.pop("pread64") + stats == 100 * (2 + 3)
    assert counts.pop("getpid") == 100  # which touches no file
    assert counts.total() - stats < 10  # the interpreter's own


def test_every_slot_has_a_number_of_its_own_place(one: HostGenerations) -> None:
    before = one.current(range(SLOTS + 1))
    one.bump((SLOTS - 1,))
    after = one.current(range(SLOTS + 1))
    assert [slot for slot in range(SLOTS + 1) if after[slot] != before[slot]] == [SLOTS - 1]


def test_marks_under_way_when_it_was_closed_are_settled(
    one: HostGenerations, other: HostGenerations, time: Time
) -> None:
    fence = one.changing((1,))
    one.close()
    assert other.current((1,)) == (0,)
    fence.changed()
    assert other.current((1,)) == (0,)
    time.now += SETTLE
    assert other.current((1,)) != (0,)


def test_a_clock_that_began_anew_does_not_end_marks_early(
    one: HostGenerations, other: HostGenerations, time: Time
) -> None:
    one.changing((1,))
    one.close()
    assert other.current((1,)) == (0,)
    time.now = 5.0  # the machine was started again
    assert other.current((1,)) == (0,)
    time.now += SETTLE - 0.001
    assert other.current((1,)) == (0,)
    time.now += 0.001
    assert other.current((1,)) != (0,)


def test_who_is_killed_while_ending_marks_leaves_the_rest_to_the_next(
    one: HostGenerations, other: HostGenerations, time: Time, state: Path
) -> None:
    before = other.current((1, 2))
    one.changing((1, 2))
    one.close()
    assert other.current((1, 2)) == (0, 0)
    time.now += SETTLE
    for point in ("before its numbers", "between its numbers", "between its marks down"):
        helper = Member(state)
        helper.ask("die_at", point)
        assert point in POINTS
        with pytest.raises(Gone):
            helper.ask("current", 1, 2, now=time.steady_ns())
        helper.end()
    after = other.current((1, 2))
    assert 0 not in after
    assert not set(after) & set(before)


def test_nobody_takes_a_column_or_ends_marks_while_another_is_at_it(
    make: Make, time: Time, state: Path
) -> None:
    # Else he who is slow would date the death of the next owner by that of this one.
    one, slow, other, newcomer = make(), make(), make(), make()
    one.changing((1,))
    one.close()
    assert slow.current((1,)) == (0,)
    time.now += SETTLE
    seen: list[tuple[int, ...]] = []
    time.while_settling = [
        lambda: newcomer.bump((5,)),
        lambda: seen.append(other.current((1,))),
    ]
    assert slow.current((1,)) != (0,)
    assert seen == [(0,)]
    file = StateFile(state, mode=0o600)
    assert [file.is_owned(column) for column in (0, 1, 2)] == [False, True, False]


def test_a_handler_of_the_log_may_use_what_it_is_told_about(
    one: HostGenerations, state: Path
) -> None:
    # From another thread, which must not find the lock held.
    answers: list[tuple[int, ...]] = []

    class Asking(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            def ask() -> None:
                one.bump((1,))
                answers.append(one.current((1,)))

            thread = threading.Thread(target=ask, daemon=True)
            thread.start()
            thread.join(5)

    one.current((1,))
    state.unlink()
    state.mkdir()
    handler = Asking()
    logger = logging.getLogger("wsgi_usercache")
    logger.addHandler(handler)
    try:
        one.current((1,))
    finally:
        logger.removeHandler(handler)
    assert answers


def test_a_clock_set_back_tells_nothing_of_what_changed_meanwhile(
    make: Callable[[], HostGenerations], time: Time
) -> None:
    ours, other = make(), make()
    other.bump((1,))
    time.wall += SECOND
    moment = ours.moment()
    assert ours.unchanged_since(moment, (1,))
    time.now += 0.001
    time.wall -= SECOND // 2
    other.bump((1,))
    assert not ours.unchanged_since(moment, (1,))


def test_a_number_behind_the_clock_tells_when_it_was_stored(
    make: Callable[[], HostGenerations], time: Time
) -> None:
    ours = make()
    ours.bump((1,))
    for _ in range(3):
        time.now += 1
        time.wall += SECOND
        moment = ours.moment()
        assert ours.unchanged_since(moment, (1,))
        ours.bump((1,))
        assert not ours.unchanged_since(moment, (1,))


def test_numbers_ahead_of_the_clock_are_each_a_new_one(
    make: Callable[[], HostGenerations], time: Time
) -> None:
    ours, seen = make(), set()
    for _ in range(5):
        ours.bump((1,))
        time.wall -= SECOND
        seen.add(ours.current((1,)))
    assert len(seen) == 5
