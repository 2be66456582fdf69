"""Does the owner of something in a file live? A lock of the kernel says so, in every PID
namespace; a process id does not, nor does a start time.

The lock is an open file description's (OFD): a POSIX lock would be dropped with the first
descriptor of the file that the process closes. A forked child shares the description, so the lock
would outlive its owner there; the child closes what it inherited, at once where Python's hooks
run, else at its first use.
"""

from __future__ import annotations

import os
import struct
import sys
import threading
from weakref import WeakSet, finalize

try:
    import fcntl
except ImportError:  # Windows; nothing below is called there
    fcntl = None  # type: ignore[assignment]  # as `is_supported` says

_flock = struct.Struct("hhqqi")  # struct flock of Linux on 64 bits, l_pid last

_held: WeakSet[Lock] = WeakSet()
_guards: dict[int, threading.RLock] = {}


def is_supported() -> bool:
    """Whether this system has what the state file needs: OFD locks and allocation as on Linux,
    and 64 bits."""
    return (
        sys.platform == "linux"
        and struct.calcsize("P") == 8
        and hasattr(fcntl, "F_OFD_SETLK")
        and hasattr(os, "posix_fallocate")
    )


class Lock:
    """A try to lock *byte* of the file *name*: if `is_taken`, then until it is released."""

    def __init__(self, name: str, byte: int) -> None:
        self.pid = os.getpid()
        with _guard():  # else a fork between the two would leave the child a copy unknown to it
            self.fd = os.open(name, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            self._close = closing(self, self.fd)
            _held.add(self)
        self.is_taken = _try(self.fd, byte)

    def release(self) -> None:
        """Let go. In a forked child this leaves the parent's lock as it is."""
        self._close()


def closing(holder: object, fd: int) -> finalize[[int], object]:
    """Close *fd*, once: when called, or with its *holder*. At exit the kernel does it."""
    close = finalize(holder, os.close, fd)
    close.atexit = False
    return close


def is_locked(fd: int, byte: int) -> bool:
    """Whether somebody alive, this process included, holds a lock on *byte*."""
    answer = fcntl.fcntl(fd, fcntl.F_OFD_GETLK, _lock_on(byte))
    return bool(_flock.unpack(answer)[0] != fcntl.F_UNLCK)


def drop_inherited() -> None:
    """Close, in a forked child, what it has of its parent's locks."""
    with _guard():
        for lock in list(_held):
            if lock.pid != os.getpid():
                lock.release()


def _guard() -> threading.RLock:
    """This process's own: who held the parent's is not in the child, and would never release it.
    Reentrant, for a collected generator may end its transaction in the middle of anything."""
    pid = os.getpid()
    return _guards.get(pid) or _guards.setdefault(pid, threading.RLock())


def _lock_on(byte: int) -> bytes:
    return _flock.pack(fcntl.F_WRLCK, os.SEEK_SET, byte, 1, 0)


def _try(fd: int, byte: int) -> bool:
    try:
        fcntl.fcntl(fd, fcntl.F_OFD_SETLK, _lock_on(byte))
    except (BlockingIOError, PermissionError):  # EAGAIN or EACCES, says fcntl(2)
        return False
    return True


def _acquire_guard() -> None:
    _guard().acquire()


def _release_guard() -> None:
    _guard().release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_acquire_guard, after_in_parent=_release_guard, after_in_child=drop_inherited
    )
