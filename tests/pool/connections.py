"""The application's connections: how many there may be, and what the database sees of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, Thread
from typing import NamedTuple

import sqlalchemy as sa

NAME = "the application"  # as the database knows them; whoever looks is called otherwise
MOST = 15
OPTIONS = {
    "pool_size": 5,
    "max_overflow": MOST - 5,
    "pool_timeout": 3,  # seconds
    "connect_args": {"application_name": NAME},
}
EXHAUSTED = "QueuePool limit of size 5 overflow 10 reached"
EVERY = 0.01  # seconds between two looks

_IDLE = sa.text(
    "SELECT count(*), coalesce(max(extract(epoch FROM clock_timestamp() - state_change)), 0)"
    " FROM pg_stat_activity WHERE application_name = :name AND state = 'idle in transaction'"
)


class Look(NamedTuple):
    """Those that were idle in transaction, and for how long one was by the server's clock."""

    rows: int
    seconds: float


class Watch:
    """Looks at them."""

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection

    def look(self) -> Look:
        rows, seconds = self._connection.execute(_IDLE, {"name": NAME}).one()
        return Look(rows, float(seconds))

    @contextmanager
    def looking(self) -> Iterator[list[Look]]:
        """Look again and again while the block runs; the list grows meanwhile."""
        looks, over = [self.look()], Event()

        def look() -> None:
            while not over.wait(EVERY):
                looks.append(self.look())

        thread = Thread(target=look)
        thread.start()
        try:
            yield looks
        finally:
            over.set()
            thread.join()


@contextmanager
def watched(url: sa.URL) -> Iterator[Watch]:
    """Looks at the application's connections over one of its own."""
    # Each look is a transaction: within one, the server goes on showing what it showed first.
    engine = sa.create_engine(url, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
    with engine.connect() as connection:
        yield Watch(connection)
