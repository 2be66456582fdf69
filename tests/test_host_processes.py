"""The processes of one host at one file: really killed, stopped, forked, in other namespaces."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from forking import in_child
from members import POINTS, SECOND, SETTLE, Gone, Member, fork_without_hooks

from wsgi_usercache.generations.host import HostGenerations
from wsgi_usercache.generations.layout import COLUMNS
from wsgi_usercache.generations.state_file import StateFile

STANDS = round(SETTLE * SECOND)


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"


@pytest.fixture
def make(state: Path) -> Iterator[Callable[..., Member]]:
    made: list[Member] = []

    def member(path: Path = state, **options: object) -> Member:
        made.append(Member(path, **options))  # type: ignore[arg-type]  # as Member has them
        return made[-1]

    yield member
    for each in made:
        each.end()


Make = Callable[..., Member]


def test_what_one_changes_the_others_see_at_once(make: Make) -> None:
    one, other, third = make(), make(), make()
    before = other.ask("current", 1, 2)
    assert before == one.ask("current", 1, 2) == third.ask("current", 1, 2)
    one.ask("bump", 1)
    after = other.ask("current", 1, 2)
    assert after == third.ask("current", 1, 2) == one.ask("current", 1, 2)
    assert after[0] not in (0, before[0])
    assert after[1] == before[1]


def test_a_change_under_way_is_seen_by_all(make: Make) -> None:
    one, other = make(), make()
    before = other.ask("current", 1, 2)
    one.ask("changing", "a", 1)
    assert other.ask("current", 1, 2) == (0, before[1])
    one.ask("end", "a", "changed")
    after = other.ask("current", 1, 2)
    assert after[0] not in (0, before[0])
    one.ask("changing", "b", 1)
    one.ask("end", "b", "unchanged")
    assert other.ask("current", 1, 2) == after


def test_a_slot_several_are_changing_is_free_once_all_are_through(make: Make) -> None:
    members = [make() for _ in range(4)]
    for member in members:
        member.ask("changing", "a", 7)
    for member in members:
        assert members[0].ask("current", 7) == (0,)
        member.ask("end", "a", "changed")
    assert 0 not in members[0].ask("current", 7)


@pytest.mark.parametrize("point", POINTS)
def test_the_marks_of_who_is_killed_stand_until_settled(make: Make, point: str) -> None:
    writer, reader = make(), make()
    before = reader.ask("current", 1, 2, 3)
    writer.ask("bump", 4)  # so that it has its column
    writer.ask("die_at", point)
    with pytest.raises(Gone):
        writer.ask("change", 1, 2)
    writer.reap()
    noticed = 5 * SECOND
    first = reader.ask("current", 1, 2, 3, now=noticed)
    late = reader.ask("current", 1, 2, 3, now=noticed + STANDS - 1)
    settled = reader.ask("current", 1, 2, 3, now=noticed + STANDS)
    assert first[2] == late[2] == settled[2] == before[2]
    assert 0 not in settled
    for slot in (0, 1):
        assert late[slot] == first[slot]
        if first[slot] == 0:  # marked: nobody knows whether the change was made
            assert settled[slot] != before[slot]
        elif point in ("before its marks", "between its marks"):  # it was not
            assert first[slot] == settled[slot] == before[slot]
        else:
            assert first[slot] == settled[slot] != before[slot]
    made = point not in ("before its marks", "with its flag up")
    assert (0 in first) == made


def test_nobody_is_taken_for_dead_who_was_only_stopped(make: Make) -> None:
    writer, reader = make(), make()
    before = reader.ask("current", 1)
    writer.ask("changing", "a", 1)
    writer.tell("pass_out")
    os.waitid(os.P_PID, writer.pid, os.WSTOPPED)
    for now in (SECOND, 10 * STANDS, 100 * STANDS):
        assert reader.ask("current", 1, now=now) == (0,)
    os.kill(writer.pid, signal.SIGCONT)
    writer.answer()
    assert reader.ask("current", 1, now=100 * STANDS) == (0,)
    writer.ask("end", "a", "changed")
    after = reader.ask("current", 1)
    assert after not in ((0,), before)


def test_a_zombie_is_dead(make: Make) -> None:
    writer, reader = make(), make()
    writer.ask("changing", "a", 1)
    writer.kill(reap=False)
    assert reader.ask("current", 1) == (0,)
    assert reader.ask("current", 1, now=SECOND + STANDS) != (0,)


def test_settle_begins_when_death_is_noticed_and_for_all_at_once(make: Make) -> None:
    writer, one, other = make(), make(), make()
    writer.ask("changing", "a", 1)
    writer.kill()
    hour = 3600 * SECOND
    assert one.ask("current", 1, now=hour) == (0,)
    assert other.ask("current", 1, now=hour + STANDS - 1) == (0,)
    assert other.ask("current", 1, now=hour + STANDS) != (0,)


def test_the_next_owner_of_a_column_dies_a_death_of_his_own(make: Make) -> None:
    reader, writer = make(), make()
    writer.ask("changing", "a", 1)
    writer.kill()
    assert reader.ask("current", 1, now=SECOND) == (0,)
    assert reader.ask("current", 1, now=SECOND + STANDS) != (0,)
    heir = make()
    heir.ask("changing", "a", 1, now=2 * STANDS)
    heir.kill()
    assert reader.ask("current", 1, now=3 * STANDS) == (0,)
    assert reader.ask("current", 1, now=4 * STANDS - 1) == (0,)
    assert reader.ask("current", 1, now=4 * STANDS) != (0,)


@pytest.mark.parametrize("end", ["idles", "dies"])
def test_others_end_the_marks_of_a_lost_commit(make: Make, end: str) -> None:
    writer, reader = make(), make()
    before = reader.ask("current", 1)
    writer.ask("changing", "a", 1)
    writer.ask("end", "a", "lost")
    if end == "dies":
        writer.kill()
    assert reader.ask("current", 1, now=SECOND + STANDS - 1) == (0,)
    after = reader.ask("current", 1, now=SECOND + STANDS)
    assert after not in ((0,), before)
    assert reader.ask("current", 1, now=9 * STANDS) == after


def test_who_goes_on_after_a_lost_commit_keeps_his_other_marks(make: Make) -> None:
    writer, reader = make(), make()
    writer.ask("changing", "lost", 1, 2)
    writer.ask("changing", "other", 2, 3)
    writer.ask("end", "lost", "lost")
    late = SECOND + STANDS
    assert reader.ask("current", 1, 2, 3, now=late)[1:] == (0, 0)
    assert reader.ask("current", 1, now=late) != (0,)
    writer.ask("end", "other", "unchanged")
    assert 0 not in reader.ask("current", 1, 2, 3, now=late)


def test_lost_commits_use_no_columns_up(make: Make, state: Path) -> None:
    writer = make()
    for number in range(2 * COLUMNS):
        writer.ask("changing", "a", number)
        writer.ask("end", "a", "lost")
    file = StateFile(state, mode=0o600)
    assert sum(map(file.is_owned, range(COLUMNS))) == 1
    assert 0 not in make().ask("current", *range(2 * COLUMNS), now=SECOND + STANDS)


def test_columns_are_used_again(make: Make, state: Path) -> None:
    for _ in range(3):
        members = [make() for _ in range(5)]
        for member in members:
            member.ask("bump", 1)
        file = StateFile(state, mode=0o600)
        assert [column for column in range(COLUMNS) if file.is_owned(column)] == [0, 1, 2, 3, 4]
        for member in members:
            member.kill()


def test_close_lets_go(make: Make, state: Path) -> None:
    member = make()
    member.ask("bump", 1)
    file = StateFile(state, mode=0o600)
    assert file.is_owned(0)
    member.ask("close")
    assert not file.is_owned(0)
    assert member.ask("descriptors", state) == 0
    member.ask("bump", 1)
    assert file.is_owned(0)


def test_closing_another_descriptor_of_the_file_keeps_the_column(make: Make, state: Path) -> None:
    generations = HostGenerations(lambda: state)
    generations.bump((1,))
    before = make().ask("current", 1)
    fence = generations.changing((1,))
    os.close(os.open(state, os.O_RDWR))  # a POSIX lock would be gone
    for now in (SECOND, 100 * STANDS):
        assert make().ask("current", 1, now=now) == (0,)
    fence.unchanged()
    assert make().ask("current", 1) == before
    generations.close()


@pytest.mark.parametrize("hooks", [True, False], ids=["with hooks", "without hooks"])
def test_a_forked_child_does_not_keep_its_parent_alive(
    make: Make, state: Path, hooks: bool
) -> None:
    # The parent is a member itself: it marks slot 1 and forks, the child says when it is there.
    reading, writing = os.pipe()
    go_on, go = os.pipe()

    def grow() -> None:
        marking, using = HostGenerations(lambda: state), HostGenerations(lambda: state)
        marking.changing((1,))
        if (os.fork if hooks else fork_without_hooks)() == 0:
            signal.alarm(20)
            os.write(writing, b"child")
            os.read(go_on, 1)
            using.bump((5,))  # the first use of any of them
            os.write(writing, b"child")
            os.read(go_on, 1)
            os._exit(0)
        signal.pause()

    parent, reader = make(before=grow), make()
    assert os.read(reading, 5) == b"child"
    assert reader.ask("current", 1) == (0,)
    parent.kill()
    seen = reader.ask("current", 1, now=SECOND), reader.ask("current", 1, now=SECOND + STANDS)
    assert (seen[1] != (0,)) == hooks  # without hooks the lock is the child's too, until
    os.write(go, b"1")
    assert os.read(reading, 5) == b"child"
    seen = reader.ask("current", 1, now=9 * STANDS), reader.ask("current", 1, now=10 * STANDS)
    assert seen[1] != (0,)
    os.write(go, b"1")
    for end in (reading, writing, go_on, go):
        os.close(end)


def test_a_child_has_a_column_of_its_own(state: Path, make: Make) -> None:
    generations = HostGenerations(lambda: state)
    before = generations.current((1,))
    fence = generations.changing((1,))
    for fork in (os.fork, fork_without_hooks):
        child = make(fork=fork, generations=generations)
        child.ask("changing", "a", 1)
        child.ask("end", "a", "unchanged")
        assert generations.current((1,)) == (0,)  # the parent's stands
        child.ask("bump", 2)
        file = StateFile(state, mode=0o600)
        assert file.is_owned(0)
        assert file.is_owned(1)
        child.kill()
        assert file.is_owned(0)
        assert not file.is_owned(1)
    fence.unchanged()
    assert generations.current((1,)) == before
    generations.close()


@pytest.mark.parametrize("fork", [os.fork, fork_without_hooks])
def test_a_child_does_not_keep_open_what_it_inherited(
    state: Path, make: Make, fork: Callable[[], int]
) -> None:
    generations = HostGenerations(lambda: state)
    generations.bump((1,))
    child = make(fork=fork, generations=generations)
    child.ask("bump", 2)
    assert child.ask("descriptors", state) == 2  # its own, for the file and for its column
    generations.close()


def test_a_child_waits_for_nothing_a_thread_of_its_parent_held(state: Path) -> None:
    # A thread is in the middle of taking its column, holding every lock there is, while another
    # forks.
    def act() -> object:
        generations = HostGenerations(lambda: state)
        before = generations.current((1, 2))
        inside, leave = threading.Event(), threading.Event()

        def stay(event: str, _: object) -> None:
            if event == "open" and threading.current_thread() is thread:
                inside.set()
                leave.wait()

        thread = threading.Thread(target=lambda: generations.bump((1,)))
        sys.addaudithook(stay)
        thread.start()
        inside.wait()
        child = fork_without_hooks()
        if child == 0:
            signal.alarm(5)
            generations.bump((2,))
            os._exit(0)
        status = os.waitpid(child, 0)[1]
        between = generations.current((1, 2))
        leave.set()
        thread.join()
        after = generations.current((1, 2))
        return status, between[0] == before[0], between[1] == before[1], after[0] == before[0]

    assert in_child(act) == "(0, True, False, False)"


def test_a_fence_that_was_inherited_takes_no_mark_of_the_parent_down(
    state: Path, make: Make
) -> None:
    generations = HostGenerations(lambda: state)
    before = generations.current((1,))
    fence = generations.changing((1,))
    for end in ("changed", "unchanged", "lost"):
        child = make(before=getattr(fence, end), generations=generations)
        child.ask("current", 1)
        assert make().ask("current", 1, now=100 * STANDS) == (0,)
        child.kill()
    fence.unchanged()
    assert make().ask("current", 1, now=200 * STANDS) not in ((0,), before)
    generations.close()


def test_no_descriptor_is_inherited_by_a_program_that_is_started(state: Path) -> None:
    generations = HostGenerations(lambda: state)
    generations.bump((1,))
    code = "import os; print([os.readlink(f'/proc/self/fd/{n}') for n in range(3, 64)"
    code += " if os.path.islink(f'/proc/self/fd/{n}')])"
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, close_fds=False
    )
    assert str(state) not in run.stdout
    generations.close()


def test_nothing_is_opened_before_the_first_use_and_nothing_left_open_at_exit(
    state: Path,
) -> None:
    code = f"""
import os
from pathlib import Path
from wsgi_usercache.generations.host import HostGenerations
def opened(): return len(os.listdir("/proc/self/fd"))
before = opened()
generations = HostGenerations(lambda: Path({str(state)!r}))
made = opened()
generations.current((1,))
read = opened()
fence = generations.changing((1,))
print(made - before, read - before, opened() - before)
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["0", "1", "2"]
    assert run.stderr == ""


def refused_namespace() -> str | None:
    """Why no process namespace can be had here; None if it can."""
    try:
        run = subprocess.run(
            ["unshare", "--pid", "--fork", "true"], capture_output=True, text=True, check=False
        )
    except FileNotFoundError:
        return "no unshare(1)"
    return run.stderr.strip() or "refused" if run.returncode else None


def test_a_writer_in_another_process_namespace_lives_and_dies(make: Make, state: Path) -> None:
    refused = refused_namespace()
    if refused is not None:
        pytest.skip(f"this machine gives no process namespace: {refused}")
    code = f"""
import os, sys
from pathlib import Path
from wsgi_usercache.generations.host import HostGenerations
fence = HostGenerations(lambda: Path({str(state)!r})).changing((1,))
print(os.getpid(), flush=True)
sys.stdin.read()
os._exit(1)
"""
    reader = make()
    before = reader.ask("current", 1)
    writer = subprocess.Popen(
        ["unshare", "--pid", "--fork", "--kill-child", sys.executable, "-c", code],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    with writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "1\n"  # its pid there, which is init's here
        for now in (SECOND, 100 * STANDS):
            assert reader.ask("current", 1, now=now) == (0,)
        assert writer.stdin is not None
        writer.stdin.close()
        writer.wait()
    assert reader.ask("current", 1, now=200 * STANDS) == (0,)
    assert reader.ask("current", 1, now=201 * STANDS) not in ((0,), before)
