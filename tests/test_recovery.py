"""Writers that die, hang or are cut off in the middle of their COMMIT, on a real PostgreSQL: what
do readers in other processes see?"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from time import monotonic, monotonic_ns
from typing import Any

import pytest
import sqlalchemy as sa
from commit_proxy import CommitProxy
from recovery_worker import Member, Site, Worker
from waiting import PATIENCE, until

from wsgi_usercache import app_cache
from wsgi_usercache.generations.claims import is_supported
from wsgi_usercache.generations.host import HostGenerations

pytest_plugins = ["postgres"]
pytestmark = pytest.mark.skipif(not is_supported(), reason="no state file on this system")

SETTLE = 600.0  # seconds, passed by hand
OLD_HIT, OLD_LOADED, NEW_LOADED, NEW_HIT = ("ann", 0), ("ann", 1), ("anne", 1), ("anne", 0)


class Bench:
    """A database with ann in it, and the processes and sites at work on it."""

    def __init__(self, url: sa.URL, state_file: Path) -> None:
        self.url = url
        self.state_file = state_file
        self.ahead = 0  # ns the readers' clock is ahead of the machine's
        self.at_end = ExitStack()
        self._engine = sa.create_engine(url, poolclass=sa.NullPool)
        with self._engine.begin() as connection:
            connection.execute(sa.schema.CreateTable(Member.__table__))
            connection.execute(sa.insert(Member.__table__), {"id": 1, "name": "ann"})

    def clock_ns(self) -> int:
        return monotonic_ns() + self.ahead

    def let_pass(self, seconds: float) -> None:
        self.ahead += int(seconds * 1e9)

    def name(self) -> str | None:
        """The name in the database."""
        with self._engine.connect() as connection:
            return connection.scalar(sa.select(Member.__table__.c.name))

    def reader(self, *, settle: float = SETTLE) -> Site:
        """A site in this process, that remembers ann."""
        url = self.url.render_as_string(hide_password=False)
        site = Site(url, self.state_file, settle=settle)
        self.at_end.callback(site.engine.dispose)
        return warm(site)

    def worker(self, url: sa.URL | None = None, **how: Any) -> Worker:
        """A site in a process of its own, that remembers ann."""
        worker = Worker(url or self.url, self.state_file, settle=how.pop("settle", SETTLE), **how)
        self.at_end.callback(worker.kill)
        return warm(worker)

    def proxy(self) -> CommitProxy:
        proxy = CommitProxy(self.url)
        self.at_end.callback(proxy.close)
        return proxy


def warm(reader: Any) -> Any:
    assert reader.read() == OLD_LOADED
    assert reader.read() == OLD_HIT, "the entry is cold"
    return reader


@pytest.fixture
def bench(database: sa.URL, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    made = Bench(database, tmp_path / "state")

    def generations(_backend: str, *, state_file: str, settle: float, **_more: Any) -> Any:
        path = Path(state_file)
        return HostGenerations(lambda: path, settle=settle, clock_ns=made.clock_ns)

    monkeypatch.setattr(app_cache, "generations_of", generations)
    with made.at_end:
        yield made


def reads(reader: Site | Worker, times: int = 3) -> set[tuple[str, int]]:
    return {reader.read() for _ in range(times)}


def came_back(reader: Site | Worker) -> str:
    """The one name that *reader* sees from now on, at first by asking the database."""
    answers = [reader.read() for _ in range(4)]
    (name,) = {name for name, _ in answers}
    loads = [loads for _, loads in answers]
    assert loads in ([1, 0, 0, 0], [1, 1, 0, 0]), "one more if it is the one to end the marks"
    return name


class StoppedBackend:
    """The server's process with that id, stopped until it is let go."""

    def __init__(self, pid: int) -> None:
        self._stat = Path(f"/proc/{pid}/stat")
        if not self._stat.exists() or "(postgres)" not in self._stat.read_text():
            pytest.skip("USERCACHE_TEST_DATABASE_URL is on another machine: nothing to stop here")
        self._pid: int | None = pid
        os.kill(pid, signal.SIGSTOP)
        until(lambda: self._stat.read_text().rpartition(") ")[2][0] == "T", "the backend stands")

    def let_go(self) -> None:
        if self._pid is not None:
            os.kill(self._pid, signal.SIGCONT)
            self._pid = None


def hold_back(bench: Bench, writer: Worker, proxy: CommitProxy, loss: str) -> StoppedBackend:
    """Have *writer* commit "anne" to a backend that is stopped, and lose him there."""
    backend = StoppedBackend(writer.ask("rename", "anne"))
    bench.at_end.callback(backend.let_go)
    if loss == "line cut":
        proxy.loses = "line"
    writer.tell("go")
    assert proxy.sent.wait(PATIENCE)
    if loss == "line cut":
        assert writer.hear() == "OperationalError"
    else:
        writer.kill()
    assert bench.name() == "ann"
    return backend


LOSSES = pytest.mark.parametrize("loss", ["writer killed", "line cut"])


@LOSSES
def test_a_commit_executed_after_its_writer_was_lost_is_seen_at_once(
    bench: Bench, loss: str
) -> None:
    proxy = bench.proxy()
    here, there, idle = bench.reader(), bench.worker(), bench.reader()
    writer = bench.worker(proxy.url)
    backend = hold_back(bench, writer, proxy, loss)
    assert reads(here) == reads(there) == {OLD_LOADED}
    bench.let_pass(SETTLE / 2)
    assert reads(here) == reads(there) == {OLD_LOADED}

    backend.let_go()
    until(lambda: bench.name() == "anne", "the queued COMMIT is executed")

    assert reads(here) == reads(there) == {NEW_LOADED}
    bench.let_pass(SETTLE / 2)
    assert came_back(here) == came_back(there) == came_back(idle) == "anne"


@LOSSES
def test_marks_lifted_at_once_would_have_the_old_user_served(bench: Bench, loss: str) -> None:
    proxy = bench.proxy()
    reader, writer = bench.reader(settle=0.0), bench.worker(proxy.url, settle=0.0)
    backend = hold_back(bench, writer, proxy, loss)
    until(lambda: reader.read() == OLD_HIT, "the marks are down")

    backend.let_go()
    until(lambda: bench.name() == "anne", "the queued COMMIT is executed")

    assert reads(reader) == {OLD_HIT}


def test_a_commit_whose_answer_is_lost_is_seen_by_all_workers(bench: Bench) -> None:
    proxy = bench.proxy()
    here, there, idle = bench.reader(), bench.worker(), bench.reader()
    writer = bench.worker(proxy.url)
    writer.ask("rename", "anne")
    proxy.loses = "answer"
    assert writer.ask("go") == "OperationalError"
    assert bench.name() == "anne"
    assert reads(here) == reads(there) == reads(writer) == {NEW_LOADED}

    bench.let_pass(SETTLE)
    assert {came_back(reader) for reader in (here, there, idle, writer)} == {"anne"}


def test_a_commit_that_never_arrived_costs_hits_for_as_long_as_it_takes_to_settle(
    bench: Bench,
) -> None:
    proxy = bench.proxy()
    writer = bench.worker(proxy.url, settle=1.0)  # a process whose clock is the machine's
    writer.ask("rename", "anne")
    proxy.loses = "commit"
    before = monotonic()
    assert writer.ask("go") == "OperationalError"
    assert not proxy.sent.is_set()
    assert writer.read() == OLD_LOADED
    until(lambda: writer.read() == OLD_HIT, "hits come back")
    assert monotonic() - before >= 1.0
    assert bench.name() == "ann"


def test_a_stopped_writer_is_alive_and_readers_ask_the_database(bench: Bench) -> None:
    here, there, writer = bench.reader(), bench.worker(), bench.worker()
    writer.ask("rename", "anne")
    os.kill(writer.pid, signal.SIGSTOP)
    assert reads(here) == reads(there) == {OLD_LOADED}
    bench.let_pass(10 * SETTLE)
    assert reads(here) == {OLD_LOADED}

    os.kill(writer.pid, signal.SIGCONT)
    assert writer.ask("go") == "done"

    assert came_back(here) == came_back(there) == came_back(writer) == "anne"


def namespace() -> list[str]:
    """The command that runs another in a PID namespace of its own, below its first process."""
    for more in ([], ["--user", "--map-root-user"]):
        command = ["unshare", *more, "--pid", "--fork", "--kill-child", "--mount-proc"]
        try:
            done = subprocess.run([*command, "true"], check=False, capture_output=True, text=True)
        except FileNotFoundError:
            pytest.skip("no unshare (util-linux) on this machine")
        if done.returncode == 0:
            return [*command, "sh", "-c", '"$@"; exit $?', "sh"]
    pytest.skip(f"no PID namespaces on this machine: {done.stderr.strip()}")


def test_the_death_of_a_writer_is_seen_from_outside_his_pid_namespace(bench: Bench) -> None:
    reader, writer = bench.reader(), bench.worker(inside=namespace())
    assert writer.own_pid == 2, "he is in a namespace"
    writer.ask("rename", "anne")
    assert reads(reader) == {OLD_LOADED}
    bench.let_pass(10 * SETTLE)
    assert reads(reader) == {OLD_LOADED}, "he is taken for dead"

    writer.tell("die")
    writer.await_end()

    assert reads(reader) == {OLD_LOADED}
    bench.let_pass(SETTLE)
    assert came_back(reader) == "ann"
