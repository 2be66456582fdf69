"""As cron runs it: one change, and the end. Arguments: way, user's id, name; `killed` after them
has the process killed as soon as COMMIT has returned."""

from __future__ import annotations

import os
import signal
import sys

from .app import User, create_app, db
from .ways import change


def main(way: str, user_id: str, name: str, end: str = "") -> None:
    with create_app().app_context():
        change(way, db.session, User, int(user_id), name)
        if end == "killed":
            os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    main(*sys.argv[1:])
