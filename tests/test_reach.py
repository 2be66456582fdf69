"""Where changes reach no other process, it is said: at the start, and once several are seen."""

from __future__ import annotations

import pytest
from sites import Site

from wsgi_usercache import UserCache
from wsgi_usercache.generations import reach


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]


def asked(site: Site, *, among_others: bool) -> None:
    client = site.app.test_client()
    for _ in range(2):
        client.get("/file", environ_overrides={"wsgi.multiprocess": among_others})


def test_one_of_several_processes_says_once_that_its_changes_reach_no_other(
    caplog: pytest.LogCaptureFixture,
) -> None:
    asked(Site(UserCache(backend="process")), among_others=True)
    assert len(warnings(caplog)) == 1
    assert "USERCACHE_BACKEND='host'" in warnings(caplog)[0]


@pytest.mark.parametrize(("backend", "among_others"), [("process", False), ("host", True)])
def test_nothing_is_said_where_nothing_is_missed(
    caplog: pytest.LogCaptureFixture, backend: str, among_others: bool
) -> None:
    asked(Site(UserCache(backend=backend)), among_others=among_others)
    assert not warnings(caplog)


def test_a_system_without_state_files_says_so_and_keeps_to_the_process(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reach, "is_supported", lambda: False)
    site = Site(UserCache())
    assert len(warnings(caplog)) == 1
    assert "no state file" in warnings(caplog)[0]
    asked(site, among_others=True)
    assert len(warnings(caplog)) == 2
