"""A writer with an application context that serves no request and never loaded a user.

Each line it reads, an aspect and a user's id, is a change it makes and tells of in a line of JSON.
"""

from __future__ import annotations

import json
import sys

from .app import create_app
from .users import change_in_sql, seed


def main() -> None:
    with create_app().app_context():
        seed()
        print(json.dumps("ready"), flush=True)
        for line in sys.stdin:
            aspect, user_id = line.split()
            print(json.dumps(change_in_sql(aspect, int(user_id))), flush=True)


if __name__ == "__main__":
    main()
