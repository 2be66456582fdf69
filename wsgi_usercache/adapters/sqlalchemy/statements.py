"""What does a statement read, and what can it write?"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Table, TextClause
from sqlalchemy.sql import visitors
from sqlalchemy.sql.dml import UpdateBase
from sqlalchemy.sql.selectable import TextualSelect

from . import cascades

LONGEST = 10_000  # characters of a statement worth remembering a verdict for
MOST = 1_024  # such statements
EVERYTHING = "*"  # stands for the tables of a statement that may write anywhere

_WORD = re.compile(r"[\w$]+")
_BEFORE = " \t\r\n(;"  # what may stand before the first word
_COMMENT = re.compile(r"/\*.*?\*/|--[^\n]*", re.DOTALL)
_TARGET = re.compile(
    r"\b(?:INTO|UPDATE|FROM|JOIN|TABLE|TRUNCATE)\s+(?:ONLY\s+|IF\s+(?:NOT\s+)?EXISTS\s+)?"
    r"""((?:["`\[]?[\w$ ]+["`\]]\.?|[\w$]+\.?)+)""",
    re.IGNORECASE,
)
_SELECTS = frozenset({"SELECT", "VALUES"})
_HARMLESS = re.compile(
    "PRAGMA|EXPLAIN|SHOW|SAVEPOINT|RELEASE|ROLLBACK|BEGIN|START|SET|DESC|DESCRIBE|USE|FETCH"
    "|DECLARE|CLOSE|LISTEN|NOTIFY|LOCK|ANALYZE|VACUUM|RESET|COMMIT|END"
)
_OPAQUE = re.compile(r"(?:CALL|DO|EXEC|EXECUTE|COMMIT\s+PREPARED)\b", re.IGNORECASE)
_RUNS = re.compile(r"\bEXECUTE\b", re.IGNORECASE)
_BEGINS = frozenset({"BEGIN", "START", "SAVEPOINT", "RELEASE"})
_COMMITS = re.compile(r"\b(?:COMMIT|END)\b", re.IGNORECASE)
_SELECT = re.compile(r"\bSELECT\b", re.IGNORECASE)
_DML = re.compile(r"\b(?:INSERT|UPDATE|DELETE|MERGE|REPLACE|TRUNCATE)\b", re.IGNORECASE)
_LOCKS = re.compile(r"\bFOR\s+(?:NO\s+KEY\s+|KEY\s+)?(?:UPDATE|SHARE)\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is known of one statement: *selects* says it does nothing but read, *nested* that it
    has more than one SELECT, *textual* that its tables are known from its text alone, *commits*
    that it ends the transaction by itself, *begins* that it does nothing but begin one or a
    savepoint, or release that. *tables* are bare lower-case names, *reached* those the
    database changes along with them."""

    selects: bool = False
    writes: bool = False
    nested: bool = False
    textual: bool = False
    commits: bool = False
    begins: bool = False
    tables: frozenset[str] = frozenset()
    reached: frozenset[str] = frozenset()


class TableNames:
    """The tables that mapped classes have told of; words of a statement mean nothing else.

    Process-wide: what one app learned is no wrong answer for another. Only ever grows, which
    is why its size says whether a copy of it is still complete, and no lock is needed.
    """

    def __init__(self) -> None:
        self._all: set[str] = set()
        self._names: frozenset[str] = frozenset()
        self._odd: tuple[str, ...] = ()  # those no single word spells

    @property
    def names(self) -> frozenset[str]:
        """All of them; the same object until there are more."""
        if len(self._names) != len(self._all):
            names = frozenset(self._all)
            self._odd = tuple(name for name in names if not _WORD.fullmatch(name))
            self._names = names
        return self._names

    def learn(self, tables: Iterable[str]) -> None:
        """From now on these are tables."""
        self._all.update(tables)

    def within(self, statement: str) -> frozenset[str]:
        """The tables named anywhere in the text of *statement*."""
        text = statement.lower()
        found = self.names.intersection(_WORD.findall(text))
        return found.union(name for name in self._odd if name in text)


known_tables = TableNames()
_verdicts: dict[
    tuple[str, int, int, bool], Verdict
] = {}  # emptied when full: reading needs no lock


def bare(table: Any) -> str:
    """The name a table goes by: without its schema, for a collision only costs a reload."""
    return str(getattr(table, "name", table)).lower()


def tables_of(mapper: Any) -> Iterator[str]:
    """The names of the tables one mapped class lives in."""
    return (bare(table) for table in mapper.tables)


def only_selects(statement: str) -> bool:
    """Whether *statement* plainly is one SELECT, seen without reading it."""
    return statement[:6].upper() == "SELECT" and ";" not in statement


def verdict_of(statement: str, context: Any) -> Verdict:
    """What *statement*, about to be executed in *context*, reads or writes."""
    compiled = getattr(context, "compiled", None)
    clause = getattr(compiled, "statement", None)
    exact = _written_exactly(statement, clause)
    if exact is not None:
        return exact
    textual = clause is None or isinstance(_unwrapped(clause), (TextClause, TextualSelect))
    key = (statement, len(known_tables.names), cascades.known(), textual)
    verdict = _verdicts.get(key)
    if verdict is None:
        if clause is not None:
            for part in visitors.iterate(clause):
                if isinstance(part, Table):
                    _learn(part)
        verdict = _read(statement, textual)
        if len(statement) <= LONGEST:
            if len(_verdicts) >= MOST:
                _verdicts.clear()
            _verdicts[key] = verdict
    return verdict


def _unwrapped(clause: Any) -> Any:
    """What stands inside `select(...).from_statement(...)`."""
    return getattr(clause, "element", clause)


def _written_exactly(statement: str, clause: Any) -> Verdict | None:
    """The verdict for an INSERT, UPDATE or DELETE of a single table, which needs no reading."""
    if not isinstance(clause, UpdateBase) or statement[:4].upper() == "WITH":
        return None
    if not isinstance(clause.table, Table):
        return None
    head, _, _ = statement.partition(" SET ")
    if statement[:6].upper() == "UPDATE" and ("," in head or " JOIN " in head):
        return None  # MySQL's UPDATE of several tables
    _learn(clause.table)
    tables = frozenset({bare(clause.table)})
    target = _TARGET.search(statement)
    if target is None or _last_part(target.group(1)) not in tables:
        return None  # of a class with several tables, it may be about another one
    return Verdict(writes=True, tables=tables, reached=cascades.reached(tables, statement))


def _learn(table: Table) -> None:
    known_tables.learn([bare(table)])
    cascades.learn(table.metadata)


def _read(statement: str, textual: bool) -> Verdict:
    text, is_plain = _uncommented(statement)
    first = _WORD.match(text)
    verb = first.group().upper() if first is not None else ""
    tables = known_tables.within(text)
    # Of several statements the first says nothing about the others. What only looks like one, in
    # a comment or a literal, is taken for one.
    are_several = ";" in text.rstrip("; \t\r\n")
    may_write = are_several or not is_plain or verb not in _SELECTS
    writes = may_write and bool(_DML.search(_LOCKS.sub(" ", text)))
    if not writes and (verb in _SELECTS or verb == "WITH"):
        nested = are_several or len(_SELECT.findall(text)) > 1
        return Verdict(not _LOCKS.search(text), nested=nested, textual=textual, tables=tables)
    is_opaque = bool(_OPAQUE.match(text) or (verb == "EXPLAIN" and _RUNS.search(text)))
    commits = bool(_COMMITS.search(text) if are_several else _COMMITS.match(text))
    if not writes and not is_opaque and _HARMLESS.fullmatch(verb):
        begins = verb in _BEGINS and not are_several
        return Verdict(textual=textual, commits=commits, begins=begins, tables=tables)
    if is_opaque or not known_tables.names:
        tables = frozenset({EVERYTHING})
    tables |= {_last_part(target) for target in _TARGET.findall(_COMMENT.sub(" ", text))}
    tables |= {_last_part(target) for target in _TARGET.findall(text)}
    reached = cascades.reached(tables, text)
    return Verdict(writes=True, textual=textual, commits=commits, tables=tables, reached=reached)


def _uncommented(statement: str) -> tuple[str, bool]:
    """The statement from its first word on, and whether that is certain: databases do not agree
    whether comments nest."""
    text = statement.lstrip(_BEFORE)
    is_plain = True
    while comment := _COMMENT.match(text):
        is_plain = is_plain and "/*" not in comment.group()[2:]
        text = text[comment.end() :].lstrip(_BEFORE)
    return text, is_plain


def _last_part(target: str) -> str:
    return target.strip(". ").rpartition(".")[2].strip('"`[] ').lower()
