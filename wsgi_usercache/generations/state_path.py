"""Where is the state file of this user, and may it be there?"""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Mapping
from pathlib import Path

from .layout import CLOSED, OURS, Unusable, is_ours, wrong_file


def default_path(namespace: str, environ: Mapping[str, str] = os.environ) -> Path:
    """The state file of *namespace* for this user, in a directory nobody else writes to.

    One for all applications of the user, whatever their names and keys: Celery, cron and
    `flask shell` must meet the web workers. Raises `Unusable` if there is no such directory.
    """
    name = f"wsgi_usercache-{namespace}.state"
    for variable in ("RUNTIME_DIRECTORY", "XDG_RUNTIME_DIR"):
        given = environ.get(variable, "").split(":")[0]  # systemd may name several
        # sudo and su leave the variables of another user; his directory is not for our file.
        if given and _is_own(Path(given)):
            return Path(given) / name
    return _made_directory() / name


def check_explicit(path: Path, mode: int) -> None:
    """Raise `ValueError` if the file at *path*, or its directory, can not be used."""
    try:
        found = path.lstat()
        wrong = wrong_file(path, found, mode)
        if wrong is None and not _is_state_file(path):
            wrong = f"{path} is no state file of this version (owner: uid {found.st_uid})"
    except FileNotFoundError:
        wrong = None if path.parent.is_dir() else f"no directory {path.parent}"
    except OSError as error:
        wrong = str(error)
    if wrong is not None:
        raise ValueError(f"USERCACHE_STATE_FILE: {wrong}")


def _is_state_file(path: Path) -> bool:
    fd = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        head = os.read(fd, len(OURS))
    finally:
        os.close(fd)
    return head.startswith(CLOSED) or is_ours(head)


def _made_directory() -> Path:
    shared = Path("/dev/shm")  # noqa: S108  # in memory; the directory below is this user's own
    parent = shared if os.access(shared, os.W_OK | os.X_OK) else Path(tempfile.gettempdir())
    directory = parent / f"wsgi_usercache-{os.geteuid()}"
    try:
        directory.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise Unusable(str(error)) from error
    if not _is_own(directory):
        owner = directory.lstat().st_uid
        raise Unusable(f"{directory} is not this user's own (owner: uid {owner})")
    return directory


def _is_own(directory: Path) -> bool:
    """Whether *directory* is this user's, and nobody else may put anything into it."""
    try:
        found = directory.lstat()
    except OSError:
        return False
    is_ours = stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid()
    return is_ours and not found.st_mode & 0o022
