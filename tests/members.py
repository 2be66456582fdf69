"""Real processes at one state file: forked, driven through a pipe, killed where a test says."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import traceback
import warnings
from collections.abc import Callable
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from typing import Any

from wsgi_usercache.generations.host import HostFence, HostGenerations
from wsgi_usercache.generations.state_file import StateFile

SETTLE = 10.0
SECOND = 1_000_000_000
PATIENCE = 60  # seconds after which a process that hangs ends

# At which call of what, while a change of two slots is made, a writer is killed.
POINTS: dict[str, tuple[type, str, Callable[..., bool]]] = {
    "before its marks": (StateFile, "flag", lambda file, column, up: up),
    "between its marks": (StateFile, "mark", lambda file, column, slot, up: up and slot == 2),
    "before its numbers": (StateFile, "fresh_number", lambda file, claim: True),
    "between its numbers": (StateFile, "store", lambda file, slot, number: slot == 2),
    "before its marks are down": (StateFile, "mark", lambda file, column, slot, up: not up),
    "between its marks down": (
        StateFile, "mark", lambda file, column, slot, up: not up and slot == 2
    ),
    "with its flag up": (StateFile, "flag", lambda file, column, up: not up),
}  # fmt: skip


class Gone(Exception):
    """The process ended instead of answering."""


class Member:
    """A process with generations of its own.

    `ask` has it do something and returns the answer; `now` is what the clock of the host tells
    it. *fork* makes the child; *before* runs there first.
    """

    def __init__(
        self,
        path: Path,
        *,
        settle: float = SETTLE,
        mode: int = 0o600,
        fork: Callable[[], int] = os.fork,
        before: Callable[[], object] = lambda: None,
        generations: HostGenerations | None = None,
    ) -> None:
        self._pipe, theirs = Pipe()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # that threads are running
            self.pid = fork()
        if self.pid == 0:
            self._pipe.close()
            _live(theirs, path, settle, mode, before, generations)
        theirs.close()
        self.reaped = False

    def ask(self, verb: str, *arguments: Any, now: int = SECOND) -> Any:
        self.tell(verb, *arguments, now=now)
        return self.answer()

    def tell(self, verb: str, *arguments: Any, now: int = SECOND) -> None:
        self._pipe.send((verb, arguments, now))

    def answer(self) -> Any:
        try:
            answer = self._pipe.recv()
        except (EOFError, ConnectionResetError):
            raise Gone from None
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def kill(self, *, reap: bool = True) -> None:
        os.kill(self.pid, signal.SIGKILL)
        if reap:
            self.reap()
        else:
            os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)  # dead, and a zombie

    def reap(self) -> None:
        if not self.reaped:
            self.reaped = True
            os.waitpid(self.pid, 0)

    def end(self) -> None:
        if not self.reaped:
            self.kill()
        self._pipe.close()


def fork_without_hooks() -> int:
    """As uWSGI does it: Python does not hear of it."""
    return ctypes.PyDLL(None).fork()  # type: ignore[no-any-return]  # PyDLL: keeps the GIL


class _Life:
    """What a member can be asked for."""

    def __init__(self, generations: HostGenerations) -> None:
        self.generations = generations
        self.fences: dict[str, HostFence] = {}

    def current(self, *slots: int) -> tuple[int, ...]:
        return self.generations.current(slots)

    def bump(self, *slots: int) -> None:
        self.generations.bump(slots)

    def changing(self, name: str, *slots: int) -> None:
        self.fences[name] = self.generations.changing(slots)

    def end(self, name: str, how: str) -> None:
        getattr(self.fences.pop(name), how)()

    def change(self, *slots: int) -> None:
        self.generations.changing(slots).changed()

    def close(self) -> None:
        self.generations.close()

    def die_at(self, point: str) -> None:
        """Have this process killed by the next call that is at *point*."""
        of, name, is_there = POINTS[point]
        method = getattr(of, name)

        def until(*arguments: Any, **named: Any) -> Any:
            if is_there(*arguments, **named):
                os.kill(os.getpid(), signal.SIGKILL)
            return method(*arguments, **named)

        setattr(of, name, until)

    def limit(self, kind: int, soft: int) -> None:
        import resource

        resource.setrlimit(kind, (soft, resource.getrlimit(kind)[1]))

    def pass_out(self) -> None:
        """Take no notice of the next questions: stopped as a debugger or the shell does it."""
        os.kill(os.getpid(), signal.SIGSTOP)

    def descriptors(self, path: Path) -> int:
        """How many of this process's are open at *path*."""
        opened = [f"/proc/self/fd/{fd}" for fd in os.listdir("/proc/self/fd")]
        return [os.readlink(each) for each in opened if os.path.islink(each)].count(str(path))


def _live(
    pipe: Connection,
    path: Path,
    settle: float,
    mode: int,
    before: Callable[[], object],
    generations: HostGenerations | None,
) -> None:
    now = SECOND
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(PATIENCE)
    try:
        before()
        if generations is None:
            generations = HostGenerations(
                lambda: path,
                mode=mode,
                settle=settle,
                clock=lambda: now / SECOND,
                clock_ns=lambda: now,
            )
        life = _Life(generations)
        while True:
            verb, arguments, now = pipe.recv()
            try:
                answer = getattr(life, verb)(*arguments)
            except Exception as error:
                answer = error
            pipe.send(answer)
    except (EOFError, OSError):
        pass
    except BaseException:
        traceback.print_exc(file=sys.__stderr__)
    finally:
        os._exit(0)
