"""What does a state file look like, and is this one?

In bytes, integers as the machine has them:

    0     the first word: FORMAT, or CLOSED, which every version understands
    8     what the rest looks like, written first: a file without it is somebody else's
    24    made anew with the file: what was read before is not mistaken for what is in it now
    1024  flags, one byte per column: has it any mark up?
    2048  when each column's owner was first seen dead (8 bytes, ns of the monotonic clock; 0: not)
    3072  the last number each column's owners stored (8 bytes)
    4096  marks, column after column
    …     numbers, 8 bytes per slot
    …     a word to try whether the file can be written to
"""

from __future__ import annotations

import os
import stat
import struct
from pathlib import Path

from . import SLOTS

FORMAT = b"userca01"
CLOSED = b"CLOSED\0\0"
COLUMNS = 128  # a power of two: a number says in its low bits who stored it
SLOT_COUNT = SLOTS + 1  # with everybody's

SHAPE = struct.pack("=8sII", b"usercach", SLOT_COUNT, COLUMNS)
OURS = FORMAT + SHAPE
BEGUN = bytes(8) + SHAPE

NONCE, FLAGS, DEAD, LAST, MARKS = len(OURS), 1024, 2048, 3072, 4096
HEAD = NONCE + 8
STRIDE = (SLOT_COUNT + 7) // 8 * 8
NUMBERS = MARKS + COLUMNS * STRIDE
TRIAL = NUMBERS + 8 * SLOT_COUNT
SIZE = TRIAL + 8


class Unusable(Exception):
    """The file can not be relied on; the message says why, for people."""


def is_ours(head: bytes) -> bool:
    """Whether a file that begins with *head* is a state file, or may become one."""
    head = head[:NONCE]
    return head in (b"", BEGUN) or (len(head) >= 8 and OURS.startswith(head))


def wrong_file(path: Path, found: os.stat_result, mode: int) -> str | None:
    """What is wrong with the file *found* at *path*, or None. Its owner must be this user unless
    *mode* shares it with a group on purpose."""
    if not stat.S_ISREG(found.st_mode):
        return f"{path} is no regular file (owner: uid {found.st_uid})"
    if found.st_uid != os.geteuid() and not mode & 0o020:
        return f"{path} belongs to uid {found.st_uid}, not to uid {os.geteuid()}"
    if found.st_nlink > 1:
        return f"{path} has {found.st_nlink} names (owner: uid {found.st_uid})"
    return None
