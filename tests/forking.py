"""What happens in a forked child, told to the test that forked it."""

from __future__ import annotations

import os
import signal
import warnings
from collections.abc import Callable

PATIENCE = 10  # seconds after which a child that hangs ends, and has said nothing


def in_child(act: Callable[[], object]) -> str:
    """What *act* returns in a forked child, as text; the pipe's end is the barrier."""
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # that threads are running is meant
        child = os.fork()
    if child == 0:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(PATIENCE)
        try:
            os.write(writing, str(act()).encode())
        except BaseException as error:
            os.write(writing, repr(error).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with open(reading) as pipe:
        said = pipe.read()
    os.waitpid(child, 0)
    return said
