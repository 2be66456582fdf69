"""Which version of this file is on the disk now? Looked at again after the check interval.

Small files stay in memory. Whatever is not plainly a regular file inside its folder is not found.
"""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Callable
from threading import Lock
from typing import NamedTuple

from cachetools import LRUCache, TLRUCache

from .prepared import Prepared, prepare, version_of

_MAX_FILE_BYTES = 256 * 2**10  # larger files are streamed from the disk
_ENTRY_SIZE = 4096  # bytes; what headers and keys of a prepared file weigh, roughly
_SAME_STAMP = 0.05  # seconds; a write this soon after another may leave the same file times
_COARSE_STAMP = 2.0  # seconds; the same where file systems count whole or even seconds
_TRIES = 3
_LOOKS = 4096  # files whose status is remembered
_LONGEST = 1024  # characters; longer paths are not remembered
_NO_WAITING = getattr(os, "O_NONBLOCK", 0)  # Windows has neither this nor FIFOs
_MISSING = 1.0  # seconds; the longest a file may be missed after it came


class Source(NamedTuple):
    """The bytes to answer with, and what their headers say."""

    path: str
    directory: str
    name: str  # whose type and file name they have
    max_age: int | None
    coding: str | None = None
    varies: bool = False


class Look(NamedTuple):
    """What a path was at one moment; None is no regular file."""

    status: os.stat_result | None
    good_until: float


class Found(NamedTuple):
    """A file prepared: large, and opened for the caller to close; or small, and perhaps kept."""

    prepared: Prepared
    file: OpenFile | None
    is_kept: bool


class OpenFile(io.FileIO):
    """A file to be sent. Once *promised* is set, so many bytes are read of it and never more.

    If it was cut meanwhile, reading and closing are errors: whoever sends it must then end the
    connection, because the client would take the next answer for the rest of the file.
    """

    promised: int | None = None  # bytes, from the beginning of the file
    _reached = 0

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """Go there; `socket.sendfile` goes to where it stopped."""
        position = super().seek(offset, whence)
        self._reached = max(self._reached, position)
        return position

    def read(self, size: int | None = -1, /) -> bytes:
        if self.promised is None:
            return super().read(-1 if size is None else size)
        left = max(self.promised - self.tell(), 0)
        wanted = left if size is None or size < 0 else min(size, left)
        data = super().read(wanted)
        if wanted and not data:
            raise self._cut()
        return data

    def close(self) -> None:
        promised = self.promised
        is_cut = (
            promised is not None
            and not self.closed
            and max(self._reached, self.tell()) < promised
            and os.fstat(self.fileno()).st_size < promised
        )
        super().close()
        if is_cut:
            raise self._cut()

    def _cut(self) -> RuntimeError:
        return RuntimeError(f"{self.name!r} was cut while it was being sent")


class Files:
    """The files on the disk, at most *check_interval* seconds of *clock* ago.

    *dropped* is called when some are no longer kept in the *max_bytes* of memory.
    """

    def __init__(
        self,
        *,
        clock: Callable[[], float],
        wall: Callable[[], float],
        max_bytes: int,
        check_interval: float,
        follow_symlinks: bool,
        dropped: Callable[[], None],
    ) -> None:
        self._clock = clock
        self._wall = wall
        self._max_bytes = max_bytes
        self._check_interval = check_interval
        self._follow_symlinks = follow_symlinks
        self._lock = Lock()
        self._looks: TLRUCache[str, Look] = TLRUCache(
            _LOOKS, ttu=lambda _path, look, _now: look.good_until, timer=clock
        )
        self._kept: LRUCache[Source, Prepared] = LRUCache(max_bytes, getsizeof=_weight)
        self._dropped = dropped

    def look(self, path: str) -> Look:
        """Return what is at *path*; what is missing is remembered for a second at most."""
        with self._lock:
            known = self._looks.get(path)
        if known is not None:
            return known
        now = self._clock()
        status = _regular(path)
        interval = self._check_interval
        if status is None:
            interval = min(interval, _MISSING)
        look = Look(status, now + interval)
        if interval > 0 and len(path) <= _LONGEST:
            with self._lock:
                self._looks[path] = look
        return look

    def find(self, source: Source, status: os.stat_result) -> Found | None:
        """Return the file, last seen with *status*, as it is prepared; None if it is gone."""
        with self._lock:
            known = self._kept.get(source)
        if known is not None and known.body is not None and known.version == version_of(status):
            return Found(known, None, True)
        file = _open(source.path)
        if file is None:
            return None
        found = None
        try:
            found = self._read(source, file, known)
        except (OSError, ValueError, TypeError, OverflowError):
            pass  # not to be read, or Werkzeug has no headers for it: Flask knows what to do then
        finally:
            if found is None or found.file is None:
                file.close()
        return found

    def _read(self, source: Source, file: OpenFile, known: Prepared | None) -> Found | None:
        wall = self._wall()
        status = os.fstat(file.fileno())
        if known is not None and known.version == version_of(status):
            return Found(known, file if known.body is None else None, True)
        if not stat.S_ISREG(status.st_mode) or not self._is_allowed(source):
            return None
        body, is_steady = None, True
        if status.st_size <= _MAX_FILE_BYTES:
            status, body, is_steady = _content(file)
        if body is not None and len(body) > _MAX_FILE_BYTES:  # it has grown meanwhile
            status, body, is_steady = os.fstat(file.fileno()), None, True
            file.seek(0)
        prepared = prepare(
            source.path,
            source.name,
            status,
            body,
            max_age=source.max_age,
            coding=source.coding,
            varies=source.varies,
            is_whole=is_steady,
        )
        is_steady = is_steady and not _may_change_unseen(status, wall)
        is_kept = is_steady and self._keep(source, prepared)
        return Found(prepared, file if body is None else None, is_kept)

    def _keep(self, source: Source, prepared: Prepared) -> bool:
        if _weight(prepared) > self._max_bytes:
            return False
        with self._lock:
            before = len(self._kept)
            self._kept[source] = prepared
            is_more = len(self._kept) > before
        if not is_more:  # it took the place of another
            self._dropped()
        return True

    def _is_allowed(self, source: Source) -> bool:
        """Whether the file lies in its folder, symbolic links followed."""
        if self._follow_symlinks:
            return True
        folder = os.path.join(os.path.realpath(source.directory), "")
        return os.path.realpath(source.path).startswith(folder)


def _content(file: OpenFile) -> tuple[os.stat_result, bytes, bool]:
    """Return all of a small file, its status, and whether both are of one version.

    Somebody may be writing into it. If it does not come to rest the bytes are those that were
    read: their number is right, which it would not be if Flask opened the file once more.
    """
    for _ in range(_TRIES):
        status = os.fstat(file.fileno())
        file.seek(0)
        body = _read_at_most(file, _MAX_FILE_BYTES + 1)
        after = os.fstat(file.fileno())
        # Not ctime: it tells also that the file was replaced, which is no matter to who reads it.
        if (status.st_mtime_ns, len(body)) == (after.st_mtime_ns, after.st_size):
            return status, body, len(body) == status.st_size
    return status, body, False


def _read_at_most(file: OpenFile, size: int) -> bytes:
    body = b""
    while len(body) < size and (piece := file.read(size - len(body))):
        body += piece
    return body


def _may_change_unseen(status: os.stat_result, wall: float) -> bool:
    """Whether the file was changed so lately that another change may leave the same times."""
    is_coarse = status.st_ctime_ns % 10**9 == 0
    return abs(wall - status.st_ctime) < (_COARSE_STAMP if is_coarse else _SAME_STAMP)


def _weight(prepared: Prepared) -> int:
    return _ENTRY_SIZE + len(prepared.body or b"")


def _regular(path: str) -> os.stat_result | None:
    try:
        status = os.stat(path)
    except (OSError, ValueError):  # ValueError: a NUL in the name
        return None
    return status if stat.S_ISREG(status.st_mode) else None


def _open(path: str) -> OpenFile | None:
    """Return the file opened, without waiting for the writer of what has become a FIFO."""
    try:
        return OpenFile(path, opener=lambda path, flags: os.open(path, flags | _NO_WAITING))
    except OSError:
        return None
