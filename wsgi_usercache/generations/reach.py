"""How far do changes reach, and who asks where? One object for all apps that mean the same."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from threading import Lock
from weakref import WeakValueDictionary, ref

from . import Generations
from .claims import is_supported
from .host import HostGenerations
from .process import ProcessGenerations
from .state_path import check_explicit, default_path

log = logging.getLogger("wsgi_usercache")

_lock = Lock()
_made: WeakValueDictionary[tuple[object, ...], Generations] = WeakValueDictionary()


def generations_of(
    backend: str,
    *,
    namespace: str = "default",
    state_file: str | None = None,
    state_mode: int = 0o600,
    settle: float = 10.0,
) -> Generations:
    """The numbers for *backend*, shared by all apps of the process that ask for the same.

    Where two of them share a database, a change made through one is a change for the other; where
    they do not, meeting costs a reload. Nothing is opened for good. Raises `ValueError` for a
    *state_file* that can not be used.
    """
    if backend == "host" and not is_supported():
        log.warning("this system has no state file; changes reach the threads of one process")
        backend = "process"
    if backend == "process":
        namespace, state_file, state_mode = "", None, 0
    elif state_file is not None:
        check_explicit(Path(state_file), state_mode)
        namespace = ""
    key = (backend, settle, namespace, state_file, state_mode)
    with _lock:
        made = _made.get(key)
        if made is None:
            made = _made[key] = _make(backend, namespace, state_file, state_mode, settle)
        return made


def _make(
    backend: str, namespace: str, state_file: str | None, state_mode: int, settle: float
) -> Generations:
    if backend == "process":
        return _of_process(settle)
    explicit = None if state_file is None else Path(state_file).absolute()

    def path() -> Path:
        return default_path(namespace) if explicit is None else explicit

    return HostGenerations(path, mode=state_mode, settle=settle)


def _of_process(settle: float) -> ProcessGenerations:
    made = ProcessGenerations(settle=settle)
    reference = ref(made)

    def after_fork() -> None:
        alive = reference()
        if alive is not None:
            alive.after_fork()

    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=after_fork)
    return made
