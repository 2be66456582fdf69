"""The state file: where it is, what may stand in its place, how it is made and owned."""

from __future__ import annotations

import os
import resource
import shutil
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from forking import in_child

from wsgi_usercache.generations.host import HostGenerations
from wsgi_usercache.generations.layout import CLOSED, COLUMNS, SIZE, Unusable
from wsgi_usercache.generations.reach import generations_of
from wsgi_usercache.generations.state_file import StateFile
from wsgi_usercache.generations.state_path import check_explicit, default_path

NOBODY = 65534

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may become somebody else")


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"


def symlink(state: Path) -> None:
    elsewhere = state.with_name("elsewhere")
    StateFile(elsewhere, mode=0o600)
    state.symlink_to(elsewhere)


def dangling_symlink(state: Path) -> None:
    state.symlink_to(state.with_name("elsewhere"))


def hard_link(state: Path) -> None:
    StateFile(state, mode=0o600)
    os.link(state, state.with_name("another name"))


def directory(state: Path) -> None:
    state.mkdir()


def fifo(state: Path) -> None:
    os.mkfifo(state)


def unix_socket(state: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        here = os.getcwd()
        os.chdir(state.parent)  # a socket's address is short
        try:
            made.bind(state.name)
        finally:
            os.chdir(here)


def text(state: Path) -> None:
    state.write_text("Dear diary,\nit is mine.\n" * 100)


def zeros(state: Path) -> None:
    state.write_bytes(bytes(SIZE))


def one_byte(state: Path) -> None:
    state.write_bytes(b"u")


def another_shape(state: Path) -> None:
    StateFile(state, mode=0o600)
    with state.open("r+b") as file:
        file.seek(16)
        file.write(b"\x01\x02")


WRONG = [
    symlink,
    dangling_symlink,
    hard_link,
    directory,
    fifo,
    unix_socket,
    text,
    zeros,
    one_byte,
    another_shape,
]


@pytest.mark.parametrize("put", WRONG)
def test_what_is_no_state_file_is_refused_by_name_and_owner(
    state: Path, put: Callable[[Path], None]
) -> None:
    put(state)
    with pytest.raises(ValueError, match="USERCACHE_STATE_FILE: ") as caught:
        check_explicit(state, 0o600)
    assert str(state) in str(caught.value)
    assert f"uid {state.lstat().st_uid}" in str(caught.value)


@pytest.mark.parametrize("put", WRONG)
def test_what_is_no_state_file_is_left_as_it_was(
    state: Path, put: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    put(state)
    before = state.lstat(), state.read_bytes() if state.is_file() else None
    generations = HostGenerations(lambda: state)
    for _ in range(3):
        assert generations.current((1,)) == (0,)
        generations.bump((1,))
        generations.changing((1,)).changed()
    generations.close()
    after = state.lstat(), state.read_bytes() if state.is_file() else None
    assert after[1] == before[1]
    assert after[0].st_mtime_ns == before[0].st_mtime_ns
    assert len(caplog.records) == 1


@pytest.mark.parametrize(
    "head", [None, b"", CLOSED, b"userca01usercach"], ids=["none", "empty", "closed", "cut"]
)
def test_what_is_or_may_become_a_state_file_is_accepted(state: Path, head: bytes | None) -> None:
    if head is not None:
        state.write_bytes(head)
    check_explicit(state, 0o600)
    assert state.exists() == (head is not None)
    StateFile(state.with_name("made"), mode=0o600)
    check_explicit(state.with_name("made"), 0o600)


def test_a_file_in_no_directory_is_refused(state: Path) -> None:
    with pytest.raises(ValueError, match=f"no directory {state}"):
        check_explicit(state / "file", 0o600)
    state.write_text("")
    with pytest.raises(ValueError, match="Not a directory"):
        check_explicit(state / "file", 0o600)


@needs_root
def test_a_file_of_somebody_else_is_refused_unless_it_is_shared(state: Path) -> None:
    StateFile(state, mode=0o660)
    os.chown(state, NOBODY, 0)
    with pytest.raises(ValueError, match=f"{state} belongs to uid {NOBODY}, not to uid 0"):
        check_explicit(state, 0o600)
    with pytest.raises(Unusable, match="belongs to uid"):
        StateFile(state, mode=0o600)
    with pytest.raises(ValueError, match="belongs to"):
        check_explicit(state, 0o640)  # read by a group is not shared with it
    check_explicit(state, 0o660)
    StateFile(state, mode=0o660)


@needs_root
def test_two_users_share_a_file_they_mean_to_share() -> None:
    # pytest's directories are the user's own.
    place = Path(f"/dev/shm/wsgi_usercache-test-{os.getpid()}")
    place.mkdir()
    state = place / "state"
    try:
        place.chmod(0o755)
        generations = HostGenerations(lambda: state, mode=0o660)
        before = generations.current((1,))
        os.chown(state, 0, NOBODY)
        generations.current((1,))

        def as_somebody_else() -> object:
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            theirs = HostGenerations(lambda: state, mode=0o660)
            seen = theirs.current((1,))
            theirs.bump((1,))
            private = HostGenerations(lambda: state)
            return [0 in seen, theirs.current((1,)) == seen, private.current((1,))]

        assert in_child(as_somebody_else) == "[False, False, (0,)]"
        assert generations.current((1,)) not in ((0,), before)
        generations.close()
    finally:
        state.unlink(missing_ok=True)
        place.rmdir()


@pytest.mark.parametrize("mode", [0o600, 0o660])
@pytest.mark.parametrize("umask", [0o000, 0o077, 0o777])
def test_the_file_has_its_mode_whatever_the_umask(state: Path, mode: int, umask: int) -> None:
    before = os.umask(umask)
    try:
        StateFile(state, mode=mode)
    finally:
        os.umask(before)
    assert stat.S_IMODE(state.stat().st_mode) == mode


def test_the_file_takes_its_room_when_it_is_made(state: Path) -> None:
    StateFile(state, mode=0o600)
    found = state.stat()
    assert found.st_size == SIZE
    assert found.st_blocks * 512 >= SIZE  # no holes, which a full disk could not fill


def test_many_that_come_first_together_make_one_file(state: Path) -> None:
    start = threading.Barrier(12)
    numbers: list[tuple[int, ...]] = []

    def open_it() -> None:
        start.wait()
        numbers.append(HostGenerations(lambda: state).current((1,)))

    threads = [threading.Thread(target=open_it) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(numbers) == 12
    assert len(set(numbers)) == 1
    assert (0,) not in numbers


def test_a_file_whose_making_was_broken_off_is_made_by_the_next(state: Path) -> None:
    StateFile(state, mode=0o600)
    with state.open("r+b") as file:
        file.write(bytes(8))
        file.seek(5000)
        file.write(b"\1" * 90_000)  # whatever it was, it is no mark
        file.seek(1024)
        file.write(b"\1")
    made = StateFile(state, mode=0o600)
    assert not any(made.flags())
    assert made.marked(0) == []
    assert made.number(1) != 0


def test_a_file_that_is_being_made_for_ever_is_not_waited_for(state: Path) -> None:
    refused: list[str] = []

    def meanwhile() -> int:
        with pytest.raises(Unusable) as caught:
            StateFile(state, mode=0o600)
        refused.append(str(caught.value))
        return 0

    StateFile(state, mode=0o600, wall_ns=meanwhile)
    assert refused == [f"{state} is being made by another process"]


def test_a_file_another_version_closed_is_said_to_be(state: Path) -> None:
    StateFile(state, mode=0o600)
    with state.open("r+b") as file:
        file.write(CLOSED)
    with pytest.raises(Unusable, match="was closed by another version"):
        StateFile(state, mode=0o600)


def test_a_file_cut_in_the_middle_of_a_look_up_is_not_believed(state: Path) -> None:
    file = StateFile(state, mode=0o600)
    os.truncate(state, 5000)
    for look_up in (file.number, lambda slot: file.is_marked(1, slot), file.marked):
        with pytest.raises(Unusable, match="was cut"):
            look_up(7)


def test_a_file_one_can_only_read_is_not_used(state: Path) -> None:
    # Who can not put his marks up must not be the one who ends those of the dead, either.
    StateFile(state, mode=0o600)

    def child() -> object:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
        StateFile(state, mode=0o600)

    assert in_child(child).startswith("Unusable(")


def test_numbers_of_different_openings_are_never_equal(state: Path) -> None:
    first, second = StateFile(state, mode=0o600), StateFile(state, mode=0o600, opening=1)
    assert first.number(1) != second.number(1)
    with state.open("r+b") as file:
        file.truncate(SIZE)
        file.seek(SIZE - 8 - 8 * 65_537)
        file.write(bytes(16))
    assert first.number(1) == second.number(1) == 0


def test_a_column_is_held_until_it_is_released(state: Path) -> None:
    one, other = StateFile(state, mode=0o600), StateFile(state, mode=0o600)
    claim = one.claim(3)
    assert claim is not None
    assert one.claim(3) is None
    assert other.claim(3) is None
    assert one.is_owned(3)
    assert other.is_owned(3)
    assert not one.is_owned(4)
    assert other.claim(4) is not None
    claim.release()
    claim.release()
    assert not other.is_owned(3)


@pytest.mark.parametrize("wall", [0, 1_700_000_000_123_456_789])
def test_numbers_say_in_their_low_bits_whose_they_are(state: Path, wall: int) -> None:
    StateFile(state, mode=0o600, wall_ns=lambda: wall // 2)
    file = StateFile(state, mode=0o600, wall_ns=lambda: wall)
    for column in (0, 1, COLUMNS - 1):
        claim = file.claim(column)
        assert claim is not None
        numbers = [file.fresh_number(claim) for _ in range(5)]
        assert len(set(numbers)) == 5
        assert {number % COLUMNS for number in numbers} == {column}
        assert file.number(1) not in numbers
        claim.release()


def test_a_column_of_a_file_that_was_replaced_is_not_taken_for_one(state: Path) -> None:
    file = StateFile(state, mode=0o600)
    state.unlink()
    with pytest.raises(Unusable, match="removed"):
        file.claim(0)
    StateFile(state, mode=0o600)
    with pytest.raises(Unusable, match="replaced"):
        file.claim(0)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    tmp_path.chmod(0o700)
    return tmp_path


@pytest.mark.parametrize("variable", ["RUNTIME_DIRECTORY", "XDG_RUNTIME_DIR"])
def test_the_file_is_where_the_system_keeps_such_files(place: Path, variable: str) -> None:
    expected = place / "wsgi_usercache-shop.state"
    assert default_path("shop", {variable: str(place)}) == expected
    assert default_path("shop", {variable: f"{place}:/elsewhere"}) == expected


@pytest.mark.parametrize("given", ["", "/no/such/directory", "/etc/passwd"])
def test_without_such_a_place_it_is_in_a_directory_of_the_users_own(given: str) -> None:
    path = default_path("shop", {"XDG_RUNTIME_DIR": given})
    assert path.name == "wsgi_usercache-shop.state"
    assert path.parent.name == f"wsgi_usercache-{os.geteuid()}"
    found = path.parent.stat()
    assert found.st_uid == os.geteuid()
    assert stat.S_IMODE(found.st_mode) == 0o700


def test_a_place_others_may_write_to_is_not_used(place: Path) -> None:
    place.chmod(0o777)
    assert default_path("shop", {"XDG_RUNTIME_DIR": str(place)}).parent != place


@needs_root
def test_the_place_of_another_user_is_not_used(place: Path) -> None:
    # sudo leaves the variable as it was.
    os.chown(place, NOBODY, NOBODY)
    assert default_path("shop", {"XDG_RUNTIME_DIR": str(place)}).parent != place


@needs_root
def test_a_directory_somebody_else_made_in_its_place_makes_no_outage(
    caplog: pytest.LogCaptureFixture,
) -> None:
    theirs = Path(f"/dev/shm/wsgi_usercache-{NOBODY - 1}")
    theirs.mkdir()
    theirs.chmod(0o777)

    def as_the_user() -> object:
        os.setuid(NOBODY - 1)
        generations = HostGenerations(lambda: default_path("shop", {}))
        generations.bump((1,))
        return generations.current((1,))

    try:
        assert in_child(as_the_user) == "(0,)"
    finally:
        shutil.rmtree(theirs)


def test_all_that_mean_the_same_share_their_generations(state: Path) -> None:
    given = str(state)
    one = generations_of("host", state_file=given)
    assert generations_of("host", state_file=given, namespace="other") is one
    assert generations_of("host", state_file=f"{given}2") is not one
    assert generations_of("process") is generations_of("process", namespace="other")
    assert not state.exists()


def test_generations_nobody_uses_any_more_let_go(state: Path) -> None:
    generations = generations_of("host", state_file=str(state))
    generations.bump((1,))
    file = StateFile(state, mode=0o600)
    assert file.is_owned(0)
    del generations
    assert not file.is_owned(0)


def test_a_wrong_file_is_refused_when_it_is_asked_for(state: Path) -> None:
    text(state)
    with pytest.raises(ValueError, match="no state file of this version"):
        generations_of("host", state_file=str(state))
    generations_of("process", state_file=str(state))  # which has no use for it


def test_a_forked_child_settles_what_its_parent_was_changing() -> None:
    generations = generations_of("process", settle=0.0)
    before = generations.current((1,))
    fence = generations.changing((1,))
    assert in_child(lambda: generations.current((1,)) in ((0,), before)) == "False"
    fence.unchanged()
    assert generations.current((1,)) == before


@pytest.mark.parametrize(
    "lacking",
    [
        "sys.modules['fcntl'] = None",
        "import fcntl; del fcntl.F_OFD_SETLK",
        "import struct; struct.calcsize = lambda form: 4",
        "import os; del os.posix_fallocate",
        "sys.platform = 'darwin'",
        "sys.platform = 'win32'; import os; del os.register_at_fork; sys.modules['fcntl'] = None",
    ],
)
def test_a_system_that_lacks_something_gets_the_numbers_of_one_process(lacking: str) -> None:
    code = f"""
import logging, pathlib, random, shutil, sys, tempfile  # whose own sight stays clear
{lacking}
from wsgi_usercache.generations.reach import generations_of
made = generations_of("host")
made.bump((1,))
print(type(made).__name__)
"""
    # The package's own rooms only: what they need elsewhere may ask for the same things.
    stub = "import sys, types; p = types.ModuleType('wsgi_usercache'); "
    stub += f"p.__path__ = [{str(Path(__file__).parents[1] / 'wsgi_usercache')!r}]; "
    stub += "sys.modules['wsgi_usercache'] = p\n"
    run = subprocess.run(
        [sys.executable, "-c", stub + code], capture_output=True, text=True, check=True
    )
    assert run.stdout == "ProcessGenerations\n"
    assert "this system has no state file" in run.stderr
