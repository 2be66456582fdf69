"""Identities: what is remembered is what the source said, never from before a change."""

from __future__ import annotations

import enum

import pytest
from sources import TTL, Ours, name
from werkzeug.local import LocalProxy

from wsgi_usercache.generations import EVERYBODY, slot_of
from wsgi_usercache.identities import Entry, Loaded
from wsgi_usercache.storable import is_plain


@pytest.fixture
def ours() -> Ours:
    return Ours()


def test_a_fill_begun_before_a_bump_is_not_stored(ours: Ours) -> None:
    def load() -> Loaded:
        value = ours.source.load()
        ours.source.values["1"] = "new"
        ours.invalidate()
        return Loaded(value, value)

    entry, loaded = ours.entry_of(load=load)
    assert (entry, loaded and loaded.user) == (None, "old")
    assert len(ours.cache) == 0
    assert ours.get() == "new"


@pytest.mark.parametrize("slot", [slot_of(name("1")), EVERYBODY])
def test_a_fill_is_not_stored_while_a_mark_stands(ours: Ours, slot: int) -> None:
    fence = ours.generations.changing((slot,))
    assert [ours.get(), ours.get()] == ["old", "old"]
    assert ours.source.calls == 2
    assert len(ours.cache) == 0
    assert ours.cache.unstored == {"change under way": 2}
    fence.changed()
    assert [ours.get(), ours.get()] == ["old", "old"]
    assert ours.source.calls == 3


def test_a_fill_is_not_stored_if_a_mark_went_up_during_the_load(ours: Ours) -> None:
    fences = []

    def load() -> Loaded:
        fences.append(ours.generations.changing((slot_of(name("1")),)))
        return ours.load()

    ours.entry_of(load=load)
    assert len(ours.cache) == 0
    fences[0].unchanged()
    assert ours.cache.unstored == {"changed during the load": 1}


def test_an_entry_survives_a_change_that_was_not_made(ours: Ours) -> None:
    ours.get()
    fence = ours.generations.changing((slot_of(name("1")),))
    ours.get()
    fence.unchanged()
    ours.get()
    assert ours.source.calls == 2
    assert ours.cache.counts["stale"] == 0


def test_an_entry_whose_number_moved_is_removed_and_counted(ours: Ours) -> None:
    ours.get()
    ours.invalidate()
    assert ours.cache.find("1") is None
    assert len(ours.cache) == 0
    assert ours.cache.counts["stale"] == 1


# ---- what an answer rests on


def test_an_answer_rests_on_the_names_its_load_read() -> None:
    ours = Ours(known=lambda: frozenset({"roles", "teams"}))
    for user, names in (("1", {"roles"}), ("2", set())):
        ours.entry_of(user, load=lambda names=names: Loaded("x", "x", frozenset(names)))
    ours.generations.bump((slot_of("roles"),))
    assert ours.cache.find("1") is None
    assert ours.cache.find("2") is not None


def test_an_answer_resting_on_what_was_not_known_before_the_load_is_not_kept() -> None:
    known: set[str] = set()
    ours = Ours(known=lambda: frozenset(known))

    def load() -> Loaded:
        known.add("roles")  # heard of during the load only
        return Loaded("x", "x", frozenset({"roles"}))

    assert ours.entry_of(load=load)[0] is None
    assert ours.cache.unstored == {"new table": 1}
    assert ours.entry_of(load=load)[0] is not None


def test_numbers_are_read_of_everybody_and_of_all_that_is_known() -> None:
    ours = Ours(known=lambda: frozenset({"roles"}))
    assert ours.cache.numbers().keys() == {EVERYBODY, slot_of("roles")}
    fence = ours.generations.changing((slot_of("roles"),))
    assert ours.cache.numbers()[slot_of("roles")] == 0
    fence.unchanged()


def test_an_entry_that_grew_replaces_only_the_one_it_grew_from(ours: Ours) -> None:
    entry, _ = ours.entry_of()
    assert entry is not None
    grown = Entry(entry.frozen, entry.numbers, entry.expires, {"key": "needs"})
    ours.cache.replace("1", entry, grown)
    assert ours.cache.find("1") is grown
    ours.cache.replace("1", entry, entry)
    assert ours.cache.find("1") is grown
    ours.invalidate()
    ours.get()
    ours.cache.replace("1", grown, grown)
    assert ours.cache.find("1") is not grown


def test_what_is_not_to_be_remembered_is_handed_out_and_counted(ours: Ours) -> None:
    for _ in range(2):
        entry, loaded = ours.entry_of(load=lambda: Loaded("x", unstored="holds a proxy"))
        assert (entry, loaded and loaded.user) == (None, "x")
    assert ours.cache.unstored == {"holds a proxy": 2}


# ---- time


def test_ttl_runs_from_the_start_of_the_load_and_use_never_extends_it(ours: Ours) -> None:
    def slowly() -> Loaded:
        ours.clock.now += 10
        return ours.load()

    ours.entry_of(load=slowly)
    ours.clock.now += TTL - 10 - 1
    ours.get()
    assert ours.source.calls == 1
    ours.clock.now += 1
    ours.get()
    assert ours.source.calls == 2


@pytest.mark.parametrize(("ttl", "kept"), [(30.0, 1.0), (0.5, 0.5)])
def test_that_an_id_belongs_to_nobody_is_remembered_shortly(ttl: float, kept: float) -> None:
    ours = Ours(ttl=ttl)
    assert [ours.get("9"), ours.get("9")] == [None, None]
    assert ours.source.calls == 1
    ours.source.values["9"] = "born"
    ours.clock.now += kept
    assert ours.get("9") == "born"


# ---- plain


class Level(enum.Enum):
    HIGH = 1


class Colour(str):
    pass


def test_immutable_data_is_plain_through_and_through() -> None:
    assert is_plain(("role", frozenset({1, b"2", None, 3.0}), (range(3),)))
    assert not is_plain(("role", [1]))
    assert not is_plain(object())
    colour = Colour("red")
    assert is_plain(colour)
    colour.shade = "dark"  # type: ignore[attr-defined]
    assert not is_plain(colour)


@pytest.mark.parametrize("value", ["admin", 7, Level.HIGH, ("role", "admin"), frozenset({1})])
def test_a_proxy_is_not_plain_whatever_it_stands_for_at_the_moment(value: object) -> None:
    assert is_plain(value)
    assert not is_plain(LocalProxy(lambda: value))
    assert not is_plain(("role", LocalProxy(lambda: value)))
