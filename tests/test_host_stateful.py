"""Three processes at one file do what comes, are killed where it comes; a dict knows the rest."""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule
from members import POINTS, SECOND, SETTLE, Gone, Member

STANDS = round(SETTLE * SECOND)
SLOTS = (1, 2, 3)

# Who is killed while changing slots 1 and 2: which have new numbers, which marks are left?
LEFT: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {
    "before its marks": ((), ()),
    "between its marks": ((), (1,)),
    "before its numbers": ((), (1, 2)),
    "between its numbers": ((1,), (1, 2)),
    "before its marks are down": ((1, 2), (1, 2)),
    "between its marks down": ((1, 2), (2,)),
    "with its flag up": ((1, 2), ()),
}

members = st.sampled_from(range(3))
slots = st.lists(st.sampled_from(SLOTS), min_size=1, max_size=3)


@dataclass
class Column:
    """Marks in one column; its owner is dead unless *alive*."""

    marks: set[int] = field(default_factory=set)
    since: int | None = None
    alive: bool = False


class Host(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.place = Path(tempfile.mkdtemp())
        self.state = self.place / "state"
        self.members = [Member(self.state) for _ in range(3)]
        # The model.
        self.now = SECOND
        self.versions = dict.fromkeys(SLOTS, 0)
        self.columns: list[Column] = []
        self.column_of: list[Column | None] = [None] * 3
        self.fences: list[dict[str, set[int]]] = [{} for _ in range(3)]
        self.crowd = Column()
        self.names = 0
        # What was read of each version of each slot.
        self.numbers: dict[tuple[int, int], int] = {}

    def teardown(self) -> None:
        try:
            self.read(0, list(SLOTS))
            self.now += STANDS
            self.read(1, list(SLOTS))
        finally:
            self._end()

    def _end(self) -> None:
        for member in self.members:
            member.end()
        shutil.rmtree(self.place)

    def ask(self, who: int, verb: str, *arguments: object) -> object:
        return self.members[who].ask(verb, *arguments, now=self.now)

    @rule(who=members, slots=slots)
    def read(self, who: int, slots: list[int]) -> None:
        numbers = self.ask(who, "current", *slots)
        for column in [*self.columns, self.crowd]:
            if not column.alive and column.marks & set(slots):
                self.settle(column)
        marked = set().union(*(column.marks for column in [*self.columns, self.crowd]))
        assert isinstance(numbers, tuple)
        for slot, number in zip(slots, numbers, strict=True):
            assert (number == 0) == (slot in marked)
            if number:
                known = self.numbers.setdefault((slot, self.versions[slot]), number)
                assert number == known
        of_slots = [(slot, number) for (slot, _), number in self.numbers.items()]
        assert len(of_slots) == len(set(of_slots))

    @rule(who=members, slots=slots)
    def bump(self, who: int, slots: list[int]) -> None:
        self.ask(who, "bump", *slots)
        self.own(who)
        self.change(slots)

    @rule(who=members, slots=slots, is_read_before=st.booleans())
    def begin(self, who: int, slots: list[int], is_read_before: bool) -> None:
        if is_read_before:
            self.read(who, slots)
        self.names += 1
        self.ask(who, "changing", str(self.names), *slots)
        self.own(who).marks |= set(slots)
        self.fences[who][str(self.names)] = set(slots)

    @precondition(lambda self: any(self.fences))
    @rule(choice=st.data(), how=st.sampled_from(["changed", "unchanged", "lost"]))
    def end(self, choice: st.DataObject, how: str) -> None:
        who, name = choice.draw(
            st.sampled_from([(who, name) for who in range(3) for name in self.fences[who]])
        )
        self.ask(who, "end", name, how)
        slots = self.fences[who].pop(name)
        if how == "changed":
            self.change(slots)
        elif how == "lost":
            self.crowd.marks |= slots
            self.crowd.since = self.now
        self.own(who).marks = set().union(*self.fences[who].values())

    @rule(who=members)
    def kill(self, who: int) -> None:
        self.members[who].kill()
        self.replace(who)

    @rule(who=members, point=st.sampled_from(sorted(POINTS)))
    def kill_at(self, who: int, point: str) -> None:
        if self.fences[who]:
            return
        self.bump(who, [3])  # so that it has a column
        self.ask(who, "die_at", point)
        with pytest.raises(Gone):
            self.ask(who, "change", 1, 2)
        numbered, marked = LEFT[point]
        self.change(numbered)
        self.own(who).marks = set(marked)
        self.replace(who)

    @rule(by=st.sampled_from([SECOND, STANDS // 2, STANDS - 1, STANDS]))
    def wait(self, by: int) -> None:
        self.now += by

    def own(self, who: int) -> Column:
        """The column of *who*, found as he finds it."""
        mine = self.column_of[who]
        if mine is None:
            free = next(
                (each for each in self.columns if not each.alive and self.settle(each)), None
            )
            mine = free or Column()
            if free is None:
                self.columns.append(mine)
            mine.alive = True
            self.column_of[who] = mine
        return mine

    def settle(self, column: Column) -> bool:
        """Whether the dead owner's marks are down."""
        if column.marks:
            if column.since is None:
                column.since = self.now
            if self.now - column.since < STANDS:
                return False
            self.change(column.marks)
            column.marks = set()
        column.since = None
        return True

    def change(self, slots: object) -> None:
        assert isinstance(slots, (set, list, tuple))
        for slot in Counter(slots):
            self.versions[slot] += 1

    def replace(self, who: int) -> None:
        mine = self.column_of[who]
        if mine is not None:
            mine.alive, mine.since = False, None
        self.members[who].end()
        self.members[who] = Member(self.state)
        self.column_of[who] = None
        self.fences[who] = {}


class TestHost(Host.TestCase):  # type: ignore[name-defined, misc]  # made at run time
    settings = settings(max_examples=35, stateful_step_count=25, deadline=None)
