"""Reads and writes through a server and the script beside it, all at once, and what came back."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from http.client import HTTPException
from itertools import count, cycle
from pathlib import Path
from random import Random
from threading import Event, Semaphore
from typing import Any

from .checker import Change, Read, Report, check
from .client import Answer
from .server import Script, Server
from .things import ASPECTS, USERS

THINGS = [(user, aspect) for user in USERS for aspect in ASPECTS]
READERS = 6


@dataclass(frozen=True, slots=True)
class Size:
    """How much is asked. Changes come evenly among the reads."""

    reads: int
    changes: int


@dataclass(frozen=True, slots=True)
class Failure:
    """A request that was not answered, or not with 200."""

    sent: float
    failed: float
    error: Exception


@dataclass(slots=True)
class Traffic:
    """One run. Each thing is changed by one writer only, so that its versions only grow."""

    server: Server
    script: Script
    folder: Path
    size: Size
    write: str = "change"  # the view that makes the server's changes
    reads: list[Read] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    cookies: dict[int, str] = field(default_factory=dict)

    def run(self, disturb: Callable[[int], None] = lambda turn: None, times: int = 0) -> Report:
        """Drive it; *disturb* is called *times* on the way. Then everything is read once more."""
        self.cookies = {user: self.server.client.log_in(user) for user in USERS}
        over = Event()
        writers = [Writer(self, self.by_server, 0), Writer(self, self.by_script, 1)]
        schedule = cycle(writers)
        every = self.size.reads // self.size.changes
        turns = count(1)
        pauses = self.size.reads // (times + 1) if times else 0

        def read(seed: int) -> None:
            random = Random(seed)
            while not over.is_set() and not any(each.done() for each in writing):
                self.read(random.choice(USERS))
                turn = next(turns)
                if turn % every == 0:
                    next(schedule).due.release()
                if pauses and turn % pauses == 0 and turn // pauses <= times:
                    disturb(turn // pauses)
                if turn >= self.size.reads and len(self.changes) >= self.size.changes:
                    over.set()

        with ThreadPoolExecutor(READERS + len(writers)) as threads:
            writing = [threads.submit(writer.run, over) for writer in writers]
            reading = [threads.submit(read, seed) for seed in range(READERS)]
            try:
                for each in reading:
                    each.result()
            finally:
                over.set()
                for writer in writers:
                    writer.due.release()
            for each in writing:
                each.result()
        return self.report()

    def report(self) -> Report:
        """The judgement on all so far, after a last look from all sides at what must be seen."""
        for user in USERS * 10:
            self.read(user)
        for user, aspect in THINGS:
            assert self.in_database(user, aspect) == self.told(user, aspect)
        return check(self.changes, self.reads)

    def read(self, user: int) -> Read | None:
        answer = self.ask(lambda: self.server.client.get("/me", self.cookies[user]))
        if answer is None:
            return None
        assert answer.body["user"] == user
        stamps = answer.stamps
        read = Read(user, stamps["began"], answer.body["seen"], stamps["loads"], stamps["pid"])
        self.reads.append(read)
        return read

    def by_server(self, user: int, aspect: str, **headers: str) -> None:
        path = f"/{self.write}/{aspect}/{user}"
        client, cookie = self.server.client, self.cookies[user]
        answer = self.ask(lambda: client.post(path, cookie, **headers))
        if answer is not None:
            self.changes.append(Change(**answer.body))
        else:  # was it made? Whoever asks the database from now on sees what it says
            version = self.in_database(user, aspect)
            self.changes.append(Change(user, aspect, version, time.monotonic()))

    def by_script(self, user: int, aspect: str) -> None:
        self.changes.append(Change(**self.script.change(aspect, user)))

    def ask(self, request: Callable[[], Answer]) -> Answer | None:
        sent = time.monotonic()
        try:
            return request()
        except (OSError, HTTPException) as error:
            self.failures.append(Failure(sent, time.monotonic(), error))
            return None

    def told(self, user: int, aspect: str) -> int:
        mine = [c.version for c in self.changes if (c.user, c.aspect) == (user, aspect)]
        return max(mine, default=0)

    def in_database(self, user: int, aspect: str) -> int:
        """The version in the database, asked for past everything that is under test."""
        query = f"SELECT {aspect}, {aspect} FROM users WHERE id = ?"
        values: tuple[Any, ...] = (user,)
        if aspect.endswith("_side"):
            query = (
                "SELECT min(number), max(number) FROM grants JOIN roles ON role_id = roles.id"
                " WHERE user_id = ? AND side = ?"
            )
            values = (user, aspect)
        with closing(sqlite3.connect(self.folder / "users.sqlite", timeout=30.0)) as database:
            least, greatest = database.execute(query, values).fetchone()
        return int(least) + int(greatest) if aspect.endswith("_side") else int(least)


def own_things(number: int) -> list[tuple[int, str]]:
    """What the writer of this *number* changes: of each user some, of each aspect some."""
    return [thing for at, thing in enumerate(THINGS) if (at + at // len(ASPECTS)) % 2 == number]


class Writer:
    """Makes one change whenever one is due, of the things that are its own, in turn."""

    def __init__(self, traffic: Traffic, make: Callable[[int, str], None], number: int) -> None:
        self.due = Semaphore(0)
        self._make = make
        self._things = cycle(own_things(number))

    def run(self, over: Event) -> None:
        while self.due.acquire() and not over.is_set():
            self._make(*next(self._things))
