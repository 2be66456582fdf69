"""Identities: the cache is a dict with a clock, whatever happens in whatever order."""

from __future__ import annotations

from collections import Counter, OrderedDict
from dataclasses import dataclass
from typing import Any

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from wsgi_usercache.generations import EVERYBODY, slot_of
from wsgi_usercache.generations.process import ProcessGenerations
from wsgi_usercache.identities import IdentityCache, Loaded

TTL = 30
SETTLE = 10
MAXSIZE = 3
# What the load of each user reads beside the user.
NAMES = {"1": {"roles"}, "2": {"roles", "teams"}, "3": set(), "4": set(), "5": {"teams"}}
SLOTS = {name: slot_of(name) for name in (*(f"user:{user}" for user in NAMES), "roles", "teams")}
SLOTS["everybody"] = EVERYBODY

users = st.sampled_from(sorted(NAMES))
changed_slots = st.lists(st.sampled_from(sorted(SLOTS)), min_size=1, max_size=3)


@dataclass
class Held:
    """An entry as the model has it: the value, when it ends, and the versions it rests on."""

    value: Any
    expires: float
    rests_on: dict[str, int]


class Model(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        assert len(set(SLOTS.values())) == len(SLOTS)
        self.now = 0.0
        self.generations = ProcessGenerations(settle=SETTLE, clock=lambda: self.now)
        self.cache = IdentityCache(
            self.generations,
            ttl=TTL,
            maxsize=MAXSIZE,
            known=lambda: frozenset({"roles", "teams"}),
            clock=lambda: self.now,
        )
        self.source: dict[str, int | None] = dict.fromkeys(NAMES, 0)
        self.calls = self.expected_calls = 0
        self.held: OrderedDict[str, Held] = OrderedDict()
        self.versions: Counter[str] = Counter()
        self.marks: Counter[str] = Counter()
        self.fences: list[tuple[Any, set[str]]] = []
        self.lost: list[tuple[float, set[str]]] = []

    # ---- what happens

    @rule(user=users, refresh=st.booleans())
    def get(self, user: str, refresh: bool) -> None:
        self.settle()
        entry = None if refresh else self.good(user)
        if entry is not None:
            expected = entry.value
        else:
            expected = self.source[user]
            self.expected_calls += 1
            self.keep(user, expected)
        assert self.ask(user, refresh) == expected
        assert self.calls == self.expected_calls

    @rule(user=users, value=st.integers(1, 99) | st.none())
    def write_and_tell_nobody(self, user: str, value: int | None) -> None:
        self.source[user] = value

    @rule(names=changed_slots)
    def bump(self, names: list[str]) -> None:
        self.generations.bump([SLOTS[name] for name in names])
        self.versions.update(set(names))

    @rule(seconds=st.sampled_from([0.5, 1, 9, 10, 29, 30]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule(names=changed_slots)
    def begin_change(self, names: list[str]) -> None:
        fence = self.generations.changing([SLOTS[name] for name in names])
        self.fences.append((fence, set(names)))
        self.marks.update(set(names))

    @precondition(lambda self: self.fences)
    @rule(data=st.data(), end=st.sampled_from(["changed", "unchanged", "lost"]))
    def end_change(self, data: st.DataObject, end: str) -> None:
        place = data.draw(st.integers(0, len(self.fences) - 1))
        fence, names = self.fences.pop(place)
        getattr(fence, end)()
        if end == "lost":
            self.lost.append((self.now + SETTLE, names))
        else:
            self.marks.subtract(names)
            if end == "changed":
                self.versions.update(names)

    @rule()
    def clear(self) -> None:
        self.cache.clear()
        self.held.clear()

    @invariant()
    def is_bounded(self) -> None:
        self.forget_expired()
        assert len(self.cache) == len(self.held) <= MAXSIZE

    # ---- the cache

    def ask(self, user: str, refresh: bool) -> int | None:
        entry, loaded = self.cache.get_or_load(
            user, f"user:{user}", lambda: self.load(user), refresh=refresh
        )
        if loaded is not None:
            return loaded.user
        assert entry is not None
        return entry.frozen

    def load(self, user: str) -> Loaded:
        self.calls += 1
        value = self.source[user]
        return Loaded(value, value, frozenset(NAMES[user]))

    # ---- the model

    def settle(self) -> None:
        for until, names in self.lost:
            if until <= self.now:
                self.marks.subtract(names)
                self.versions.update(names)
        self.lost = [later for later in self.lost if later[0] > self.now]

    def good(self, user: str) -> Held | None:
        self.forget_expired()
        held = self.held.get(user)
        if held is None:
            return None
        self.held.move_to_end(user)
        if any(self.marks[name] > 0 for name in held.rests_on):
            return None
        if any(self.versions[name] != version for name, version in held.rests_on.items()):
            del self.held[user]
            return None
        return held

    def keep(self, user: str, value: int | None) -> None:
        rests_on = {"everybody", f"user:{user}", *NAMES[user]}
        if any(self.marks[name] > 0 for name in rests_on):
            return
        self.forget_expired()
        if user not in self.held and len(self.held) == MAXSIZE:
            self.held.popitem(last=False)
        versions = {name: self.versions[name] for name in rests_on}
        self.held[user] = Held(value, self.now + (1 if value is None else TTL), versions)
        self.held.move_to_end(user)

    def forget_expired(self) -> None:
        for user in [user for user, held in self.held.items() if held.expires <= self.now]:
            del self.held[user]


TestModel = Model.TestCase
TestModel.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
